"""The inputs. Each is a function of an ``Attack``; its first line says what it does at full size."""

import json

from leveret.protocol.amqp import methods as m
from leveret.protocol.amqp.codec import method_frame
from tests.hostile.harness import Attack, Scenario
from tests.router.server.client import Client, publish_frames


async def send_all(client: Client, *methods: m.Method, answers: int = 0) -> None:
    """Send many methods at once and read that many answers."""
    await client.send(*methods)
    for _ in range(answers):
        await client.next()


async def declare(client: Client, count: int, arguments: dict[str, object], *, bind: str = "") -> None:
    """Declare queues q0, q1, ..."""
    for start in range(0, count, 500):
        names = [f"q{number}" for number in range(start, min(count, start + 500))]
        made = [m.QueueDeclare(name, arguments=arguments) for name in names]
        await send_all(client, *made, answers=len(made))
        if bind:
            bound = [m.QueueBind(name, bind) for name in names]
            await send_all(client, *bound, answers=len(bound))


async def fill(client: Client, queue: str, count: int) -> None:
    """Publish many small messages and wait until all are there."""
    piece = publish_frames(queue) * 1000
    for start in range(0, count, 1000):
        await client.stream.send_all(
            piece if count - start >= 1000 else publish_frames(queue) * (count - start)
        )
    while await client.count(queue) < count:
        pass


async def fanout(attack: Attack) -> None:
    """1,500 publishes in one write to a fanout exchange with 500 queues that have a length limit."""
    client = await attack.client()
    await declare(client, attack.many(500), {"x-max-length": 100}, bind="amq.fanout")
    await client.stream.send_all(publish_frames("", exchange="amq.fanout") * 1500)
    await client.count("q0")


async def wide_fanout(attack: Attack) -> None:
    """100 publishes in one write to a fanout exchange with 5,000 queues."""
    client = await attack.client()
    await declare(client, attack.many(5000), {}, bind="amq.fanout")
    await client.stream.send_all(publish_frames("", exchange="amq.fanout") * 100)
    assert await client.count("q0") == 100


async def leaving_consumers(attack: Attack) -> None:
    """8,000 consumers of one queue, each with a priority of its own, leave."""
    client = await attack.client()
    await declare(client, 1, {})
    count = attack.many(8000)
    for start in range(0, count, 500):
        made = [
            m.BasicConsume("q0", str(number), arguments={"x-priority": number})
            for number in range(start, min(count, start + 500))
        ]
        await send_all(client, *made, answers=len(made))
    await client.stream.aclose()
    other = await attack.client()
    while (await other.call(m.QueueDeclare("q0", passive=True), m.QueueDeclareOk)).consumer_count:
        pass


async def many_consumers(attack: Attack) -> None:
    """Messages for 20,000 consumers of one queue."""
    client = await attack.client()
    await declare(client, 1, {})
    count = attack.many(20_000)
    for start in range(0, count, 500):
        made = [m.BasicConsume("q0", str(n), no_ack=True) for n in range(start, min(count, start + 500))]
        await send_all(client, *made, answers=len(made))
    publisher = await attack.client()  # who publishes more than it reads would be read from no longer itself
    await publisher.stream.send_all(publish_frames("q0") * (2 * count))
    for _ in range(2 * count):
        await client.next()


async def held(attack: Attack, count: int) -> Client:
    """A client that holds so many messages of q0."""
    client = await attack.client()
    await declare(client, 1, {})
    await fill(client, "q0", count)
    await client.call(m.BasicConsume("q0", "c"), m.BasicConsumeOk)
    for _ in range(count):
        await client.next()
    await client.call(m.BasicCancel("c"), m.BasicCancelOk)
    return client


async def requeue(attack: Attack) -> None:
    """basic.nack with requeue of 400,000 messages."""
    count = attack.many(400_000)
    client = await held(attack, count)
    await client.send(m.BasicNack(0, True, True))
    assert await client.count("q0") == count


async def acknowledge(attack: Attack) -> None:
    """basic.ack of 400,000 messages."""
    client = await held(attack, attack.many(400_000))
    await client.send(m.BasicAck(0, True))
    assert await client.count("q0") == 0


async def lose(attack: Attack) -> None:
    """A connection that holds 400,000 messages is lost."""
    count = attack.many(400_000)
    client = await held(attack, count)
    await client.stream.aclose()
    other = await attack.client()
    while await other.count("q0") < count:
        pass


async def shorten(attack: Attack) -> None:
    """A policy with max-length for a queue of 400,000 messages."""
    client = await attack.client()
    await declare(client, 1, {})
    await fill(client, "q0", attack.many(400_000))
    policy = {"pattern": "^q", "definition": {"max-length": 10}}
    await attack.ask("/api/policies/%2F/p", "PUT", json.dumps(policy).encode())
    while await client.count("q0") > 10:
        pass


async def purge_and_delete(attack: Attack) -> None:
    """queue.purge and queue.delete of 400,000 messages each."""
    count = attack.many(400_000)
    client = await attack.client()
    await declare(client, 1, {})
    await fill(client, "q0", count)
    assert (await client.call(m.QueuePurge("q0"), m.QueuePurgeOk)).message_count == count
    await fill(client, "q0", count)
    assert (await client.call(m.QueueDelete("q0"), m.QueueDeleteOk)).message_count == count


async def commit(attack: Attack) -> None:
    """tx.commit of 300,000 messages."""
    client = await attack.client()
    await declare(client, 1, {})
    count = attack.many(300_000)
    await client.call(m.TxSelect(), m.TxSelectOk)
    for _ in range(0, count, 1000):
        await client.stream.send_all(publish_frames("q0") * 1000)
    await client.call(m.TxCommit(), m.TxCommitOk)
    assert await client.count("q0") >= count


async def policies(attack: Attack) -> None:
    """A policy for 20,000 queues, which then expire all at once."""
    client = await attack.client()
    count = attack.many(20_000)
    await declare(client, count, {})
    policy = {"pattern": "^q", "definition": {"expires": 500}}
    await attack.ask("/api/policies/%2F/p", "PUT", json.dumps(policy).encode())
    while True:
        answer = await client.call(m.QueueDeclare(f"q{count}"), m.QueueDeclareOk)
        assert answer.message_count == 0
        if await attack.metric("rabbitmq_queues") < count / 2:
            return


async def delete_vhost(attack: Attack) -> None:
    """A virtual host with 20,000 queues is deleted."""
    client = await attack.client()
    other = {"vhost": "other", "durable": False, "auto_delete": False, "arguments": {}}
    queues = [{"name": f"q{number}", **other} for number in range(attack.many(20_000))]
    document = {"vhosts": [{"name": "other"}], "queues": queues}
    await attack.ask("/api/definitions", "POST", json.dumps(document).encode())
    await attack.ask("/api/vhosts/other", "DELETE")
    await client.close()


async def body(attack: Attack) -> None:
    """A JSON body of 10 MB for the API."""
    values = {f"key{number}": ["text", number, {"a": None}] for number in range(attack.many(250_000))}
    message = {
        "properties": {"headers": {"h": values}},
        "routing_key": "q0",
        "payload": "",
        "payload_encoding": "string",
    }
    path = "/api/exchanges/%2F/amq.default/publish"
    await attack.ask(path, "POST", json.dumps(message).encode(), refused=True)


async def methods_behind(attack: Attack) -> None:
    """50,000 small commands in one write."""
    client = await attack.client()
    await declare(client, 1, {})
    count = attack.many(50_000)
    await client.stream.send_all(method_frame(1, m.BasicGet("q0", True)) * count)
    for _ in range(count):
        await client.next()


SCENARIOS: tuple[Scenario, ...] = (
    fanout,
    wide_fanout,
    leaving_consumers,
    many_consumers,
    requeue,
    acknowledge,
    lose,
    shorten,
    purge_and_delete,
    commit,
    policies,
    delete_vhost,
    body,
    methods_behind,
)
