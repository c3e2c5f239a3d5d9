"""A data directory with every kind of stored structure, for the fuzzer of stored content."""

import json
import shutil
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from click.testing import CliRunner

from leveret.router.cli import main as leveret
from leveret.router.vhost.metadata import make_metadata
from tests.router.store.kept import Kept
from tests.router.store.small import SMALL, SMALL_STREAMS, patched

QUEUES = ("q", "p", "s")
COUNT = 36  # messages of each queue
Bodies = frozenset[str]
EVERYTHING = None  # after a change any message may be missing, as long as that is told


def small() -> AbstractContextManager[None]:
    """A few messages make a page, a chunk or a segment."""
    return patched(*SMALL, *SMALL_STREAMS)


@dataclass
class Ground:
    """A data directory, and the bodies that are live in it by queue."""

    path: Path
    live: dict[str, list[str]] = field(default_factory=dict)

    @property
    def bodies(self) -> Bodies:
        return frozenset(body for bodies in self.live.values() for body in bodies)


def build(path: Path) -> Ground:
    """Make a directory with messages in the journal, in pages, in segments of a stream, and rows of each
    table.
    """
    ground = Ground(path)
    with small():
        kept = Kept(path, journal_size=3000, budget=2000)
        admin, vhost = kept.administration, kept.node.vhost
        admin.put_vhost("/", make_metadata(description="d"))
        admin.put_user("u", limits={"max-channels": 5}, tags=("monitoring",))
        admin.set_permission("u", "/", configure=".*", write=".*", read=".*")
        admin.set_topic_permission("u", "/", "amq.topic", write="^u", read="^u")
        admin.set_policy("/", "p", "^nothing", {"max-length": 10, "message-ttl": 100_000})
        admin.set_vhost_limits("/", {"max-queues": 10})
        admin.parameters.set_global("g", {"a": [1]})
        exchange = vhost.declare_exchange(
            "x", "headers", durable=True, arguments={"x-message-deduplication": True}
        )
        vhost.bind(
            exchange, kept.node.queue("q", durable=True, message_deduplication=True, cache_size=5), "k", {}
        )
        kept.node.queue("p", durable=True, max_priority=3)
        kept.node.queue("s", durable=True, queue_type="stream", stream_max_segment_size_bytes=1500)
        for number in range(COUNT):
            for queue in QUEUES:
                headers = {"x-deduplication-header": number, "n": [{"a": 1.5}]}
                if queue == "s":
                    headers |= {"x-publisher-name": "n", "x-publishing-id": number}
                    headers |= {"x-stream-filter-value": "v"} if number % 3 else {}
                expiration = "100000000" if number % 2 else None
                kept.client.publish(
                    f"<{queue}{number}>", queue, delivery_mode=2, headers=headers,
                    priority=number % 4, expiration=expiration,
                )  # fmt: skip
            if number % 3 == 2:
                kept.settle()
            if number == COUNT // 2:
                kept.settle()
                kept.retires = False  # what comes from now on stays in the journal
        kept.client.consume("s", "named", prefetch=5, arguments={"x-stream-offset": "first", "x-name": "n"})
        kept.settle()
        for queue in ("q", "p"):
            for _ in range(3):
                kept.get(queue)
            held = kept.get(queue, no_ack=False)
            kept.client.session.nack(held[0], multiple=False, requeue=True)
        kept.settle()
        for queue in ("q", "p"):
            ground.live[queue] = _live(path, queue)
        ground.live["s"] = [f"<s{number}>" for number in range(COUNT)]
        kept.crash()
    return ground


def _live(path: Path, queue: str) -> list[str]:
    """The live bodies of a queue, by the command that prints them."""
    copy = path.with_name("copy")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(path, copy)
    result = run("dump", copy, "--queue", queue)
    shutil.rmtree(copy)
    assert result.exit_code == 0, result.output
    return [json.loads(line)["body"] for line in result.stdout.splitlines()]


def run(*arguments: object):
    """A command of ``leveret store``."""
    return CliRunner().invoke(leveret, ["store", *map(str, arguments)], prog_name="leveret")


def bodies_in(data: bytes) -> set[str]:
    """The bodies of messages that stand in some bytes."""
    found, at = set(), 0
    while (at := data.find(b"<", at)) >= 0:
        end = data.find(b">", at)
        if 0 < end - at < 20 and data[at + 1 : end].isascii():
            found.add(data[at : end + 1].decode())
        at += 1
    return found
