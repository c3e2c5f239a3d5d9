"""The share of a real broker's memory that has an owner, under different loads."""

import base64
import json
import sys
from pathlib import Path

import pytest
import trio

from leveret.protocol.amqp import methods as m
from leveret.protocol.amqp.codec import method_frame
from leveret.protocol.amqp.constants import FRAME_BODY, FRAME_HEADER
from leveret.protocol.amqp.content_frames import FRAME
from tests.router.server.client import Client, publish_frames
from tests.router.server.process import Leveret, leveret
from tests.router.server.test_process_alarms import resident
from tests.router.server.web import Browser

FLAGS = ("--amqp", "127.0.0.1:0", "--http", "127.0.0.1:0", "--set", "management.sample_interval=500")
LOGIN = "Basic " + base64.b64encode(b"guest:guest").decode()
TOLERANCE = 0.05  # of the resident memory
LATE = 8  # seconds in which the measures catch up with a load, on a busy machine
MB = 1_000_000

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="glibc's and Linux's sizes were measured")


async def open_http(broker: Leveret) -> trio.SocketStream:
    return await trio.open_tcp_stream("127.0.0.1", int(broker.announced.rstrip().rpartition(":")[2]))


async def ask_memory(broker: Leveret) -> dict[str, int]:
    """Bytes by owner, as the API tells them."""
    async with await open_http(broker) as stream:
        browser = Browser(stream)
        (node,) = json.loads((await browser.ask("/api/nodes", authorization=LOGIN)).body)
        answer = await browser.ask(f"/api/nodes/{node['name']}/memory", authorization=LOGIN)
    return json.loads(answer.body)["memory"]["leveret"]


async def explained(broker: Leveret, owner: str, size: int) -> dict[str, int]:
    """Wait until an owner has so many bytes and the rest is explained; return all owners."""
    owners: dict[str, int] = {}
    with trio.move_on_after(LATE):
        while True:
            owners = await ask_memory(broker)
            if owners[owner] >= size and abs(owners["unexplained"]) <= TOLERANCE * sum(owners.values()):
                break
            await trio.sleep(0.5)
    return owners


async def idle(broker: Leveret, client: Client, kept: list[object]) -> tuple[str, int]:
    return "code", 20 * MB


async def queues(broker: Leveret, client: Client, kept: list[object]) -> tuple[str, int]:
    for number in range(3000):
        await client.send(m.QueueDeclare(f"queue-{number}", nowait=True))
    await client.call(m.QueueDeclare("last"), m.QueueDeclareOk)
    return "classic_queues", 12 * MB


async def connections(broker: Leveret, client: Client, kept: list[object]) -> tuple[str, int]:
    for _ in range(300):
        kept.append(await (await broker.connect()).login())
    return "connections", 4 * MB


async def backlog(broker: Leveret, client: Client, kept: list[object]) -> tuple[str, int]:
    await client.call(m.QueueDeclare("q"), m.QueueDeclareOk)
    for _ in range(400):
        await client.stream.send_all(publish_frames("q", bytes(1000)) * 100)
    await client.call(m.QueueDeclare("q", passive=True), m.QueueDeclareOk)
    return "classic_queues", 40 * MB


async def replies(broker: Leveret, client: Client, kept: list[object]) -> tuple[str, int]:
    """40 channels that declare a reply queue for each call."""
    other = await (await broker.connect()).login(channels=range(1, 41))
    kept.append(other)
    for number in range(100):
        for channel in range(1, 41):
            name = f"reply-{channel}-{number}"
            await other.stream.send_all(
                method_frame(channel, m.QueueDeclare(name, exclusive=True, nowait=True))
                + publish_frames(name, b"reply", channel=channel)
                + method_frame(channel, m.QueueDelete(name, nowait=True))
            )
    await other.call(m.QueueDeclare("last"), m.QueueDeclareOk)
    return "channels", 160_000


async def amqp_bodies(broker: Leveret, client: Client, kept: list[object]) -> tuple[str, int]:
    body = bytes(100_000)
    for _ in range(20):
        other = await (await broker.connect()).login()
        kept.append(other)
        head = bytes.fromhex("003c0000") + (20 * len(body)).to_bytes(8) + b"\0\0"
        await other.stream.send_all(
            method_frame(1, m.BasicPublish("", "q")) + FRAME.pack(FRAME_HEADER, 1, len(head)) + head + b"\xce"
        )
        await other.stream.send_all((FRAME.pack(FRAME_BODY, 1, len(body)) + body + b"\xce") * 19)
    return "incomplete", 38 * MB


async def request_bodies(broker: Leveret, client: Client, kept: list[object]) -> tuple[str, int]:
    for _ in range(3):
        stream = await open_http(broker)
        kept.append(stream)
        await stream.send_all(
            b"POST /api/definitions HTTP/1.1\r\nHost: localhost\r\nAuthorization: %b\r\n"
            b"Content-Length: %d\r\n\r\n" % (LOGIN.encode(), 10 * MB + 1)
        )
        await stream.send_all(bytes(10 * MB))
    return "request_bodies", 30 * MB


@pytest.mark.slow
@pytest.mark.parametrize("load", [idle, queues, connections, backlog, replies, amqp_bodies, request_bodies])
async def test_memory_is_explained_by_its_owners(tmp_path: Path, load):
    async with leveret(tmp_path, *FLAGS) as broker:
        client = await (await broker.connect()).login()
        kept: list[object] = []  # connections that stay open
        owner, size = await load(broker, client, kept)
        owners = await explained(broker, owner, size)
        assert owners[owner] >= size
        assert abs(owners["unexplained"]) <= TOLERANCE * sum(owners.values()), owners


BODY = 8 * MB
REQUESTS = 30


async def begin_request(broker: Leveret, user: str, statuses: list[int], sent: trio.Event) -> None:
    """Send a request without the last byte of its body, and read the answer if there is one."""
    login = base64.b64encode(f"{user}:{user}".encode())
    async with await open_http(broker) as stream:
        await stream.send_all(
            b"POST /api/definitions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Basic %b\r\n"
            b"Content-Length: %d\r\n\r\n" % (login, BODY)
        )
        for _ in range(BODY // MB - 1):
            await stream.send_all(bytes(MB))
        await stream.send_all(bytes(MB - 1))
        statuses.append((await Browser(stream).answer("POST")).status)
        if len(statuses) == REQUESTS:
            sent.set()
        await trio.sleep_forever()


@pytest.mark.parametrize(
    ("user", "status", "more"),
    [
        ("none", 401, 60 * MB),  # has no rights: nothing is kept of what it sends
        ("guest", 503, 150 * MB),  # may send 64 MiB at a time: the others are refused, and give theirs up
    ],
)
async def test_request_bodies_without_their_last_byte_take_bounded_memory(tmp_path, user, status, more):
    """Refused bodies once stayed in memory with their connections: 284 MiB of 90 that had 19 MB each."""
    async with leveret(tmp_path, *FLAGS) as broker, trio.open_nursery() as nursery:
        async with await open_http(broker) as stream:
            body = b'{"password": "none", "tags": ""}'
            answer = await Browser(stream).ask(
                "/api/users/none", method="PUT", body=body, authorization=LOGIN
            )
            assert answer.status == 201
        before = resident(broker.process.pid)
        statuses: list[int] = []
        sent = trio.Event()
        for _ in range(REQUESTS):
            nursery.start_soon(begin_request, broker, user, statuses, sent)
        most = 0
        with trio.move_on_after(6):
            while not sent.is_set():
                most = max(most, resident(broker.process.pid))
                await trio.sleep(0.02)
        assert set(statuses) == {status}
        assert len(statuses) >= REQUESTS - 64 * MB // BODY - 1
        assert most - before < more
        nursery.cancel_scope.cancel()
