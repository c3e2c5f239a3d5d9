// Work through @cloudamqp/amqp-client over WebSocket, as a page does. `node --test web.js` with WS_URL and AMQP_URL
// set; exits non-zero when an assertion fails. Node 20 has no WebSocket of its own, so `ws` stands in for a browser's.

"use strict";

const assert = require("node:assert/strict");
const { after, before, describe, it } = require("node:test");
globalThis.WebSocket ??= require("ws");
const { AMQPClient, AMQPWebSocketClient } = require("@cloudamqp/amqp-client");

const { WS_URL: url, AMQP_URL: amqpUrl } = process.env;
const unique = (name) => `${name}-${process.pid}-${Math.random().toString(16).slice(2, 10)}`;
const connect = (options) => new AMQPWebSocketClient({ url, username: "guest", password: "guest", ...options }).connect();

/** The bodies of the next `count` messages of a queue. */
function take(channel, queue, count, { noAck = true } = {}) {
  return new Promise((resolve, reject) => {
    const bodies = [];
    channel
      .basicConsume(queue, { noAck }, (message) => {
        bodies.push(message.bodyString());
        if (!noAck) message.ack();
        if (bodies.length === count) resolve(bodies);
      })
      .catch(reject);
  });
}

/** The name of a queue of its own. */
const declare = async (channel) => (await channel.queueDeclare("", { exclusive: true })).name;

describe("a page", { timeout: 60_000 }, () => {
  let page;
  let channel;

  before(async () => {
    page = await connect();
    channel = await page.channel();
  });
  after(() => page.close());

  it("gets what a server publishes to a topic exchange", async () => {
    const queue = await declare(channel);
    await channel.queueBind(queue, "amq.topic", "orders.*.created");
    const received = take(channel, queue, 2);
    const server = await new AMQPClient(amqpUrl).connect();
    const publisher = await server.channel();
    for (const key of ["orders.eu.created", "orders.eu.deleted", "orders.us.created"])
      await publisher.basicPublish("amq.topic", key, key);
    assert.deepEqual(await received, ["orders.eu.created", "orders.us.created"]);
    await server.close();
  });

  it("publishes with confirms and acknowledges a thousand", async () => {
    const other = await page.channel();
    await other.confirmSelect();
    await other.basicQos(50);
    const queue = await declare(other);
    const numbers = Array.from({ length: 1000 }, (_, number) => `${number}`);
    const received = take(other, queue, 1000, { noAck: false });
    await Promise.all(numbers.map((number) => other.basicPublish("", queue, number)));
    assert.deepEqual(await received, numbers);
    await other.close();
  });

  it("gets large bodies whole", async () => {
    const queue = await declare(channel);
    const body = "0123456789".repeat(100_000);
    await channel.basicPublish("", queue, body);
    const message = await channel.basicGet(queue, { noAck: true });
    assert.equal(message.bodyString(), body);
  });

  it("is told why a channel was closed", async () => {
    const other = await page.channel();
    await assert.rejects(other.queueDeclare(unique("missing"), { passive: true }), /NOT_FOUND/);
  });
});

describe("a connection", { timeout: 60_000 }, () => {
  it("is refused with a wrong password", async () => {
    await assert.rejects(connect({ password: "wrong" }));
  });

  it("is refused to pages of another origin", async () => {
    const socket = new (require("ws"))(url, "amqp", { origin: "https://evil.example" });
    const status = await new Promise((resolve) => {
      socket.on("unexpected-response", (request, response) => {
        resolve(response.statusCode);
        request.destroy();
      });
      socket.on("error", () => {});
    });
    assert.equal(status, 403);
  });
});
