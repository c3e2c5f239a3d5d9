"""Storage: what the store does beside its clients when very much is on disk."""

from leveret.protocol.amqp import methods as m
from leveret.protocol.amqp.codec import method_frame
from leveret.protocol.amqp.properties import Properties
from tests.hostile.scenario import Attack, Family, call_all, publish_many, served
from tests.router.server.client import publish_frames

STORAGE = Family("storage")
scenario = STORAGE.scenario
PERSISTENT = Properties(delivery_mode=2)


async def durable(attack: Attack, count: int) -> list[str]:
    """Declare so many durable queues; return their names."""
    client = await attack.client()
    names = [f"d{number}" for number in range(count)]
    await call_all(client, [m.QueueDeclare(name, durable=True) for name in names])
    return names


@scenario(memory=900)
async def large_store(attack: Attack) -> None:
    """1,000,000 persistent messages in 20,000 durable queues, a third of which are then emptied."""
    names = await durable(attack, attack.many(20_000))
    client = await attack.client()
    for _ in range(50):
        frames = b"".join(publish_frames(name, bytes(100), properties=PERSISTENT) for name in names)
        await client.stream.send_all(frames)
    await served(client)
    await call_all(client, [m.QueuePurge(name) for name in names[::3]])
    await publish_many(client, publish_frames("d1", bytes(1000), properties=PERSISTENT), attack.many(100_000))
    await served(client)


@scenario(memory=900)
async def settled_here_and_there(attack: Attack) -> None:
    """Every second of 500,000 stored messages in 50 queues is acknowledged, so that files are compacted."""
    names = await durable(attack, 50)
    client = await attack.client()
    each = attack.many(500_000) // len(names)
    for name in names:
        await publish_many(client, publish_frames(name, bytes(500), properties=PERSISTENT), each)
    await served(client)
    for name in names:
        reader = await attack.client()
        await reader.call(m.BasicConsume(name, "c"), m.BasicConsumeOk)
        for _ in range(each):
            await reader.next()
        tags = range(2, each + 1, 2)
        await reader.stream.send_all(b"".join(method_frame(1, m.BasicAck(tag)) for tag in tags))
        await served(reader)
        await reader.stream.aclose()
    await publish_many(client, publish_frames("d1", bytes(1000), properties=PERSISTENT), attack.many(100_000))
    await served(client)


@scenario(memory=500)
async def stream_retention(attack: Attack) -> None:
    """300,000 messages for a stream that keeps 1 MB in segments of 100 kB."""
    client = await attack.client()
    arguments: dict[str, object] = {
        "x-queue-type": "stream",
        "x-max-length-bytes": 1_000_000,
        "x-stream-max-segment-size-bytes": 100_000,
    }
    await client.call(m.QueueDeclare("s", durable=True, arguments=arguments), m.QueueDeclareOk)
    await publish_many(client, publish_frames("s", bytes(500)), attack.many(300_000))
    await served(client)
