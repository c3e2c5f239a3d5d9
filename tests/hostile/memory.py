"""Memory: what a client begins, holds or does not read must not grow without a bound."""

import json
import os
import zlib
from itertools import count

import trio

from leveret.protocol.amqp import methods as m
from leveret.protocol.amqp.codec import method_frame
from leveret.protocol.amqp.properties import Properties
from tests.hostile.scenario import (
    GUEST,
    Attack,
    Family,
    basic,
    call_all,
    declare,
    many_streams,
    publish_many,
    read_to_end,
    served,
)
from tests.router.server.client import Client, frame, publish_frames
from tests.router.server.web import open_page

MEMORY = Family("memory")
scenario = MEMORY.scenario
DEFLATE = "permessage-deflate"


async def send_while_read(stream: trio.abc.SendStream, pieces: "count[int]", data: bytes, most: int) -> None:
    """Send ``data`` up to ``most`` times, until the broker takes no more for a second or hangs up."""
    for number in pieces:
        with trio.move_on_after(1) as taken:
            try:
                await stream.send_all(data)
            except trio.BrokenResourceError:
                return
        if taken.cancelled_caught or number >= most:
            return


@scenario(short=1 / 10)
async def unfinished_requests(attack: Attack) -> None:
    """90 requests with bodies of 19 MB short of their last byte by a user without rights."""
    await attack.add_user("nobody", tags="")
    size = attack.many(19_000_000)
    head = f"PUT /api/queues/{attack.vhost}/q HTTP/1.1\r\nHost: localhost\r\nContent-Length: {size}\r\n"
    head += f"Authorization: {basic('nobody', 'nobody')}\r\n\r\n"
    async with many_streams(attack, "http", 90) as streams, trio.open_nursery() as nursery:
        for stream in streams:
            await stream.send_all(head.encode())
            nursery.start_soon(send_while_read, stream, count(), bytes(size - 1), 0)


@scenario(short=1 / 10, memory=500)
async def unfinished_requests_of_users(attack: Attack) -> None:
    """90 requests with bodies of 19 MB short of their last byte by a user who may send them."""
    size = attack.many(19_000_000)
    head = f"POST /api/definitions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {size}\r\n"
    head += f"Authorization: {GUEST}\r\n\r\n"
    async with many_streams(attack, "http", 90) as streams, trio.open_nursery() as nursery:
        for stream in streams:
            await stream.send_all(head.encode())
            nursery.start_soon(send_while_read, stream, count(), bytes(size - 1), 0)


@scenario(short=1 / 10, memory=600)
async def unfinished_bodies(attack: Attack) -> None:
    """Bodies of 16 MB are begun on 200 channels of a connection and end short of their last frame."""
    client = await attack.client(200)
    size = attack.many(16_000_000)
    header = b"\x00\x3c\x00\x00" + size.to_bytes(8, "big") + b"\x00\x00"
    pieces = [frame(3, 1, bytes(100_000))] * (size // 100_000)
    try:
        for channel in range(1, 201):
            begun = method_frame(channel, m.BasicPublish("", "q0")) + frame(2, channel, header)
            body = b"".join(pieces[:-1]).replace(b"\x03\x00\x01", b"\x03" + channel.to_bytes(2, "big"))
            await client.stream.send_all(begun + body)
    except trio.BrokenResourceError:
        pass
    await trio.aclose_forcefully(client.stream)


@scenario(short=1 / 10, memory=500)
async def unread_replies(attack: Attack) -> None:
    """100,000 direct replies of 10 kB to a client that asked and never reads."""
    asker = await attack.client()
    await declare(asker, 1, {})
    await asker.call(m.BasicConsume("amq.rabbitmq.reply-to", no_ack=True), m.BasicConsumeOk)
    await asker.stream.send_all(publish_frames("q0", properties=Properties(reply_to="amq.rabbitmq.reply-to")))
    worker = await attack.client()
    answer: object = m.BasicGetEmpty()
    while isinstance(answer, m.BasicGetEmpty):
        await worker.send(m.BasicGet("q0", True))
        answer = await worker.next()
    reply_to = answer.message.properties.reply_to  # type: ignore[attr-defined]
    await publish_many_in_pieces(worker, publish_frames(reply_to, bytes(10_000)), attack.many(100_000))
    await served(worker)
    await trio.aclose_forcefully(asker.stream)


async def publish_many_in_pieces(client: Client, frames: bytes, number: int) -> None:
    """As ``publish_many``, for larger messages."""
    for start in range(0, number, 20):
        await client.stream.send_all(frames * min(20, number - start))


@scenario(short=1 / 10)
async def endless_history(attack: Attack) -> None:
    """An x-recent-history exchange of 10^9 messages gets 100,000 of 1 kB, and 100 queues are bound."""
    client = await attack.client()
    arguments: dict[str, object] = {"x-recent-history-length": 10**9}
    await client.send(m.ExchangeDeclare("history", "x-recent-history", arguments=arguments))
    if not isinstance(await client.next(), m.ExchangeDeclareOk):
        return
    await publish_many(client, publish_frames("", bytes(1000), exchange="history"), attack.many(100_000))
    await declare(client, attack.many(100), {}, bind="history")


async def fill_with_backlog(attack: Attack, number: int) -> Client:
    """A queue of so many messages of 10 kB."""
    client = await attack.client()
    await declare(client, 1, {})
    await publish_many_in_pieces(client, publish_frames("q0", bytes(10_000)), number)
    await served(client)
    return client


@scenario(short=1 / 20, memory=600)
async def unread_amqp(attack: Attack) -> None:
    """100 consumers on connections that never read, with a backlog of 20,000 messages of 10 kB."""
    await fill_with_backlog(attack, attack.many(20_000))
    clients = [await attack.client() for _ in range(attack.many(100))]
    for client in clients:
        await client.send(m.BasicConsume("q0", no_ack=True))
    await trio.sleep(5 * attack.scale)
    for client in clients:
        await trio.aclose_forcefully(client.stream)


@scenario(short=1 / 20, memory=600)
async def unread_stomp(attack: Attack) -> None:
    """100 STOMP subscriptions that never read, with a backlog of 20,000 messages of 10 kB."""
    await fill_with_backlog(attack, attack.many(20_000))
    streams = [await attack.stomp() for _ in range(attack.many(100))]
    for stream in streams:
        await stream.send_all(b"SUBSCRIBE\nid:1\ndestination:/amq/queue/q0\nack:auto\n\n\0")
    await trio.sleep(5 * attack.scale)
    for stream in streams:
        await trio.aclose_forcefully(stream)


@scenario(short=1 / 20, memory=600)
async def unread_websockets(attack: Attack) -> None:
    """100 consumers over WebSocket that never read, with a backlog of 20,000 messages of 10 kB."""
    await fill_with_backlog(attack, attack.many(20_000))
    streams = [await attack.tcp("http") for _ in range(attack.many(100))]
    for stream in streams:
        client = await Client(await open_page(stream)).login(vhost=attack.vhost)
        await client.send(m.BasicConsume("q0", no_ack=True))
    await trio.sleep(5 * attack.scale)
    for stream in streams:
        await trio.aclose_forcefully(stream)


@scenario(short=1 / 20, memory=600)
async def unread_http(attack: Attack) -> None:
    """200 connections each ask for 200 lists of 2,000 queues and never read."""
    queues = [
        {"name": f"q{number}", "vhost": attack.vhost, "durable": False, "auto_delete": False, "arguments": {}}
        for number in range(attack.many(2000))
    ]
    await attack.ask("/api/definitions", "POST", {"queues": queues})
    request = f"GET /api/queues HTTP/1.1\r\nHost: localhost\r\nAuthorization: {GUEST}\r\n\r\n".encode()
    async with many_streams(attack, "http", attack.many(200)) as streams:
        for stream in streams:
            await stream.send_all(request * 200)
        await trio.sleep(5 * attack.scale)


@scenario(short=1 / 20, memory=500)
async def unread_confirms(attack: Attack) -> None:
    """A publisher sends 200,000 mandatory messages of 1 kB to nowhere and reads no return and no confirm."""
    client = await attack.client()
    await client.call(m.ConfirmSelect(), m.ConfirmSelectOk)
    one = publish_frames("nowhere", bytes(1000)).replace(
        method_frame(1, m.BasicPublish("", "nowhere")),
        method_frame(1, m.BasicPublish("", "nowhere", mandatory=True)),
    )
    await send_while_read(client.stream, count(), one * 100, attack.many(2000))
    await trio.aclose_forcefully(client.stream)


@scenario(short=1 / 20, memory=500)
async def channels(attack: Attack) -> None:
    """65,535 channels are opened on one connection, and the connection is lost."""
    most = attack.many(65_535)
    client = await Client(await attack.tcp("amqp")).login(vhost=attack.vhost, channel_max=65_535, channels=())
    for start in range(1, most + 1, 1000):
        numbers = range(start, min(most + 1, start + 1000))
        await client.stream.send_all(b"".join(method_frame(number, m.ChannelOpen()) for number in numbers))
        for _ in numbers:
            await client.expect(m.ChannelOpenOk)
    await client.stream.aclose()


def masked(data: bytes, first: int) -> bytes:
    """A WebSocket frame of a client, masked with zeros; ``first`` is its first byte."""
    size = len(data)
    if size < 126:
        length = bytes([0x80 | size])
    else:
        length = b"\xfe" + size.to_bytes(2) if size < 1 << 16 else b"\xff" + size.to_bytes(8)
    return bytes([first]) + length + bytes(4) + data


@scenario(short=1 / 10, memory=500)
async def deflate_bombs(attack: Attack) -> None:
    """20 compressed WebSocket messages of 300 kB that inflate to 300 MB."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    zeros = bytes(1_000_000)
    data = b"".join(packer.compress(zeros) for _ in range(attack.many(300)))
    bomb = masked(data + packer.flush(zlib.Z_SYNC_FLUSH)[:-4], 0xC2)
    for _ in range(attack.many(20)):
        stream = await attack.tcp("http")
        await open_page(stream, Sec_WebSocket_Extensions=DEFLATE)
        await send_while_read(stream, count(), bomb, 0)
        await read_to_end(stream)
        await stream.aclose()


@scenario(short=1 / 10, memory=500)
async def unfinished_websocket_messages(attack: Attack) -> None:
    """50 WebSocket connections begin messages of 30 MB that they never end, in fragments."""
    streams = [await attack.tcp("http") for _ in range(attack.many(50))]
    for stream in streams:
        await open_page(stream)
        await stream.send_all(masked(b"", 0x02))
        await send_while_read(stream, count(), masked(bytes(100_000), 0x00), 300)
    for stream in streams:
        await trio.aclose_forcefully(stream)


@scenario(short=1 / 10)
async def unfinished_stomp_frames(attack: Attack) -> None:
    """200 STOMP connections send headers without an end, and 20 more a body without one after the login."""
    async with many_streams(attack, "stomp", attack.many(200)) as streams:
        for stream in streams:
            await stream.send_all(b"CONNECT\n")
            await send_while_read(stream, count(), b"header:value\n" * 1000, 20)
    logged_in = [await attack.stomp() for _ in range(attack.many(20))]
    for stream in logged_in:
        await stream.send_all(b"SEND\ndestination:/queue/q0\n\n")
        await send_while_read(stream, count(), b"x" * 100_000, 300)
        await trio.aclose_forcefully(stream)


@scenario(short=1 / 10)
async def unfinished_heads(attack: Attack) -> None:
    """500 HTTP requests whose heads do not end, and 500 AMQP connections whose first frame says 2 GB."""
    async with many_streams(attack, "http", attack.many(500)) as streams:
        for stream in streams:
            await stream.send_all(b"GET / HTTP/1.1\r\n")
            await send_while_read(stream, count(), b"Header: value\r\n" * 100, 30)
    async with many_streams(attack, "amqp", attack.many(500)) as streams:
        for stream in streams:
            await stream.send_all(b"AMQP\x00\x00\x09\x01" + b"\x01\x00\x00\x7f\xff\xff\xff")
            await send_while_read(stream, count(), bytes(10_000), 100)


@scenario(short=1 / 20)
async def large_arguments(attack: Attack) -> None:
    """2,000 queues are declared with arguments of 60 kB each, and as many consumers."""
    client = await attack.client()
    arguments: dict[str, object] = {f"argument-{number}": "x" * 40 for number in range(1000)}
    for number in range(attack.many(2000)):
        await client.send(m.QueueDeclare(f"q{number}", arguments=arguments))
        if not isinstance(await client.next(), m.QueueDeclareOk):
            return
        await client.call(
            m.BasicConsume(f"q{number}", "c" * 200 + str(number), arguments=arguments), m.BasicConsumeOk
        )


@scenario(short=1 / 20, memory=750)  # 477 MiB are held by the consumer, and store.memory adds up to 128
async def unacknowledged_bodies(attack: Attack) -> None:
    """A consumer takes 500 messages of 1 MB and acknowledges none; the queue holds 500 more."""
    client = await attack.client()
    await declare(client, 1, {})
    await client.call(m.BasicQos(0, 500, False), m.BasicQosOk)
    publisher = await attack.client()
    content = publish_frames("q0", os.urandom(1_000_000))
    for _ in range(attack.many(1000)):
        await publisher.stream.send_all(content)
    await served(publisher)
    await client.send(m.BasicConsume("q0"))
    await client.next()
    for _ in range(min(500, attack.many(1000))):
        await client.next()


@scenario(short=1 / 50, memory=600)
async def backlog_of_headers(attack: Attack) -> None:
    """2,000 messages with header tables of 120 kB each wait in a queue."""
    client = await attack.client()
    await declare(client, 1, {})
    headers = {f"h{number}": "a text" for number in range(6000)}
    content = publish_frames("q0", properties=Properties(headers=headers))
    for _ in range(attack.many(2000)):
        await client.stream.send_all(content)
    assert await client.count("q0") == attack.many(2000)


@scenario(short=1 / 20, memory=600)
async def backlog_of_small_messages(attack: Attack) -> None:
    """1,000,000 messages of 100 bytes in 100 queues."""
    client = await attack.client()
    queues = 100
    await declare(client, queues, {})
    one = b"".join(publish_frames(f"q{number}", bytes(100)) for number in range(queues))
    for _ in range(attack.many(1_000_000) // queues):
        await client.stream.send_all(one)
    await served(client)


@scenario(short=1 / 20)
async def long_lists_of_objects(attack: Attack) -> None:
    """One connection holds 10,000 consumers with tags of 255 bytes on queues with names of 255 bytes."""
    client = await attack.client()
    names = [str(number).rjust(255, "n") for number in range(attack.many(10_000))]
    await call_all(client, [m.QueueDeclare(name, exclusive=True) for name in names])
    await call_all(client, [m.BasicConsume(name, name) for name in names])
    found = json.loads(await attack.ask(f"/api/consumers/{attack.vhost}"))
    assert len(found) == len(names)


@scenario(short=1 / 20, memory=500)
async def dead_letter_chain(attack: Attack) -> None:
    """5,000 messages of 1 kB are dead-lettered along a chain of 20 queues, each adding to the headers."""
    client = await attack.client()
    for number in range(20):
        arguments: dict[str, object] = {
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": f"q{number + 1}",
        }
        arguments["x-message-ttl"] = 1
        await client.call(m.QueueDeclare(f"q{number}", arguments=arguments), m.QueueDeclareOk)
    await client.call(m.QueueDeclare("q20"), m.QueueDeclareOk)
    total = attack.many(5000)
    await publish_many(client, publish_frames("q0", bytes(1000)), total)
    while await client.count("q20") < total:
        await attack.ask("/api/whoami")
