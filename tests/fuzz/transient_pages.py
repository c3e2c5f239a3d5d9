"""Pages of transient messages with other content and a right checksum, which a running broker reads back.

``check_page_change`` pages messages out, changes one page, and gets all messages. The test is in
``test_transient_pages``; the command runs it for longer:

    python -m tests.fuzz.transient_pages [--seconds 3600] [--seed 1]
"""

import argparse
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from random import Random
from struct import error

from structlog.testing import capture_logs

from leveret.protocol.errors import AmqpError, InternalError
from leveret.router.store.segments.pages import find_pages
from tests.fuzz.stored import EDGES, time_limit
from tests.fuzz.stored_changes import change_page
from tests.fuzz.stored_ground import small
from tests.router.store.kept import Kept
from tests.router.store.small import MEMORY

COUNT = 36  # messages of each queue
# One queue that is not durable, one that is, and one whose messages have blind copies: those are examined.
QUEUES = ("t", "d", "b")


def check_page_change(which: int, field: int, number: int) -> None:
    """Make one change in one page, and get all messages.

    Raises AssertionError if the broker breaks or another message is missing, and Hang. A changed message may
    cost its receiver, because messages that this broker has packed are not examined again.
    """
    with tempfile.TemporaryDirectory(prefix="leveret-pages-", dir=MEMORY) as directory, small(), time_limit():
        kept = Kept(Path(directory), journal_size=3000, budget=2000)
        try:
            _publish(kept)
            pages = _pages(Path(directory) / "transient")
            file, offset, length = pages[which % len(pages)]
            data = file.read_bytes()
            page = data[offset : offset + length]
            new, loose = change_page(page, which // len(pages), field, number)
            file.write_bytes(data[:offset] + new + data[offset + length :])
            with capture_logs():
                found, stuck = _get_all(kept)
            assert kept.store.broken is None, kept.store.broken
            assert kept.client.crashed == []
            missing = {f"<{queue}{number}>" for queue in QUEUES for number in range(COUNT)} - found
            if not stuck:
                assert missing <= loose, missing - loose
            kept.node.queue("after")
            kept.client.publish("<after>", "after")
            assert kept.get("after") is not None
        finally:
            kept.crash()


def _publish(kept: Kept) -> None:
    for queue in QUEUES:
        kept.node.queue(queue, durable=queue == "d")
    for number in range(COUNT):
        for queue in QUEUES:
            headers = {"n": [{"a": 1.5}]} | ({"BCC": ["nowhere"]} if queue == "b" else {})
            kept.client.publish(f"<{queue}{number}>", queue, delivery_mode=1, headers=headers)
        if number % 3 == 2:
            kept.settle()
    kept.settle()


def _pages(directory: Path) -> list[tuple[Path, int, int]]:
    """The pages in the segments of transient messages: the file, offset and length of each."""
    return [
        (file, offset, length)
        for file in sorted(directory.glob("*.segment"))
        for offset, length, _ in find_pages(file.read_bytes())
    ]


def _get_all(kept: Kept) -> tuple[set[str], bool]:
    """Get all messages; return the bodies, and True if a queue delivers nothing more."""
    found, stuck = set(), False
    for queue in QUEUES:
        try:
            while (taken := kept.get(queue)) is not None:
                message = taken[1].message
                with suppress(AmqpError, ValueError, IndexError, error):
                    _ = message.properties
                    found.add(message.body.decode("latin-1"))
        except InternalError:
            stuck = True
    kept.settle()
    return found, stuck


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.transient_pages", description=__doc__)
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    options = parser.parse_args()
    random, end, count = Random(options.seed), time.monotonic() + options.seconds, 0
    while time.monotonic() < end:
        number = random.choice(EDGES) if random.random() < 0.6 else random.randrange(1 << 64)
        given = random.randrange(1 << 20), random.randrange(64), number
        try:
            check_page_change(*given)
        except BaseException:
            print(f"after {count} changes: check_page_change({', '.join(map(repr, given))})", flush=True)
            raise
        count += 1
    print(f"{count} changes with seed {options.seed}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
