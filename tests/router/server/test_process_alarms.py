"""Alarms of a process that really runs short."""

import os
import sys
from pathlib import Path

import pytest
import trio

from leveret.protocol.amqp import methods as m
from leveret.protocol.amqp.codec import method_frame
from leveret.protocol.amqp.command import Delivery
from tests.router.server.client import Client, publish_frames
from tests.router.server.process import leveret

ANY = ("--amqp", "127.0.0.1:0")
MB = 1_000_000
WATERMARK = 120 * MB  # a broker without messages takes up some 40
FLOOD = 400 * MB
LATE = 100 * MB  # what a busy machine lets in between two looks


def resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("size", [200, 2000, 20_000])
async def test_a_flood_is_held_up_and_goes_on_once_it_was_drained(tmp_path, size):
    """Small objects are CPython's, larger ones the C library's, which keeps what was freed."""

    async def flood(client: Client) -> None:
        together = publish_frames("q", bytes(size)) * (MB // 10 // size)
        for _ in range(0, FLOOD, MB // 10):
            await client.stream.send_all(together)

    async def drain(client: Client) -> None:
        await client.call(m.BasicConsume("q", no_ack=True), m.BasicConsumeOk)
        while True:
            await client.expect(Delivery)

    flags = ("--set", f"alarms.memory_high_watermark={WATERMARK}")
    async with leveret(tmp_path, *ANY, *flags) as broker, trio.open_nursery() as nursery:
        publisher, consumer = [await (await broker.connect()).login() for _ in range(2)]
        await publisher.call(m.QueueDeclare("q"), m.QueueDeclareOk)
        nursery.start_soon(flood, publisher)
        blocked = await publisher.expect(m.ConnectionBlocked)
        assert blocked.reason == "low on memory"
        assert WATERMARK / 2 < resident(broker.process.pid) < WATERMARK + LATE
        nursery.start_soon(drain, consumer)
        await publisher.expect(m.ConnectionUnblocked)
        nursery.cancel_scope.cancel()
    assert "memory alarm: publishers are blocked" in broker.log
    assert "memory alarm cleared" in broker.log


async def test_a_broker_with_an_alarm_stops_in_time(tmp_path):
    flags = ("--set", "alarms.memory_high_watermark=0", "--set", "server.shutdown_timeout=1000")
    async with leveret(tmp_path, *ANY, *flags) as broker:
        client = await (await broker.connect()).login()
        await client.publish("q")
        await client.expect(m.ConnectionBlocked)
        broker.process.terminate()
        await client.expect(m.ConnectionClose)
        assert await broker.ended() == 0


async def test_what_a_blocked_client_holds_comes_free_when_it_hangs_up(tmp_path):
    async with leveret(tmp_path, *ANY, "--set", "alarms.memory_high_watermark=0") as broker:
        client, other = [await (await broker.connect()).login() for _ in range(2)]
        await client.call(m.QueueDeclare("q"), m.QueueDeclareOk)
        await client.stream.send_all(publish_frames("q", b"held") + method_frame(1, m.BasicGet("q")))
        assert await client.delivered() == b"held"
        await client.expect(m.ConnectionBlocked)
        await client.publish("q", b"not read")
        await client.stream.aclose()
        await other.call(m.BasicConsume("q"), m.BasicConsumeOk)
        redelivered = await other.expect(Delivery)
        assert (redelivered.method.redelivered, redelivered.message.body) == (True, b"held")
