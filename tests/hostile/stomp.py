"""STOMP: frames and messages that take long because of their headers."""

import trio

from leveret.protocol.amqp import methods as m
from leveret.protocol.amqp.properties import Properties
from tests.hostile.scenario import Attack, Family
from tests.router.server.client import publish_frames

STOMP = Family("stomp")
scenario = STOMP.scenario
DONE = b"SEND\ndestination:/queue/done\nreceipt:done\n\n\0"


async def sent(stream: trio.SocketStream, frames: bytes) -> None:
    """Send frames in one write, and read until the broker has handled all of them."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stream.send_all, frames + DONE)
        await read_until(stream, b"receipt-id:done")


async def read_until(stream: trio.SocketStream, text: bytes, count: int = 1) -> None:
    """Read until a text has come so many times."""
    end = b""
    while count > 0:
        data = end + await stream.receive_some(65536)
        assert data != end, "the broker has closed the connection"
        count -= data.count(text)
        end = data[len(data) - len(text) + 1 :]


@scenario(short=1 / 20)
async def escaped_headers(attack: Attack) -> None:
    """1,000 STOMP messages with 128 KiB of escapes in their headers, to a subscriber."""
    stream = await attack.stomp()
    await sent(stream, b"SUBSCRIBE\nid:0\ndestination:/queue/q0\n\n\0")
    header = b"\\c" * 32_000
    frame = b"SEND\ndestination:/queue/q0\na:%b\nb:%b\n\n\0" % (header, header)
    await sent(stream, frame * attack.many(1000))


@scenario(short=1 / 20)
async def many_headers(attack: Attack) -> None:
    """1,000 STOMP messages with 990 headers each, to a subscriber and in transactions."""
    stream = await attack.stomp()
    await sent(stream, b"SUBSCRIBE\nid:0\ndestination:/queue/q0\n\n\0")
    headers = b"".join(b"h%d:%b\n" % (number, b"x" * 100) for number in range(990))
    count = attack.many(1000)
    await sent(stream, b"SEND\ndestination:/queue/q0\n%b\n\0" % headers * count)
    frame = b"SEND\ndestination:/queue/q1\ntransaction:t\n%b\n\0" % headers
    transaction = b"BEGIN\ntransaction:t\n\n\0%bCOMMIT\ntransaction:t\n\n\0" % (frame * 50)
    await sent(stream, transaction * (count // 50))


@scenario(short=1 / 20)
async def long_destinations(attack: Attack) -> None:
    """2,000 STOMP clients name a destination of 120 kB of percent escapes; another one 100,000 short ones."""
    for _ in range(attack.many(2000)):
        stream = await attack.stomp()
        await stream.send_all(b"SEND\ndestination:/queue/%b\n\n\0" % (b"%41" * 40_000))
        await read_until(stream, b"may have 255 bytes")
        await trio.aclose_forcefully(stream)
    stream = await attack.stomp()
    frames = [b"SEND\ndestination:/topic/%b%d\n\n\0" % (b"%41" * 80, n) for n in range(attack.many(100_000))]
    await sent(stream, b"".join(frames))


@scenario(short=1 / 20)
async def headers_for_subscribers(attack: Attack) -> None:
    """STOMP subscribers get 2,000 AMQP messages with 110 kB of headers: texts, numbers, escapes."""
    tables: list[dict[str, object]] = [
        {f"h{number}": "x" * 100 for number in range(1000)},
        {f"{number}": number / 7 for number in range(8000)},
        {f"{number:x}": True for number in range(16_000)},
        {f"{':' * 200}{number}": number for number in range(500)},
        {"h": ":\n\\" * 35_000},
    ]
    count = attack.many(400)
    for number, table in enumerate(tables):
        client = await attack.client()
        await client.call(m.QueueDeclare(f"q{number}", durable=True), m.QueueDeclareOk)
        await client.stream.send_all(
            publish_frames(f"q{number}", properties=Properties(headers=table)) * count
        )
        stream = await attack.stomp()
        await stream.send_all(b"SUBSCRIBE\nid:0\ndestination:/queue/q%d\n\n\0" % number)
        await read_until(stream, b"\nMESSAGE\n", count - 1)
        await trio.aclose_forcefully(stream)


@scenario()
async def receipts(attack: Attack) -> None:
    """Receipts for 50,000 STOMP messages at a time, in transactions and without one."""
    stream = await attack.stomp()
    count = attack.many(50_000)
    frames = [b"SEND\ndestination:/queue/q0\ntransaction:t\nreceipt:%d\n\n\0" % n for n in range(count)]
    for _ in range(4):
        await sent(stream, b"BEGIN\ntransaction:t\n\n\0%bCOMMIT\ntransaction:t\n\n\0" % b"".join(frames))
    persistent = b"SEND\ndestination:/queue/q0\npersistent:true\nreceipt:r\n\n\0"
    await sent(stream, persistent * count)
