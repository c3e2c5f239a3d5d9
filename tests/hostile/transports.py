"""Transports: TLS records, and frames and compression of WebSocket, that are tiny, large or very many."""

import ssl

import trio

from leveret.protocol.amqp import methods as m
from leveret.protocol.amqp.encode import HEARTBEAT
from tests.hostile.memory import masked, publish_many_in_pieces
from tests.hostile.scenario import Attack, Family, declare
from tests.router.server.client import Client, publish_frames
from tests.router.server.web import open_page

TRANSPORTS = Family("transports")
scenario = TRANSPORTS.scenario
BINARY, CONTINUATION, LAST, PING = 0x02, 0x00, 0x80, 0x89  # first bytes of frames, a flag of them


async def tls_client(attack: Attack) -> Client:
    """An AMQP client over TLS."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    stream = trio.SSLStream(await attack.tcp("amqps"), context, server_hostname="localhost")
    return await Client(stream).login(vhost=attack.vhost)


@scenario(short=1 / 20, memory=600)
async def large_bodies_over_tls(attack: Attack) -> None:
    """A consumer over TLS gets 60 bodies of 16 MB."""
    client, consumer = await attack.client(), await tls_client(attack)
    await declare(client, 1, {})
    await consumer.call(m.BasicConsume("q0", no_ack=True), m.BasicConsumeOk)
    async with trio.open_nursery() as nursery:
        body = publish_frames("q0", bytes(16_000_000))
        nursery.start_soon(publish_many_in_pieces, client, body, attack.many(60))
        for _ in range(attack.many(60)):
            await consumer.next()


@scenario(short=1 / 20)
async def tiny_tls_records(attack: Attack) -> None:
    """200,000 TLS records of one byte each: heartbeats."""
    client = await tls_client(attack)
    for _ in range(attack.many(200_000 // len(HEARTBEAT))):
        for byte in HEARTBEAT:
            await client.stream.send_all(bytes([byte]))
    await client.call(m.QueueDeclare("q0"), m.QueueDeclareOk)


@scenario(short=1 / 20)
async def fragments_with_pings(attack: Attack) -> None:
    """A WebSocket message of 500,000 fragments, most of them empty, with a ping after each."""
    stream = await attack.tcp("http")
    page = await open_page(stream)
    client = await Client(page).login(vhost=attack.vhost)
    pinged = masked(b"", CONTINUATION) + masked(b"p" * 125, PING)
    async with trio.open_nursery() as nursery:

        async def send() -> None:
            await stream.send_all(masked(b"", BINARY))
            for _ in range(attack.many(500)):
                await stream.send_all(pinged * 1000)
            await stream.send_all(masked(HEARTBEAT, CONTINUATION | LAST))
            await client.send(m.QueueDeclare("q0"))

        nursery.start_soon(send)
        await client.expect(m.QueueDeclareOk)
