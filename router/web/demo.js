// The demo: subscribe to a topic exchange, and again after each reconnect.

import { AMQPSession } from "https://cdn.jsdelivr.net/npm/@cloudamqp/amqp-client@4.1.1/dist/amqp-websocket-client.mjs";

const form = document.querySelector("form");
const state = document.querySelector("#state");
const messages = document.querySelector("#messages");

function show(message) {
  const item = document.createElement("li");
  item.textContent = `${message.routingKey}: ${message.bodyString()}`;
  messages.prepend(item);
  while (messages.children.length > 100) messages.lastChild.remove();
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const { user, password, key } = Object.fromEntries(new FormData(form));
  const url = new URL("/ws/amqp", location.href);
  url.protocol = url.protocol.replace("http", "ws");
  url.username = encodeURIComponent(user);
  url.password = encodeURIComponent(password);
  state.textContent = "connecting";
  try {
    await AMQPSession.connect(url.href, {
      async onconnect(session) {
        const queue = await session.queue("", { exclusive: true });
        await queue.bind("amq.topic", key);
        await queue.subscribe({ noAck: true }, show);
        state.textContent = "subscribed";
      },
      ondisconnect() {
        state.textContent = "disconnected; trying again";
      },
    });
  } catch (error) {
    state.textContent = error.message;
  }
});
