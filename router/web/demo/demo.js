// The demo: what is seen of a subscription. How to subscribe is in amqp.js and stomp.js, which the page shows as they are.

const SHOWN = 100; // messages on the page
const SECONDS = 60; // of the line

const $ = (selector) => document.querySelector(selector);
const form = $("#subscribe");
let subscription = null; // what amqp.js or stomp.js returned
let attempt = 0; // what belongs to an earlier one tells nothing more

// -- what arrives: gathered, and drawn once a frame, so that a flood costs the page little ---------------------------

let count = 0;
let fresh = [];
const perSecond = Array(SECONDS + 1).fill(0); // the last is the second that is not over yet

function show(key, body) {
  count += 1;
  perSecond[SECONDS] += 1;
  fresh.push([new Date(), key, body]);
  if (fresh.length === 1) requestAnimationFrame(draw);
  if (fresh.length > 2 * SHOWN) fresh.splice(1, fresh.length - SHOWN); // a page that is hidden draws no frames
}

function draw() {
  const list = $("#messages");
  list.prepend(...fresh.slice(-SHOWN).reverse().map(row));
  while (list.children.length > SHOWN) list.lastChild.remove();
  $("#count").textContent = count.toLocaleString("en");
  fresh = [];
}

function row([date, key, body]) {
  const item = document.createElement("li");
  const parts = [["time", "", clock(date)], ["span", "key", key], ["span", "body", body.slice(0, 2000)]];
  for (const [tag, name, text] of parts) {
    const part = item.appendChild(document.createElement(tag));
    part.className = name;
    part.textContent = text;
  }
  return item;
}

const clock = (date) => date.toTimeString().slice(0, 8) + "." + String(date.getMilliseconds()).padStart(3, "0");

setInterval(() => {
  $("#rate").textContent = perSecond[SECONDS].toLocaleString("en");
  perSecond.push(0);
  perSecond.shift();
  const over = perSecond.slice(0, SECONDS);
  const most = Math.max(1, ...over);
  $("#line").setAttribute("points", over.map((n, i) => `${(i * 120) / (SECONDS - 1)},${31 - (30 * n) / most}`).join(" "));
}, 1000);

// -- subscribing -----------------------------------------------------------------------------------------------------

function tell(text) {
  const state = $("#state");
  state.textContent = text;
  state.dataset.state = { subscribed: "subscribed", "not connected": "idle" }[text] ?? (/ing$/.test(text) ? "waiting" : "refused");
  $("#publish button").disabled = text !== "subscribed";
  $("#connect").textContent = subscription ? "Unsubscribe" : "Subscribe";
}

async function subscribe() {
  const { protocol, ...wanted } = Object.fromEntries(new FormData(form));
  const mine = ++attempt;
  const url = new URL(location.origin.replace("http", "ws"));
  if (protocol === "amqp") [url.username, url.password] = [wanted.user, wanted.password].map(encodeURIComponent);
  let subscribed = false;
  tell("connecting");
  const heard = (text) => {
    if (mine !== attempt) return;
    subscribed ||= text === "subscribed";
    if (text === "reconnecting" && !subscribed) return; // why it was refused is told by itself
    if (text.startsWith("refused") && !subscribed) stop(text);
    else tell(text);
  };
  const library = await import(`./${protocol}.js`).catch(() => {
    throw new Error("the client library did not come from cdn.jsdelivr.net");
  });
  const made = await library.subscribe({ ...wanted, url: url.href.replace(/\/$/, ""), show, tell: heard });
  if (mine === attempt) subscription = made;
  else made.stop(); // it was refused meanwhile, or nobody wants it any more
  tell($("#state").textContent);
}

function stop(text) {
  attempt += 1;
  subscription?.stop();
  subscription = null;
  tell(text);
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  if (subscription) stop("not connected");
  else subscribe().catch((error) => stop(`refused: ${error.message}`));
});

// Errors that the libraries do not hand over, as when a binding is refused.
window.addEventListener("unhandledrejection", (event) => stop(`refused: ${event.reason?.message ?? event.reason}`));

$("#publish").addEventListener("submit", (event) => {
  event.preventDefault();
  const { key, body } = Object.fromEntries(new FormData(event.target));
  subscription?.publish(key, body);
});

// -- the code --------------------------------------------------------------------------------------------------------

async function showCode() {
  const name = `${new FormData(form).get("protocol")}.js`;
  Object.assign($("#source"), { href: `/demo/${name}`, textContent: name });
  $("pre code").textContent = await (await fetch(`/demo/${name}`)).text();
}

form.addEventListener("change", (event) => event.target.name === "protocol" && showCode());
showCode();
