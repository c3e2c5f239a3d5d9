"""Fill a queue through a broker process, kill that, start it again, drain the queue: what does it cost?

    python -m tests.faults.backlog --count 5000000

It prints what it measures, and ends with status 1 when that is beyond a bound: how much memory the broker
took, how long it took to be ready after ``kill -9``, how much of the disk it still takes up when the queue is
empty again. Whatever the bounds, every message has to come back, once and in order.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import trio

from leveret.protocol.amqp import methods as m
from leveret.protocol.amqp.command import Delivery
from tests.faults.broker import Broker
from tests.faults.client import Failed, publish_frames
from tests.router.server.client import Client

CHUNK = 1000  # messages that are sent in one piece
WINDOW = 20 * CHUNK  # messages that may wait for their confirms
PREFETCH = 10 * CHUNK
EMPTYING = 30  # seconds that a broker may take to remove what it needs no more
MB = 1_000_000


@dataclass(frozen=True, slots=True)
class Bounds:
    """What is too much: MB that are resident at most, seconds until it is ready, MB on disk in the end."""

    resident: float = 400
    ready: float = 2
    left: float = 20  # a journal file and a little


@dataclass(slots=True)
class Costs:
    """What was measured, in MB and seconds. ``full`` and ``left`` are beyond what an empty broker takes."""

    filling: float = 0
    resident: float = 0
    full: float = 0
    ready: float = 0
    draining: float = 0
    resident_draining: float = 0
    left: float = 0

    def beyond(self, bounds: Bounds) -> list[str]:
        """What is too much."""
        told = {
            "resident while it was filled": (self.resident, bounds.resident, "MB"),
            "resident after the restart": (self.resident_draining, bounds.resident, "MB"),
            "until it was ready": (self.ready, bounds.ready, "s"),
            "left on disk": (self.left, bounds.left, "MB"),
        }
        return [
            f"{what}: {found:.1f} {unit}, more than {bound:g}"
            for what, (found, bound, unit) in told.items()
            if found > bound
        ]


async def backlog(directory: Path, count: int, size: int, *options: str) -> Costs:
    """Fill and drain a queue with ``count`` messages of ``size`` bytes. Raises Failed."""
    broker = Broker(directory / "data", "--log-level", "error", *options)
    costs = Costs()
    try:
        await broker.start()
        empty = disk_use(broker)
        began = time.monotonic()
        await fill(broker, count, size)
        costs.filling = time.monotonic() - began
        costs.resident = peak(broker)
        costs.full = disk_use(broker) - empty
        await broker.kill()
        began = time.monotonic()
        await broker.start()
        costs.ready = time.monotonic() - began
        began = time.monotonic()
        await drain(broker, count, size)
        costs.draining = time.monotonic() - began
        costs.resident_draining = peak(broker)
        costs.left = await emptied(broker, empty, Bounds().left)
        if await broker.stop():
            raise Failed(broker.log.read_text())
    finally:
        with trio.CancelScope(shield=True):
            await broker.kill()
    return costs


async def connect(broker: Broker) -> Client:
    return await Client(await trio.open_tcp_stream("127.0.0.1", broker.port)).login()


async def fill(broker: Broker, count: int, size: int) -> None:
    """Publish messages whose bodies are their numbers, and wait for all confirms."""
    client = await connect(broker)
    await client.call(m.QueueDeclare("q", durable=True), m.QueueDeclareOk)
    await client.call(m.ConfirmSelect(), m.ConfirmSelectOk)
    confirmed = sent = 0
    for chunk in chunks(count, size):
        await client.stream.send_all(chunk)
        sent = min(count, sent + CHUNK)
        while sent - confirmed > WINDOW or (sent == count and confirmed < count):
            answer = await client.next()
            if not isinstance(answer, m.BasicAck):
                raise Failed(f"came {answer}")
            confirmed = answer.delivery_tag if answer.multiple else confirmed + 1
    await client.close()


def chunks(count: int, size: int) -> Iterator[bytes]:
    """The publishes of ``count`` messages, some at a time. Only their numbers differ."""
    mark = b"N" * size
    before, after = publish_frames("", "q", mark, delivery_mode=2).split(mark)
    for first in range(0, count, CHUNK):
        numbers = range(first, min(count, first + CHUNK))
        yield b"".join([b"%b%0*d%b" % (before, size, number, after) for number in numbers])


async def drain(broker: Broker, count: int, size: int) -> None:
    """Take everything, and look that it is all there, once and in order."""
    client = await connect(broker)
    await client.call(m.BasicQos(prefetch_count=PREFETCH), m.BasicQosOk)
    await client.call(m.BasicConsume("q", "c"), m.BasicConsumeOk)
    for number in range(count):
        delivery = await client.next()
        if not isinstance(delivery, Delivery) or delivery.message.body != b"%0*d" % (size, number):
            raise Failed(f"instead of {number} came {delivery}")
        if (number + 1) % CHUNK == 0 or number + 1 == count:
            assert isinstance(delivery.method, m.BasicDeliver)
            await client.send(m.BasicAck(delivery.method.delivery_tag, multiple=True))
    ok = await client.call(m.QueueDeclare("q", passive=True), m.QueueDeclareOk)
    if ok.message_count:
        raise Failed(f"{ok.message_count} messages are left")
    await client.close()


async def emptied(broker: Broker, empty: float, enough: float) -> float:
    """How many MB more than before are still taken up once that is little enough, or after a while."""
    end = trio.current_time() + EMPTYING
    while True:
        left = disk_use(broker) - empty
        if left <= enough or trio.current_time() > end:
            return left
        await trio.sleep(0.2)  # nobody tells when a file is removed


def disk_use(broker: Broker) -> float:
    """MB that the data directory takes up."""
    files = [file for file in broker.data.rglob("*") if file.is_file()]
    return sum(file.stat(follow_symlinks=False).st_blocks * 512 for file in files) / MB


def peak(broker: Broker) -> float:
    """MB of memory that the broker's process had at most."""
    status = Path(f"/proc/{broker.process_id}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) / 1000


def main() -> None:
    parser = argparse.ArgumentParser(description="Fill a queue, kill the broker, drain it.")
    parser.add_argument("--count", type=int, default=5_000_000, help="messages")
    parser.add_argument("--size", type=int, default=100, help="bytes of each")
    parser.add_argument("--resident", type=float, default=Bounds().resident, help="MB of memory at most")
    parser.add_argument("--ready", type=float, default=Bounds().ready, help="seconds to be ready in")
    parser.add_argument("--directory", type=Path, help="where to make the data directory")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="leveret-backlog-", dir=given.directory) as directory:
        costs = trio.run(backlog, Path(directory), given.count, given.size)
    print(costs)
    beyond = costs.beyond(Bounds(given.resident, given.ready))
    print("\n".join(beyond))
    sys.exit(bool(beyond))


if __name__ == "__main__":
    main()
