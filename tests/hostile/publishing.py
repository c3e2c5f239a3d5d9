"""Publishing: one write of a client becomes many messages in many queues."""

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
    publish_many,
    served,
)
from tests.router.server.client import frame, publish_frames

PUBLISHING = Family("publishing")
scenario = PUBLISHING.scenario
PERSISTENT = Properties(delivery_mode=2)


@scenario(short=1 / 20)
async def fanout(attack: Attack) -> None:
    """1,500 publishes in one write to a fanout exchange with 500 queues that have a length limit."""
    client = await attack.client()
    await declare(client, attack.many(500), {"x-max-length": 100}, bind="amq.fanout")
    await client.stream.send_all(publish_frames("", exchange="amq.fanout") * 1500)
    assert await client.count("q0") == 100


@scenario(memory=900, short=1 / 20)
async def plain_fanout(attack: Attack) -> None:
    """1,500 publishes in one write to a fanout exchange with 500 queues."""
    client = await attack.client()
    await declare(client, attack.many(500), {}, bind="amq.fanout")
    await client.stream.send_all(publish_frames("", exchange="amq.fanout") * 1500)
    assert await client.count("q0") == 1500


@scenario(memory=600)
async def wide_fanout(attack: Attack) -> None:
    """300 publishes in one write to a fanout exchange with 5,000 queues that have a length limit."""
    client = await attack.client()
    await declare(client, attack.many(5000), {"x-max-length": 10}, bind="amq.fanout")
    await client.stream.send_all(publish_frames("", exchange="amq.fanout") * 300)
    await client.count("q0")


@scenario()
async def many_consumers(attack: Attack) -> None:
    """80,000 messages for 40,000 consumers of one queue."""
    client = await attack.client()
    await declare(client, 1, {})
    count = attack.many(40_000)
    await call_all(client, [m.BasicConsume("q0", str(number), no_ack=True) for number in range(count)])
    publisher = await attack.client()  # a client that publishes more than it reads is not read any more
    await publish_many(publisher, publish_frames("q0"), 2 * count)
    for _ in range(2 * count):
        await client.next()


@scenario(memory=900)
async def commit(attack: Attack) -> None:
    """tx.commit of 120,000 messages, which is near the bound on the bytes of a transaction."""
    client = await attack.client()
    await declare(client, 1, {})
    count = attack.many(120_000)
    await client.call(m.TxSelect(), m.TxSelectOk)
    await publish_many(client, publish_frames("q0"), count)
    await client.call(m.TxCommit(), m.TxCommitOk)
    assert await client.count("q0") == count


@scenario(memory=900)
async def roll_back(attack: Attack) -> None:
    """tx.rollback of 120,000 messages, and a connection that is lost with as many."""
    client = await attack.client()
    await declare(client, 1, {})
    await client.call(m.TxSelect(), m.TxSelectOk)
    await publish_many(client, publish_frames("q0"), attack.many(120_000))
    await client.call(m.TxRollback(), m.TxRollbackOk)
    await publish_many(client, publish_frames("q0"), attack.many(120_000))
    await client.stream.aclose()
    assert await (await attack.client()).count("q0") == 0


@scenario()
async def reply_queues(attack: Attack) -> None:
    """40 channels of requests, each with a reply queue of its own: 20,000 declared, used and deleted."""
    channels = 40
    client = await attack.client(channels)
    for turn in range(attack.many(20_000) // channels):
        for channel in range(1, channels + 1):
            name = f"reply.{channel}.{turn}"
            declared = method_frame(channel, m.QueueDeclare(name, exclusive=True))
            gotten = method_frame(channel, m.BasicGet(name, True))
            deleted = method_frame(channel, m.QueueDelete(name))
            publish = publish_frames(name, channel=channel)
            await client.stream.send_all(declared + publish + gotten + deleted)
        for _ in range(3 * channels):
            await client.next()


@scenario()
async def carbon_copies(attack: Attack) -> None:
    """300 messages with 1,000 routing keys each in the header CC, for 1,000 queues."""
    client = await attack.client()
    await declare(client, attack.many(1000), {"x-max-length": 10})
    copies = [f"q{number}" for number in range(1000)]
    content = publish_frames("q0", properties=Properties(headers={"CC": copies}))
    for _ in range(attack.many(300)):
        await client.stream.send_all(content)
    await served(client)


@scenario()
async def returns(attack: Attack) -> None:
    """100,000 mandatory messages that no queue takes, all of them returned."""
    client = await attack.client()
    message = publish_frames("nowhere").replace(
        method_frame(1, m.BasicPublish("", "nowhere")),
        method_frame(1, m.BasicPublish("", "nowhere", mandatory=True)),
    )
    async with trio.open_nursery() as nursery:
        count = attack.many(100_000)
        nursery.start_soon(publish_many, client, message, count)
        for _ in range(count):
            await client.next()


@scenario()
async def alternate_exchanges(attack: Attack) -> None:
    """3,000 messages with keys of their own along a chain of 300 alternate exchanges."""
    client = await attack.client()
    count = attack.many(300)
    chain: list[m.Method] = [m.ExchangeDeclare(f"x{count}", "fanout")]
    for number in range(count):
        chain.append(m.ExchangeDeclare(f"x{number}", arguments={"alternate-exchange": f"x{number + 1}"}))
    await call_all(client, chain)
    await declare(client, 1, {"x-max-length": 10}, bind=f"x{count}")
    frames = [publish_frames(f"k{number}", exchange="x0") for number in range(attack.many(3000))]
    await client.stream.send_all(b"".join(frames))
    assert await client.count("q0") == min(10, len(frames))


@scenario()
async def rejected_publishes(attack: Attack) -> None:
    """200,000 confirmed publishes to a full queue that rejects them."""
    client = await attack.client()
    await client.call(m.ConfirmSelect(), m.ConfirmSelectOk)
    await declare(client, 1, {"x-max-length": 1, "x-overflow": "reject-publish"})
    count = attack.many(200_000)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(publish_many, client, publish_frames("q0"), count)
        settled = 0
        while settled < count:
            answer = await client.next()
            assert isinstance(answer, m.BasicAck | m.BasicNack)
            settled = answer.delivery_tag if answer.multiple else settled + 1


@scenario()
async def dropped_heads(attack: Attack) -> None:
    """200,000 messages for a queue of one message, which dead-letters all others to 20 queues."""
    client = await attack.client()
    await declare(client, 20, {"x-max-length": 10}, bind="amq.fanout")
    arguments: dict[str, object] = {"x-max-length": 1, "x-dead-letter-exchange": "amq.fanout"}
    await client.call(m.QueueDeclare("full", arguments=arguments), m.QueueDeclareOk)
    await publish_many(client, publish_frames("full"), attack.many(200_000))
    await served(client)


@scenario(memory=700)
async def large_bodies(attack: Attack) -> None:
    """20 bodies of 16 MiB to 10 queues with length limits."""
    client = await attack.client()
    await declare(client, 10, {"x-max-length": 2}, bind="amq.fanout")
    content = publish_frames("", bytes(1 << 24), exchange="amq.fanout")
    for _ in range(attack.many(20)):
        await client.stream.send_all(content)
    await served(client)


@scenario()
async def tiny_frames(attack: Attack) -> None:
    """A body of 1 MB in frames of one byte."""
    client = await attack.client()
    await declare(client, 1, {})
    size = attack.many(1_000_000)
    header = b"\x00\x3c\x00\x00" + size.to_bytes(8, "big") + b"\x00\x00"
    await client.stream.send_all(method_frame(1, m.BasicPublish("", "q0")) + frame(2, 1, header))
    for start in range(0, size, 10_000):
        await client.stream.send_all(frame(3, 1, b"x") * min(10_000, size - start))
    assert await client.count("q0") == 1


@scenario(short=1 / 20)
async def channels_that_publish(attack: Attack) -> None:
    """2,000 channels publish 50 messages each, taking turns message by message, in one write."""
    count = attack.many(2000)
    client = await attack.client(count)
    await declare(client, 1, {})
    frames = [publish_frames("q0", channel=number) for number in range(1, count + 1)]
    await client.stream.send_all(b"".join(frames) * 50)
    while await client.count("q0") < 50 * count:
        pass


@scenario(memory=600)
async def durable_fanout(attack: Attack) -> None:
    """200 confirmed persistent messages of 10 kB, each to 500 durable queues."""
    client = await attack.client()
    names = [f"d{number}" for number in range(attack.many(500))]
    await call_all(client, [m.QueueDeclare(name, durable=True) for name in names])
    await call_all(client, [m.QueueBind(name, "amq.fanout") for name in names])
    await client.call(m.ConfirmSelect(), m.ConfirmSelectOk)
    content = publish_frames("", bytes(10_000), exchange="amq.fanout", properties=PERSISTENT)
    await client.stream.send_all(content * 200)
    confirmed = 0
    while confirmed < 200:
        answer = await client.expect(m.BasicAck)
        confirmed = answer.delivery_tag if answer.multiple else confirmed + 1


@scenario(memory=500)
async def stream_publishes(attack: Attack) -> None:
    """300,000 messages for a stream that has 200 readers."""
    client = await attack.client()
    arguments: dict[str, object] = {"x-queue-type": "stream"}
    await client.call(m.QueueDeclare("s", durable=True, arguments=arguments), m.QueueDeclareOk)
    reader = await attack.client()
    await reader.call(m.BasicQos(0, 10, False), m.BasicQosOk)
    consume = [
        m.BasicConsume("s", str(number), arguments={"x-stream-offset": "first"}) for number in range(200)
    ]
    await call_all(reader, list(consume))
    await fill(client, "s", attack.many(300_000))


@scenario()
async def publishes_to_nowhere(attack: Attack) -> None:
    """10,000 publishes to a missing exchange, which close the channel each time."""
    client = await attack.client()
    mistake = publish_frames("", exchange="missing")
    again = method_frame(1, m.ChannelCloseOk()) + method_frame(1, m.ChannelOpen())
    for _ in range(attack.many(10_000)):
        await client.stream.send_all(mistake)
        await client.expect(m.ChannelClose)
        await client.stream.send_all(again)
        await client.expect(m.ChannelOpenOk)


@scenario()
async def dead_letters_that_multiply(attack: Attack) -> None:
    """200 messages expire in one of 8 queues that dead-letter into a fanout of all 8."""
    client = await attack.client()
    arguments: dict[str, object] = {"x-message-ttl": 10, "x-dead-letter-exchange": "amq.fanout"}
    await declare(client, 8, arguments, bind="amq.fanout")
    await client.stream.send_all(publish_frames("q0") * attack.many(200))
    await trio.sleep(5 * attack.scale)
    await served(client)
