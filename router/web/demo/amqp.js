import { AMQPSession } from "https://cdn.jsdelivr.net/npm/@cloudamqp/amqp-client@4.1.1/dist/amqp-websocket-client.mjs";

export async function subscribe({ url, vhost, exchange, key, show, tell }) {
  const session = await AMQPSession.connect(`${url}/ws/amqp`, { // the URL has user and password
    vhost,
    async onconnect(session) { // again after each reconnect
      const queue = await session.queue("", { exclusive: true });
      await queue.bind(exchange, key);
      await queue.subscribe({ prefetch: 100 }, (m) => show(m.routingKey, m.bodyString())); // acked after it
      tell("subscribed");
    },
    ondisconnect: () => tell("reconnecting"),
  });
  const target = await session.exchange(exchange, "topic", { passive: true });
  return { publish: (key, body) => target.publish(body, { routingKey: key }), stop: () => session.stop() };
}
