// Work through amqplib, its promise and its callback API. `node --test work.js` with AMQP_URL set; exits non-zero
// when an assertion fails.

"use strict";

const assert = require("node:assert/strict");
const { once } = require("node:events");
const { after, before, beforeEach, afterEach, describe, it } = require("node:test");
const amqp = require("amqplib");
const callbacks = require("amqplib/callback_api");

const url = process.env.AMQP_URL;
const unique = (name) => `${name}-${process.pid}-${Math.random().toString(16).slice(2, 10)}`;
const numbers = (count) => Array.from({ length: count }, (_, number) => number);

/** Consumes `count` messages; the promise holds them. */
async function take(channel, queue, count, options = { noAck: true }) {
  const taken = [];
  let consumerTag;
  await new Promise((resolve, reject) => {
    channel
      .consume(
        queue,
        (message) => {
          if (message === null) return reject(new Error("the consumer was cancelled"));
          taken.push(message);
          if (taken.length === count) resolve();
        },
        options,
      )
      .then((reply) => {
        consumerTag = reply.consumerTag;
      }, reject);
  });
  await channel.cancel(consumerTag);
  return taken;
}

const bodies = (messages) => messages.map((message) => message.content.toString());

describe("the promise API", { timeout: 60_000 }, () => {
  let connection;
  let channel;
  let queue;

  before(async () => {
    connection = await amqp.connect(url);
  });
  after(() => connection.close());
  beforeEach(async () => {
    channel = await connection.createChannel();
    channel.on("error", () => {}); // the tests look at the rejected promises
    ({ queue } = await channel.assertQueue(unique("queue"), { exclusive: true }));
  });
  afterEach(async () => {
    await channel.close().catch((error) => assert.match(error.message, /closed/i));
  });

  it("delivers messages in order with their properties", async () => {
    const options = {
      contentType: "application/json",
      contentEncoding: "utf-8",
      headers: { text: "é", number: 1.5, big: 2 ** 40, flag: true, list: [1, "two"], table: { deep: null } },
      priority: 4,
      correlationId: "correlation",
      replyTo: "reply",
      messageId: "id",
      timestamp: 1_700_000_000,
      type: "type",
      userId: "guest",
      appId: "app",
      persistent: true,
    };
    for (const number of numbers(100)) channel.sendToQueue(queue, Buffer.from(`${number}`), options);
    const received = await take(channel, queue, 100);
    assert.deepEqual(bodies(received), numbers(100).map(String));
    const { properties, fields } = received[0];
    for (const name of ["contentType", "contentEncoding", "headers", "priority", "correlationId", "replyTo"])
      assert.deepEqual(properties[name], options[name], name);
    for (const name of ["messageId", "timestamp", "type", "userId", "appId"])
      assert.deepEqual(properties[name], options[name], name);
    assert.equal(properties.deliveryMode, 2);
    assert.equal(fields.redelivered, false);
    assert.equal(fields.routingKey, queue);
  });

  it("moves a message of 4 MiB", async () => {
    const content = Buffer.alloc(4 * 1024 * 1024, "0123456789");
    channel.sendToQueue(queue, content);
    const [message] = await take(channel, queue, 1);
    assert.ok(message.content.equals(content));
  });

  it("holds a consumer to its prefetch", async () => {
    for (const number of numbers(10)) channel.sendToQueue(queue, Buffer.from(`${number}`));
    await channel.prefetch(2);
    const held = [];
    let most = 0;
    await new Promise((resolve) => {
      channel.consume(queue, (message) => {
        held.push(message);
        most = Math.max(most, held.length);
        setTimeout(() => {
          channel.ack(held.shift());
          if (message.content.toString() === "9") resolve();
        }, 10);
      });
    });
    assert.equal(most, 2);
  });

  it("routes by a topic exchange", async () => {
    const exchange = unique("topic");
    await channel.assertExchange(exchange, "topic", { autoDelete: true, durable: false });
    await channel.bindQueue(queue, exchange, "*.error.#");
    for (const key of ["app.error", "app.info", "app.error.disk", "error", "db.error.a.b"])
      channel.publish(exchange, key, Buffer.from(key));
    assert.deepEqual(bodies(await take(channel, queue, 3)), ["app.error", "app.error.disk", "db.error.a.b"]);
  });

  it("routes by a headers exchange", async () => {
    const exchange = unique("headers");
    await channel.assertExchange(exchange, "headers", { autoDelete: true, durable: false });
    await channel.bindQueue(queue, exchange, "", { "x-match": "all", kind: "order", size: 2 });
    const send = (headers) => channel.publish(exchange, "", Buffer.from(JSON.stringify(headers)), { headers });
    send({ kind: "order", size: 3 });
    send({ kind: "order", size: 2, more: true });
    send({ kind: "order" });
    send({ kind: "order", size: 2 });
    const received = bodies(await take(channel, queue, 2)).map((text) => JSON.parse(text));
    assert.deepEqual(received, [
      { kind: "order", size: 2, more: true },
      { kind: "order", size: 2 },
    ]);
  });

  it("gets, nacks and gets again", async () => {
    assert.equal(await channel.get(queue), false);
    channel.sendToQueue(queue, Buffer.from("once"));
    let message = await channel.get(queue);
    channel.nack(message);
    message = await channel.get(queue);
    assert.equal(message.fields.redelivered, true);
    channel.ack(message);
    assert.equal(await channel.get(queue), false);
  });

  it("returns what is mandatory and not routed", async () => {
    const returned = once(channel, "return");
    channel.publish("", unique("nowhere"), Buffer.from("back"), { mandatory: true });
    const [message] = await returned;
    assert.equal(message.content.toString(), "back");
    assert.equal(message.fields.replyCode, 312);
    assert.equal(message.fields.replyText, "NO_ROUTE");
  });

  it("dead-letters what is rejected and what expires", async () => {
    const { queue: source } = await channel.assertQueue(unique("source"), {
      exclusive: true,
      deadLetterExchange: "",
      deadLetterRoutingKey: queue,
    });
    channel.sendToQueue(source, Buffer.from("rejected"));
    const [message] = await take(channel, source, 1, {});
    channel.reject(message, false);
    channel.sendToQueue(source, Buffer.from("expired"), { expiration: 10 });
    const dead = await take(channel, queue, 2);
    assert.deepEqual(bodies(dead), ["rejected", "expired"]);
    assert.deepEqual(
      dead.map(({ properties }) => properties.headers["x-death"][0].reason),
      ["rejected", "expired"],
    );
  });

  it("answers an RPC over direct reply-to", async () => {
    await channel.consume(
      queue,
      ({ content, properties }) =>
        channel.publish("", properties.replyTo, Buffer.from(`<${content}>`), { correlationId: properties.correlationId }),
      { noAck: true },
    );
    const caller = await connection.createChannel();
    const answered = new Promise((resolve) => {
      caller.consume("amq.rabbitmq.reply-to", resolve, { noAck: true });
    });
    caller.sendToQueue(queue, Buffer.from("ask"), { replyTo: "amq.rabbitmq.reply-to", correlationId: "7" });
    const answer = await answered;
    assert.equal(answer.content.toString(), "<ask>");
    assert.equal(answer.properties.correlationId, "7");
    await caller.close();
  });

  it("tells a consumer with null that its queue was deleted", async () => {
    const { queue: doomed } = await channel.assertQueue(unique("doomed"));
    const told = new Promise((resolve) => {
      channel.consume(doomed, resolve);
    });
    const other = await connection.createChannel();
    await other.deleteQueue(doomed);
    assert.equal(await told, null);
    await other.close();
  });

  it("closes only the channel on an error, and says why", async () => {
    const closed = new Promise((resolve) => {
      channel.on("close", resolve);
    });
    await assert.rejects(channel.checkQueue(unique("missing")), (error) => {
      assert.equal(error.code, 404);
      assert.match(error.message, /NOT_FOUND - no queue 'missing-.*' in vhost '\/'/);
      return true;
    });
    await closed;
    assert.throws(() => channel.sendToQueue(queue, Buffer.from("late")), amqp.IllegalOperationError);
    const next = await connection.createChannel();
    await next.checkQueue(queue);
    await next.close();
  });

  it("refuses to redeclare an exchange as another type", async () => {
    await assert.rejects(channel.assertExchange("amq.topic", "direct"), (error) => {
      assert.equal(error.code, 406);
      assert.match(error.message, /inequivalent arg 'type' for exchange 'amq.topic'/);
      return true;
    });
  });

  it("purges, counts and deletes", async () => {
    const publisher = await connection.createConfirmChannel();
    for (const number of numbers(5)) publisher.sendToQueue(queue, Buffer.from(`${number}`));
    await publisher.waitForConfirms(); // RabbitMQ may count before it enqueues what came before the question
    await publisher.close();
    assert.equal((await channel.checkQueue(queue)).messageCount, 5);
    assert.equal((await channel.purgeQueue(queue)).messageCount, 5);
    assert.equal((await channel.deleteQueue(queue)).messageCount, 0);
  });

  it("recovers unacknowledged messages", async () => {
    channel.sendToQueue(queue, Buffer.from("again"));
    await channel.get(queue);
    await channel.recover();
    const message = await channel.get(queue, { noAck: true });
    assert.equal(message.fields.redelivered, true);
  });
});

describe("a confirm channel", { timeout: 60_000 }, () => {
  let connection;

  before(async () => {
    connection = await amqp.connect(url);
  });
  after(() => connection.close());

  it("confirms a thousand publishes", async () => {
    const channel = await connection.createConfirmChannel();
    const { queue } = await channel.assertQueue("", { exclusive: true });
    let confirmed = 0;
    for (const number of numbers(1000))
      channel.sendToQueue(queue, Buffer.from(`${number}`), { persistent: true }, (error) => {
        assert.equal(error, null);
        confirmed += 1;
      });
    await channel.waitForConfirms();
    assert.equal(confirmed, 1000);
    assert.equal((await channel.checkQueue(queue)).messageCount, 1000);
    await channel.close();
  });

  it("nacks what a full queue rejects", async () => {
    const channel = await connection.createConfirmChannel();
    const { queue } = await channel.assertQueue("", {
      exclusive: true,
      maxLength: 1,
      arguments: { "x-overflow": "reject-publish" },
    });
    const publish = () =>
      new Promise((resolve) => {
        channel.sendToQueue(queue, Buffer.from("x"), {}, (error) => resolve(error === null));
      });
    assert.equal(await publish(), true);
    assert.equal(await publish(), false);
    await channel.close();
  });
});

describe("a connection", { timeout: 60_000 }, () => {
  it("is refused with a wrong password", async () => {
    const wrong = new URL(url);
    wrong.password = "wrong";
    await assert.rejects(amqp.connect(wrong.href), /ACCESS.REFUSED/i);
  });

  it("negotiates small frames", async () => {
    const connection = await amqp.connect(`${url}?frameMax=4096&heartbeat=2&channelMax=3`);
    const channel = await connection.createChannel();
    const { queue } = await channel.assertQueue("", { exclusive: true });
    const content = Buffer.alloc(100_000, "abc");
    channel.sendToQueue(queue, content);
    const [message] = await take(channel, queue, 1);
    assert.ok(message.content.equals(content));
    await connection.close();
  });

  it("renews its secret", async () => {
    const connection = await amqp.connect(url);
    await connection.updateSecret(Buffer.from(decodeURIComponent(new URL(url).password)), "renewed");
    await connection.close();
  });
});

describe("the callback API", { timeout: 60_000 }, () => {
  it("publishes, consumes, acknowledges and closes", (_, done) => {
    callbacks.connect(url, (failure, connection) => {
      assert.ifError(failure);
      connection.createChannel((error, channel) => {
        assert.ifError(error);
        channel.assertQueue("", { exclusive: true }, (refused, { queue }) => {
          assert.ifError(refused);
          const received = [];
          channel.prefetch(5);
          channel.consume(queue, (message) => {
            received.push(message.content.toString());
            channel.ack(message);
            if (received.length < 50) return;
            assert.deepEqual(received, numbers(50).map(String));
            channel.close(() => connection.close(done));
          });
          for (const number of numbers(50)) channel.sendToQueue(queue, Buffer.from(`${number}`));
        });
      });
    });
  });

  it("emits an error on the channel that the broker closed", (_, done) => {
    callbacks.connect(url, (failure, connection) => {
      assert.ifError(failure);
      connection.createChannel((error, channel) => {
        assert.ifError(error);
        channel.on("error", (closed) => {
          assert.equal(closed.code, 404);
          connection.close(done);
        });
        channel.publish(unique("missing"), "", Buffer.from("x"));
      });
    });
  });

  it("confirms publishes one by one", (_, done) => {
    callbacks.connect(url, (failure, connection) => {
      assert.ifError(failure);
      connection.createConfirmChannel((error, channel) => {
        assert.ifError(error);
        channel.publish("amq.fanout", "", Buffer.from("nobody listens"), {}, (nacked) => {
          assert.ifError(nacked);
          connection.close(done);
        });
      });
    });
  });
});
