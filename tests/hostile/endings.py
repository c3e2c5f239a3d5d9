"""Endings: something ends on which very many others depend."""

import trio

from leveret.protocol.amqp import methods as m
from leveret.protocol.amqp.codec import method_frame
from tests.hostile.scenario import Attack, Family, call_all, declare, publish_many
from tests.router.server.client import Client, publish_frames

ENDINGS = Family("endings")
scenario = ENDINGS.scenario


async def vanished(attack: Attack, queue: str = "q0") -> None:
    """Wait until the queue has no consumers."""
    other = await attack.client()
    while (await other.call(m.QueueDeclare(queue, passive=True), m.QueueDeclareOk)).consumer_count:
        pass


@scenario()
async def lost_consumers(attack: Attack) -> None:
    """A connection with 100,000 consumers of one queue is lost."""
    client = await attack.client()
    await declare(client, 1, {})
    await call_all(client, [m.BasicConsume("q0", str(n)) for n in range(attack.many(100_000))])
    await client.stream.aclose()
    await vanished(attack)


@scenario(short=1 / 20)
async def lost_channels(attack: Attack) -> None:
    """A connection with 20,000 channels is lost, each with a consumer and a message that it holds."""
    count = attack.many(20_000)
    client = await Client(await attack.tcp("amqp")).login(vhost=attack.vhost, channel_max=65535)
    await declare(client, 1, {})
    consume = m.BasicConsume("q0", nowait=True)
    for first in range(2, count, 500):
        channels = range(first, first + 500)
        opened = [method_frame(n, m.ChannelOpen()) + method_frame(n, consume) for n in channels]
        await client.stream.send_all(b"".join(opened))
        for _ in channels:
            await client.expect(m.ChannelOpenOk)
    await publish_many(client, publish_frames("q0"), count)
    for _ in range(count):
        await client.next()
    await client.stream.aclose()
    await vanished(attack)


@scenario()
async def lost_subscriptions(attack: Attack) -> None:
    """A STOMP connection with 20,000 subscriptions is lost."""
    stream = await attack.stomp()
    count = attack.many(20_000)
    frames = [f"SUBSCRIBE\nid:{n}\ndestination:/queue/q0\nack:client\n\n\0" for n in range(count)]
    receipt = "SUBSCRIBE\nid:last\ndestination:/queue/q0\nack:client\nreceipt:done\n\n\0"
    await stream.send_all("".join([*frames, receipt]).encode())
    data = b""
    while b"receipt-id:done" not in data:
        data = data[-100:] + await stream.receive_some()
    await trio.aclose_forcefully(stream)
    await vanished(attack)


@scenario()
async def deleted_queue(attack: Attack) -> None:
    """A queue with 100,000 consumers is deleted."""
    client = await attack.client()
    await declare(client, 1, {})
    count = attack.many(100_000)
    await call_all(client, [m.BasicConsume("q0", str(number)) for number in range(count)])
    other = await attack.client()
    await other.call(m.QueueDelete("q0"), m.QueueDeleteOk)
    for _ in range(count):
        await client.expect(m.BasicCancel)


@scenario()
async def deleted_stream(attack: Attack) -> None:
    """A stream with 20,000 readers gets messages and is deleted."""
    client = await attack.client()
    arguments: dict[str, object] = {"x-queue-type": "stream"}
    await client.call(m.QueueDeclare("s", durable=True, arguments=arguments), m.QueueDeclareOk)
    await client.call(m.BasicQos(0, 5, False), m.BasicQosOk)
    count = attack.many(20_000)
    await call_all(client, [m.BasicConsume("s", str(number)) for number in range(count)])
    other = await attack.client()
    await other.stream.send_all(publish_frames("s") * 5)
    for _ in range(5 * count):
        await client.next()
    await other.call(m.QueueDelete("s"), m.QueueDeleteOk)
    for _ in range(count):
        await client.expect(m.BasicCancel)
