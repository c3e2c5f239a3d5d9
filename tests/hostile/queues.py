"""Queues: much that stands in queues, or many that consume from them, changes at once."""

import trio

from leveret.protocol.amqp import methods as m
from leveret.protocol.amqp.codec import method_frame
from leveret.protocol.amqp.properties import Properties
from tests.hostile.scenario import (
    Attack,
    Family,
    call_all,
    declare,
    fill,
    flood,
    held,
    publish_many,
    served,
)
from tests.router.server.client import publish_frames

QUEUES = Family("queues")
scenario = QUEUES.scenario


@scenario()
async def leaving_consumers(attack: Attack) -> None:
    """8,000 consumers of one queue, each with a priority of its own, leave."""
    client = await attack.client()
    await declare(client, 1, {})
    count = attack.many(8000)
    consume = [m.BasicConsume("q0", str(n), arguments={"x-priority": n}) for n in range(count)]
    await call_all(client, list(consume))
    await client.stream.aclose()
    other = await attack.client()
    while (await other.call(m.QueueDeclare("q0", passive=True), m.QueueDeclareOk)).consumer_count:
        pass


@scenario()
async def cancelled_consumers(attack: Attack) -> None:
    """40,000 consumers of one queue with single active consumer are cancelled in one write."""
    client = await attack.client()
    await declare(client, 1, {"x-single-active-consumer": True})
    count = attack.many(40_000)
    await call_all(client, [m.BasicConsume("q0", str(number)) for number in range(count)])
    await flood(client, [m.BasicCancel(str(number)) for number in range(count)])


@scenario()
async def consumers_of_a_deleted_queue(attack: Attack) -> None:
    """A queue with 20,000 consumers is deleted: each gets basic.cancel."""
    client = await attack.client()
    await declare(client, 1, {})
    count = attack.many(20_000)
    await call_all(client, [m.BasicConsume("q0", str(number)) for number in range(count)])
    other = await attack.client()
    await other.call(m.QueueDelete("q0"), m.QueueDeleteOk)
    for _ in range(count):
        await client.expect(m.BasicCancel)


@scenario(memory=1500)
async def requeue(attack: Attack) -> None:
    """basic.nack with requeue of 800,000 messages."""
    count = attack.many(800_000)
    client = await held(attack, count)
    await client.send(m.BasicNack(0, True, True))
    assert await client.count("q0") == count


@scenario(memory=1500)
async def recover(attack: Attack) -> None:
    """basic.recover of 500,000 messages."""
    count = attack.many(500_000)
    client = await held(attack, count)
    await client.call(m.BasicRecover(True), m.BasicRecoverOk)
    assert await client.count("q0") == count


@scenario(memory=1500)
async def acknowledge(attack: Attack) -> None:
    """basic.ack of 400,000 messages."""
    client = await held(attack, attack.many(400_000))
    await client.send(m.BasicAck(0, True))
    assert await client.count("q0") == 0


@scenario(memory=1500)
async def single_acknowledgements(attack: Attack) -> None:
    """400,000 messages are acknowledged one by one, the newest first, in one write."""
    count = attack.many(400_000)
    client = await held(attack, count)
    await client.stream.send_all(b"".join(method_frame(1, m.BasicAck(tag)) for tag in range(count, 0, -1)))
    assert await client.count("q0") == 0


@scenario(memory=1500)
async def lose(attack: Attack) -> None:
    """A connection that holds 400,000 messages is lost."""
    count = attack.many(400_000)
    client = await held(attack, count)
    await client.stream.aclose()
    other = await attack.client()
    while await other.count("q0") < count:
        pass


@scenario(memory=900)
async def shorten(attack: Attack) -> None:
    """A policy with max-length for a queue of 600,000 messages, which are dead-lettered."""
    client = await attack.client()
    await declare(client, 1, {"x-dead-letter-exchange": "amq.fanout"})
    await fill(client, "q0", attack.many(600_000))
    policy = {"pattern": "^q", "definition": {"max-length": 10}}
    await attack.ask(f"/api/policies/{attack.vhost}/p", "PUT", policy)
    while await client.count("q0") > 10:
        pass


@scenario(memory=900)
async def purge_and_delete(attack: Attack) -> None:
    """queue.purge and queue.delete of 400,000 messages each."""
    count = attack.many(400_000)
    client = await attack.client()
    await declare(client, 1, {})
    await fill(client, "q0", count)
    assert (await client.call(m.QueuePurge("q0"), m.QueuePurgeOk)).message_count == count
    await fill(client, "q0", count)
    assert (await client.call(m.QueueDelete("q0"), m.QueueDeleteOk)).message_count == count


@scenario()
async def gets(attack: Attack) -> None:
    """50,000 basic.get in one write, of an empty queue and of one with messages."""
    client = await attack.client()
    await declare(client, 1, {})
    count = attack.many(50_000)
    for there in (0, count):
        await publish_many(client, publish_frames("q0"), there)
        await flood(client, [m.BasicGet("q0", True)] * count)


@scenario(memory=900)
async def expiries(attack: Attack) -> None:
    """300,000 messages that expire after 1 to 499 ms and are dead-lettered."""
    client = await attack.client()
    await declare(client, 1, {}, bind="amq.fanout")
    arguments: dict[str, object] = {"x-dead-letter-exchange": "amq.fanout"}
    await client.call(m.QueueDeclare("ttl", arguments=arguments), m.QueueDeclareOk)
    frames = [publish_frames("ttl", properties=Properties(expiration=str(ttl))) for ttl in range(1, 500)]
    count = attack.many(300_000)
    for _ in range(0, count, len(frames)):
        await client.stream.send_all(b"".join(frames))
    while await client.count("q0") < count:
        pass


@scenario(memory=900)
async def expiries_at_once(attack: Attack) -> None:
    """300,000 messages with a time to live of 1 ms each behind one that lives longer."""
    client = await attack.client()
    await declare(client, 1, {})
    await client.publish("q0")
    await publish_many(
        client, publish_frames("q0", properties=Properties(expiration="1")), attack.many(300_000)
    )
    await served(client)
    while await client.count("q0") > 1:
        pass


@scenario(memory=900)
async def priorities(attack: Attack) -> None:
    """300,000 messages of 255 priorities in one queue, delivered and requeued."""
    client = await attack.client()
    await declare(client, 1, {"x-max-priority": 255})
    frames = [publish_frames("q0", properties=Properties(priority=priority)) for priority in range(256)]
    count = attack.many(300_000) // 256 * 256
    for _ in range(count // 256):
        await client.stream.send_all(b"".join(frames))
    await client.call(m.BasicConsume("q0", "c"), m.BasicConsumeOk)
    for _ in range(count):
        await client.next()
    await client.call(m.BasicCancel("c"), m.BasicCancelOk)
    await client.send(m.BasicNack(0, True, True))
    assert await client.count("q0") == count


@scenario()
async def redeliveries(attack: Attack) -> None:
    """A consumer requeues every delivery at once, 100,000 times."""
    client = await attack.client()
    await declare(client, 1, {})
    await fill(client, "q0", 100)
    await client.call(m.BasicQos(0, 100, False), m.BasicQosOk)
    await client.call(m.BasicConsume("q0", "c"), m.BasicConsumeOk)
    for _ in range(attack.many(100_000) // 100):
        for _ in range(100):
            await client.next()
        await client.send(m.BasicNack(0, True, True))


@scenario(short=1 / 20)
async def shared_prefetch_count(attack: Attack) -> None:
    """20,000 consumers with a priority each share a prefetch count of 100; 10,000 single acknowledgements."""
    client = await attack.client()
    await declare(client, 1, {})
    await client.call(m.BasicQos(0, 100, True), m.BasicQosOk)
    priorities = range(attack.many(20_000))
    await call_all(client, [m.BasicConsume("q0", arguments={"x-priority": each}) for each in priorities])
    count = attack.many(10_000)
    await publish_many(client, publish_frames("q0"), count)
    for first in range(0, count, 100):
        for _ in range(100):
            await client.next()
        await client.send(*(m.BasicAck(first + number, False) for number in range(1, 101)))


@scenario()
async def prefetch_changes(attack: Attack) -> None:
    """2,000 consumers on one channel, whose shared prefetch count changes 2,000 times."""
    client = await attack.client()
    await declare(client, 1, {})
    await fill(client, "q0", 10)
    await call_all(client, [m.BasicConsume("q0", str(number)) for number in range(attack.many(2000))])
    for _ in range(10):
        await client.next()
    changes = [m.BasicQos(0, number % 2 + 1, True) for number in range(attack.many(2000))]
    await flood(client, list(changes))


@scenario()
async def exclusive_queues(attack: Attack) -> None:
    """A connection with 20,000 exclusive queues, each with a message, is lost."""
    client = await attack.client()
    names = [f"e{number}" for number in range(attack.many(20_000))]
    await call_all(client, [m.QueueDeclare(name, exclusive=True) for name in names])
    await client.stream.send_all(b"".join(publish_frames(name) for name in names))
    await served(client)
    await client.stream.aclose()
    other = await attack.client()
    answer: object = None
    while not isinstance(answer, m.QueueDeclareOk):
        await other.send(m.QueueDeclare(names[-1]))
        if isinstance(answer := await other.next(), m.ChannelClose):
            await other.send(m.ChannelCloseOk(), m.ChannelOpen())
            await other.expect(m.ChannelOpenOk)


@scenario(memory=500)
async def stream_readers(attack: Attack) -> None:
    """2,000 consumers of a stream of 100,000 messages, each at an offset of its own."""
    client = await attack.client()
    arguments: dict[str, object] = {"x-queue-type": "stream"}
    await client.call(m.QueueDeclare("s", durable=True, arguments=arguments), m.QueueDeclareOk)
    count = attack.many(100_000)
    await fill(client, "s", count)
    reader = await attack.client()
    await reader.call(m.BasicQos(0, 5, False), m.BasicQosOk)
    readers = attack.many(2000)
    for number in range(readers):
        arguments = {"x-stream-offset": count * number // readers}
        await reader.send(m.BasicConsume("s", str(number), arguments=arguments))
    for _ in range(6 * readers):
        await reader.next()


@scenario(short=1 / 10)
async def stream_filters(attack: Attack) -> None:
    """3,000 messages with filter values of 100 kB for a stream, and 200 readers with long filters."""
    client, readers = await attack.client(), await attack.client()
    stream = m.QueueDeclare("s", durable=True, arguments={"x-queue-type": "stream"})
    await client.call(stream, m.QueueDeclareOk)
    for number in range(attack.many(3000)):
        headers = {"x-stream-filter-value": f"{number}" + "x" * 100_000}
        await client.stream.send_all(publish_frames("s", properties=Properties(headers=headers)))
    await served(client)
    await readers.call(m.BasicQos(0, 10, False), m.BasicQosOk)
    for wanted in ([f"{number}" for number in range(1000)], "x" * 100_000):
        arguments = {"x-stream-offset": "first", "x-stream-filter": wanted}
        count = attack.many(100)
        await call_all(readers, [m.BasicConsume("s", arguments=arguments) for _ in range(count)])
    await trio.sleep(5 * attack.scale)


@scenario()
async def declarations(attack: Attack) -> None:
    """100,000 declarations of a queue that is there, in one write."""
    client = await attack.client()
    await declare(client, 1, {})
    await flood(client, [m.QueueDeclare("q0")] * attack.many(100_000))


@scenario(memory=900)
async def long_transaction(attack: Attack) -> None:
    """A transaction acknowledges 300,000 messages and is rolled back, then committed."""
    count = attack.many(300_000)
    client = await held(attack, count)
    await client.call(m.TxSelect(), m.TxSelectOk)
    await client.send(m.BasicAck(0, True))
    await client.call(m.TxRollback(), m.TxRollbackOk)
    await client.send(m.BasicAck(0, True))
    await client.call(m.TxCommit(), m.TxCommitOk)
    assert await client.count("q0") == 0


@scenario()
async def shared_prefetch(attack: Attack) -> None:
    """500 acknowledgements on a channel whose prefetch count 2,000 consumers of as many queues share."""
    client = await attack.client()
    count = attack.many(2000)
    await declare(client, count, {})
    await client.stream.send_all(b"".join(publish_frames(f"q{number}") for number in range(count)))
    await client.call(m.BasicQos(0, 50, True), m.BasicQosOk)
    for number in range(count):
        await client.send(m.BasicConsume(f"q{number}", str(number), nowait=True))
    for tag in range(1, count // 4 + 1):
        await client.next()
        await client.send(m.BasicAck(tag, True))
