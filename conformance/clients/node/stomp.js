// Work through @stomp/stompjs over WebSocket, as a page does. `node --test stomp.js` with WS_URL set, and with BINARY=1
// where the broker sends binary messages; exits non-zero when an assertion fails. Node 20 has no WebSocket of its own, so
// `ws` stands in for a browser's.

"use strict";

const assert = require("node:assert/strict");
const { after, before, describe, it } = require("node:test");
globalThis.WebSocket ??= require("ws");
const { Client } = require("@stomp/stompjs");

const { WS_URL: brokerURL, BINARY: binary } = process.env;
const unique = (name) => `${name}-${process.pid}-${Math.random().toString(16).slice(2, 10)}`;
const clients = [];

/** A connected client. */
function connect(options) {
  return new Promise((resolve, reject) => {
    const client = new Client({
      brokerURL,
      connectHeaders: { login: "guest", passcode: "guest", host: "/" },
      heartbeatIncoming: 0,
      heartbeatOutgoing: 0,
      reconnectDelay: 0,
      ...options,
    });
    client.onConnect = () => resolve(client);
    client.onStompError = (frame) => reject(new Error(`${frame.headers.message}: ${frame.body}`));
    client.onWebSocketError = (event) => reject(new Error(`WebSocket: ${event.message}`));
    clients.push(client);
    client.activate();
  });
}

/** Call `send` with headers that ask for a receipt, and wait for that. */
function receipt(client, send) {
  const id = unique("receipt");
  return new Promise((resolve) => {
    client.watchForReceipt(id, resolve);
    send({ receipt: id });
  });
}

/** Subscribe, and be there once the broker has; `next()` is the next message. */
async function subscribe(client, destination, headers = {}) {
  const waiting = [];
  const arrived = [];
  const take = (message) => (waiting.length ? waiting.shift()(message) : arrived.push(message));
  await receipt(client, (asked) => client.subscribe(destination, take, { ...headers, ...asked }));
  return () => new Promise((resolve) => (arrived.length ? resolve(arrived.shift()) : waiting.push(resolve)));
}

after(() => Promise.all(clients.map((client) => client.deactivate())));

describe("a page", { timeout: 60_000 }, () => {
  let page;

  before(async () => {
    page = await connect();
  });

  it("speaks the newest version of the protocol", () => {
    assert.equal(page.connectedVersion, "1.2");
  });

  it("gets what matches its pattern of a topic exchange", async () => {
    const next = await subscribe(page, "/exchange/amq.topic/orders.*.created");
    for (const key of ["orders.eu.created", "orders.eu.deleted", "orders.us.created"])
      page.publish({ destination: `/topic/${key}`, body: key });
    assert.equal((await next()).body, "orders.eu.created");
    const message = await next();
    assert.equal(message.body, "orders.us.created");
    assert.equal(message.headers.destination, "/topic/orders.us.created");
  });

  it("acknowledges a thousand, fifty at a time", async () => {
    const queue = `/queue/${unique("acks")}`;
    const next = await subscribe(page, queue, { ack: "client-individual", "prefetch-count": "50", "auto-delete": "true", durable: "false" });
    for (let number = 0; number < 1000; number++) page.publish({ destination: queue, body: `${number}` });
    for (let number = 0; number < 1000; number++) {
      const message = await next();
      assert.equal(message.body, `${number}`);
      message.ack();
    }
  });

  it("gets a receipt for a persistent message, and the message with its headers", async () => {
    const queue = `/queue/${unique("receipts")}`;
    const headers = { persistent: "true", priority: "3", "content-type": "text/plain", colour: "blue:green\nred" };
    await receipt(page, (asked) => page.publish({ destination: queue, body: "kept", headers: { ...headers, ...asked } }));
    const next = await subscribe(page, queue, { ack: "auto" });
    const message = await next();
    assert.equal(message.body, "kept");
    for (const [name, value] of Object.entries(headers)) assert.equal(message.headers[name], value, name);
  });

  it("gets large bodies and all of Unicode whole", async () => {
    const queue = `/queue/${unique("large")}`;
    const body = "0123456789é𝄞\0".repeat(30_000);
    const next = await subscribe(page, queue);
    page.publish({ destination: queue, body });
    assert.equal((await next()).body, body);
  });

  it("gets any bytes where messages are binary", { skip: !binary }, async () => {
    const queue = `/queue/${unique("bytes")}`;
    const binaryBody = Uint8Array.from({ length: 512 }, (_, index) => index % 256);
    const next = await subscribe(page, queue);
    page.publish({ destination: queue, binaryBody });
    assert.deepEqual((await next()).binaryBody, binaryBody);
  });

  it("gets a message that it has refused again", async () => {
    const queue = `/queue/${unique("nack")}`;
    const next = await subscribe(page, queue, { ack: "client-individual" });
    page.publish({ destination: queue, body: "twice" });
    (await next()).nack();
    const again = await next();
    assert.equal(again.body, "twice");
    assert.equal(again.headers.redelivered, "true");
    again.ack();
  });

  it("sends all of a transaction, or nothing", async () => {
    const queue = `/queue/${unique("transaction")}`;
    const next = await subscribe(page, queue);
    for (const [body, end] of [["undone", "abort"], ["done", "commit"]]) {
      const transaction = page.begin();
      page.publish({ destination: queue, body, headers: { transaction: transaction.id } });
      transaction[end]();
    }
    assert.equal((await next()).body, "done");
  });

  it("is answered in a queue of its own", async () => {
    const service = await connect();
    const queue = `/queue/${unique("service")}`;
    const asked = await subscribe(service, queue);
    const answer = new Promise((resolve) => (page.onUnhandledMessage = resolve));
    page.publish({ destination: queue, body: "question", headers: { "reply-to": "/temp-queue/answers" } });
    service.publish({ destination: (await asked()).headers["reply-to"], body: "answer" });
    assert.equal((await answer).body, "answer");
  });
});

describe("a connection", { timeout: 60_000 }, () => {
  it("is refused with a wrong password", async () => {
    await assert.rejects(connect({ connectHeaders: { login: "guest", passcode: "wrong", host: "/" } }), /Access refused/);
  });

  it("is told why it ends", async () => {
    const client = await connect();
    const error = new Promise((resolve) => (client.onStompError = resolve));
    client.publish({ destination: "/nowhere/at/all", body: "lost" });
    assert.equal((await error).headers.message, "Unknown destination");
  });

  it("is kept by heart-beats both ways", async () => {
    const client = await connect({ heartbeatIncoming: 1000, heartbeatOutgoing: 1000 });
    await new Promise((resolve) => setTimeout(resolve, 3500)); // the client gives up after two seconds of silence
    assert.ok(client.connected);
  });

  it("may speak in binary messages", async () => {
    const client = await connect({ forceBinaryWSFrames: true });
    const queue = `/queue/${unique("binary")}`;
    const next = await subscribe(client, queue);
    client.publish({ destination: queue, body: "é" });
    assert.equal((await next()).body, "é");
  });
});
