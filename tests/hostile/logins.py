"""Logins and places: connections that come, do not speak, speak slowly, or give wrong passwords."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import trio

from leveret.protocol.amqp import methods as m
from leveret.protocol.amqp.codec import method_frame
from leveret.protocol.amqp.constants import PROTOCOL_HEADER
from leveret.protocol.amqp.encode import HEARTBEAT
from tests.hostile.scenario import Attack, Family, basic, many_streams, read_to_end
from tests.router.server.client import Client, frame, start_ok
from tests.router.server.web import open_page

LOGINS = Family("logins")
scenario = LOGINS.scenario
CLIENT_HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"  # the first bytes of 517


async def wrong_login(attack: Attack, user: str, password: str) -> None:
    """Log in with AMQP and wait for the verdict, if one comes."""
    client = Client(await attack.tcp("amqp"))
    try:
        await client.stream.send_all(PROTOCOL_HEADER)
        await client.expect(m.ConnectionStart)
        await client.send(start_ok(user, password), channel=0)
        await read_to_end(client.stream)
    finally:
        await trio.aclose_forcefully(client.stream)


@scenario(short=1 / 10)
async def suspended_broker(attack: Attack) -> None:
    """The broker is stopped for 30 s (SIGSTOP) while clients send heartbeats and one logs in."""
    heartbeat, seconds = (5, 30) if attack.full else (1, 3)
    client = await attack.client(heartbeat=heartbeat)
    other = await attack.stomp()
    shaking = Client(await attack.tcp("amqp"))
    await shaking.stream.send_all(PROTOCOL_HEADER)
    await shaking.expect(m.ConnectionStart)
    sending = trio.Lock()  # held while bytes are sent: a stopped broker takes some of them only

    async def beat() -> None:
        while True:
            async with sending:
                await client.stream.send_all(HEARTBEAT)
            await trio.sleep(heartbeat / 3)

    async def is_served() -> None:
        async with sending:
            await client.send(m.QueueDeclare("q0"))
        await client.expect(m.QueueDeclareOk)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(beat)
        nursery.start_soon(partial(shaking.send, start_ok(), channel=0))
        await attack.pause_broker(seconds)
        await is_served()
        await shaking.expect(m.ConnectionTune)
        await trio.sleep(heartbeat)
        await is_served()
        nursery.cancel_scope.cancel()
    await trio.aclose_forcefully(other)
    await trio.aclose_forcefully(shaking.stream)


@asynccontextmanager
async def wrong_logins(attack: Attack, count: int, user: str) -> AsyncIterator[None]:
    """So many wrong logins in flight during the block."""
    async with trio.open_nursery() as nursery:
        for number in range(count):
            nursery.start_soon(wrong_login, attack, user.format(number), f"wrong{number}")
        yield
        nursery.cancel_scope.cancel()


@scenario(short=1 / 4)
async def wrong_passwords(attack: Attack) -> None:
    """220 wrong logins from one address while a right one comes from there."""
    await attack.add_user("victim")
    await attack.ask(
        f"/api/permissions/{attack.vhost}/victim", "PUT", {"configure": "", "write": "", "read": ""}
    )
    async with wrong_logins(attack, attack.many(220), "victim"):
        await (await attack.client(user="victim")).close()


@scenario(short=1 / 4)
async def wrong_passwords_in_flight(attack: Attack) -> None:
    """300 wrong logins of 300 names in flight, and right ones of guest."""
    async with wrong_logins(attack, attack.many(300), "guest{}"):
        for _ in range(5):
            await (await attack.client()).close()


@scenario(short=1 / 4)
async def wrong_passwords_of_http(attack: Attack) -> None:
    """300 requests with wrong passwords at once, and requests of guest beside them."""
    async with many_streams(attack, "http", attack.many(300)) as streams:
        for number, stream in enumerate(streams):
            authorization = basic(f"guest{number}", "wrong")
            head = f"GET /api/whoami HTTP/1.1\r\nHost: localhost\r\nAuthorization: {authorization}\r\n\r\n"
            await stream.send_all(head.encode())
        for _ in range(5):
            await attack.ask("/api/whoami")


@scenario(short=1)
async def idle_http(attack: Attack) -> None:
    """1,010 idle HTTP connections while /health, the API and a WebSocket are asked for."""
    async with many_streams(attack, "http", 1010):
        assert (await attack.answer("/health")).status == 200
        await attack.ask("/api/overview")
        page = await open_page(await attack.tcp("http"))
        await (await Client(page).login(vhost=attack.vhost)).close()


@scenario(short=1 / 10)
async def slow_http(attack: Attack) -> None:
    """1,000 HTTP requests whose heads come a byte at a time."""
    async with many_streams(attack, "http", attack.many(1000)) as streams:
        for byte in b"GET /health HTTP/1.1\r\nHost":
            for stream in streams:
                await stream.send_all(bytes([byte]))
        assert (await attack.answer("/health")).status == 200


@scenario(short=1 / 10)
async def silent_amqp(attack: Attack) -> None:
    """2,000 AMQP connections that send nothing, and 2,000 that stop after the protocol header."""
    for data in (b"", PROTOCOL_HEADER):
        async with many_streams(attack, "amqp", attack.many(2000)) as streams:
            for stream in streams:
                if data:
                    await stream.send_all(data)
            await (await attack.client()).close()


@scenario(short=1 / 10)
async def half_open_tls(attack: Attack) -> None:
    """1,000 TLS handshakes that stop in the middle of the first record."""
    async with many_streams(attack, "amqps", attack.many(1000)) as streams:
        for stream in streams:
            await stream.send_all(CLIENT_HELLO)
        await (await attack.client()).close()


@scenario(short=1 / 10)
async def bad_tls(attack: Attack) -> None:
    """500 TLS handshakes of random bytes."""
    async with many_streams(attack, "amqps", attack.many(500)) as streams:
        for number, stream in enumerate(streams):
            await stream.send_all(CLIENT_HELLO + bytes((number * each) % 256 for each in range(700)))
        for stream in streams:
            await read_to_end(stream)


@scenario(short=1 / 10)
async def slow_amqp(attack: Attack) -> None:
    """200 AMQP logins whose bytes come one at a time."""
    login = PROTOCOL_HEADER + method_frame(0, start_ok())
    async with many_streams(attack, "amqp", attack.many(200)) as streams:
        for stream in streams:
            stream.setsockopt(trio.socket.IPPROTO_TCP, trio.socket.TCP_NODELAY, 1)
        for byte in login:
            for stream in streams:
                await stream.send_all(bytes([byte]))


@scenario(short=1 / 10)
async def slow_stomp(attack: Attack) -> None:
    """100 STOMP connections whose headers come one byte at a time."""
    head = (
        f"CONNECT\naccept-version:1.2\nhost:{attack.vhost}\nlogin:guest\npasscode:guest\nx:{'y' * 200}\n\n\0"
    )
    async with many_streams(attack, "stomp", attack.many(100)) as streams:
        for byte in head.encode():
            for stream in streams:
                await stream.send_all(bytes([byte]))
        for stream in streams:
            assert (await stream.receive_some()).startswith(b"CONNECTED")


@scenario()
async def tiny_websocket_frames(attack: Attack) -> None:
    """An AMQP client over WebSocket sends 100,000 heartbeats in frames of one byte."""
    stream = await attack.tcp("http")
    page = await open_page(stream)
    client = await Client(page).login(vhost=attack.vhost)
    one = b"".join(bytes([0x82, 0x81, 0, 0, 0, 0, byte]) for byte in HEARTBEAT)
    for start in range(0, attack.many(100_000), 1000):
        await stream.send_all(one * min(1000, attack.many(100_000) - start))
    await client.call(m.QueueDeclare("q0"), m.QueueDeclareOk)
    await stream.aclose()


@scenario(short=1 / 10)
async def pings(attack: Attack) -> None:
    """200,000 WebSocket pings in large writes, whose pongs are not read."""
    stream = await attack.tcp("http")
    await open_page(stream)
    with trio.move_on_after(20 * attack.scale):
        for _ in range(attack.many(200)):
            await stream.send_all(bytes([0x89, 0x80 | 125, 0, 0, 0, 0]) * 1 + bytes(125))
    await trio.aclose_forcefully(stream)


@scenario(short=1 / 20)
async def short_connections(attack: Attack) -> None:
    """3,000 connections are opened and reset at once, at each listener."""
    for scheme in ("amqp", "amqps", "stomp", "http"):
        for _ in range(attack.many(3000)):
            await trio.aclose_forcefully(await attack.tcp(scheme))
    await (await attack.client()).close()


@scenario(short=1 / 20)
async def short_logins(attack: Attack) -> None:
    """1,000 clients log in, declare an exclusive queue and are lost."""
    for _ in range(attack.many(1000)):
        client = await attack.client()
        await client.call(m.QueueDeclare("", exclusive=True), m.QueueDeclareOk)
        await trio.aclose_forcefully(client.stream)


@scenario(short=1 / 20)
async def short_channels(attack: Attack) -> None:
    """50,000 channels are opened and closed on one connection."""
    client = await attack.client()
    both = method_frame(2, m.ChannelOpen()) + method_frame(2, m.ChannelClose(200, "", 0, 0))
    for start in range(0, attack.many(50_000), 500):
        number = min(500, attack.many(50_000) - start)
        await client.stream.send_all(both * number)
        for _ in range(2 * number):
            await client.next()


@scenario()
async def heartbeats(attack: Attack) -> None:
    """2,000,000 heartbeats in large writes."""
    client = await attack.client()
    for _ in range(attack.many(200)):
        await client.stream.send_all(HEARTBEAT * 10_000)
    await client.call(m.QueueDeclare("q0"), m.QueueDeclareOk)


@scenario(short=1 / 10)
async def wrong_protocols(attack: Attack) -> None:
    """500 clients at each port speak another protocol."""
    said = (
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        PROTOCOL_HEADER,
        b"CONNECT\n\n\0",
        CLIENT_HELLO,
        b"\xff" * 100,
    )
    for scheme in ("amqp", "amqps", "stomp", "http"):
        async with many_streams(attack, scheme, attack.many(500)) as streams:
            for number, stream in enumerate(streams):
                try:
                    await stream.send_all(said[number % len(said)])
                except trio.BrokenResourceError:
                    continue  # refused already


@scenario(short=1 / 10)
async def broken_frames(attack: Attack) -> None:
    """500 logged-in clients send a frame with a wrong end, an unknown method or a body without a header."""
    broken = (
        frame(1, 1, b"\x00\x0a\xff\xff"),
        frame(1, 1, b"")[:-1] + b"\x00",
        frame(3, 1, b"body"),
        frame(9, 1, b""),
        frame(2, 1, b"\x00" * 14),
    )
    for number in range(attack.many(500)):
        client = await attack.client()
        await client.stream.send_all(broken[number % len(broken)])
        assert isinstance(await client.next(), m.ConnectionClose | m.ChannelClose)
        await trio.aclose_forcefully(client.stream)
