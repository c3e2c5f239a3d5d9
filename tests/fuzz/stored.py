"""Stored structures with other content and a right checksum, and what a broker has to make of them.

``build`` makes a data directory with every kind of structure, ``CHANGES`` are functions that change one field
of one structure and compute its checksum anew, and ``verify`` starts a broker on the result. The test is in
``test_stored``; the command runs it for longer:

    python -m tests.fuzz.stored [--target page] [--seconds 3600] [--seed 1]
"""

import argparse
import contextlib
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from structlog.testing import capture_logs

from leveret.protocol.errors import InternalError
from leveret.router.store.journal.journal import DamageError
from leveret.router.store.metadata.reading import MetadataError
from tests.fuzz.stored_changes import CHANGES
from tests.fuzz.stored_ground import EVERYTHING, QUEUES, Bodies, Ground, bodies_in, build, run, small
from tests.router.store.kept import Kept
from tests.router.store.small import MEMORY

SECONDS = 10  # that the verification of one change may take


class Hang(Exception):
    """A start or a command took too long."""


@contextlib.contextmanager
def time_limit() -> Iterator[None]:
    def stop(*_: object) -> None:
        raise Hang(f"not done after {SECONDS} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


# -- what a broker makes of it ------------------------------------------------------------------------------


@dataclass
class Outcome:
    """What a start on a directory led to."""

    refused: str = ""  # why the broker did not start
    stuck: bool = False  # a queue stands still, or a reader was cancelled
    bodies: set[str] = field(default_factory=set)
    errors: list[str] = field(default_factory=list)


def start(path: Path) -> Outcome:
    """Start twice: publish at first, then read everything."""
    outcome = Outcome()
    with small(), capture_logs() as logged:
        try:
            for reads in (False, True):
                before = len(logged)
                kept = Kept(path, journal_size=3000, budget=2000)
                try:
                    _publish(kept, "again" if reads else "fresh")
                    if reads:
                        _read(kept, outcome)
                    kept.settle()
                    broken = kept.store.broken
                    assert broken is None, "".join(traceback.format_exception(broken))
                    _must_be_counted(kept, logged[before:])
                    assert kept.store.failure is None, kept.store.failure
                    assert kept.client.crashed == [], kept.client.crashed
                finally:
                    kept.crash()
        except (DamageError, MetadataError) as error:
            outcome.refused = f"{'the second start: ' if reads else ''}{error}"
    outcome.errors = [f"{each}" for each in logged if each["log_level"] in ("error", "warning")]
    return outcome


TOLD = ("set aside", "left out", "not restored", "ignored")


def _must_be_counted(kept: Kept, logged: list) -> None:
    """What the log says to be left out is counted, and nothing else is."""
    counted = sum(kept.node.broker.set_aside.values())
    told = [each for each in logged if each["event"].endswith(TOLD)]
    assert bool(counted) == bool(told), (kept.node.broker.set_aside, told)


def _publish(kept: Kept, word: str) -> None:
    for queue in (*QUEUES, "new"):
        if queue == "new":
            kept.node.queue("new", durable=True)
        for number in range(3):
            if queue in kept.node.vhost.queues:
                headers = {"x-deduplication-header": f"{word}{number}"}
                kept.client.publish(f"<{word} {queue}{number}>", queue, delivery_mode=2, headers=headers)
    kept.settle()


def _read(kept: Kept, outcome: Outcome) -> None:
    for name, queue in list(kept.node.vhost.queues.items()):
        if hasattr(queue, "serving"):
            _read_stream(kept, name, outcome)
            continue
        try:
            while (taken := kept.get(name)) is not None:
                outcome.bodies.add(taken[1].message.body.decode("latin-1"))
                _ = taken[1].message.properties
        except InternalError:
            outcome.stuck = True


def _read_stream(kept: Kept, name: str, outcome: Outcome) -> None:
    client = kept.node.client()
    client.consume(name, "reader", prefetch=1000, arguments={"x-stream-offset": "first"})
    kept.settle()
    for _, _, entry in client.delivered:
        outcome.bodies.add(entry.message.body.decode("latin-1"))
        _ = entry.message.properties
    outcome.stuck = outcome.stuck or bool(client.ended or client.crashed)
    client.session.close()


def verify(ground: Ground, path: Path, loose: Bodies | None) -> None:
    """Start on a changed directory, check it and repair it. Messages in ``loose`` may be missing.

    Raises AssertionError, Hang, and whatever a start or a command raises that it should not.
    """
    with time_limit():
        mended = path.with_name("mended")
        shutil.rmtree(mended, ignore_errors=True)
        shutil.copytree(path, mended)
        checked = _command("check", path)
        dumped = _command("dump", path)
        outcome = start(path)
        told = checked.exit_code == 1 or "warning" in checked.output or "refused" in checked.output
        if outcome.refused:
            assert checked.exit_code == 1, (outcome.refused, checked.output)
        if outcome.errors:
            assert told, (outcome.errors, checked.output)
        known = outcome.bodies | _set_aside(path)
        if outcome.refused or outcome.stuck:
            assert checked.exit_code == 1, (outcome, checked.output)
        if "MetadataError" in outcome.refused or "metadata.sqlite" in outcome.refused:
            return  # a backup is the only way out
        if checked.exit_code == 1:
            repaired = _command("check", mended, "--repair")
            assert repaired.exit_code == 0, repaired.output
            assert _command("dump", mended).exit_code == 0
            again = start(mended)
            assert not again.refused, again.refused
            assert not again.stuck, (again, repaired.output)
            missing = ground.bodies - again.bodies - _set_aside(mended)
            if loose is not EVERYTHING:
                assert missing <= loose, (missing - loose, repaired.output)
            if outcome.refused or outcome.stuck:
                return
        missing = ground.bodies - known
        if loose is not EVERYTHING:
            assert missing <= loose, (sorted(missing - loose), outcome.errors, checked.output)
        elif missing:
            assert outcome.errors or told, missing
        assert {f"<fresh {queue}{number}>" for queue in ("new",) for number in range(3)} <= outcome.bodies
        assert dumped.exit_code == 0 or told, dumped.output


def _command(*arguments: object):
    result = run(*arguments)
    failed = result.exception
    if failed is not None and not isinstance(failed, SystemExit):
        raise failed
    assert result.exit_code in (0, 1), result.output
    return result


def _set_aside(path: Path) -> set[str]:
    """The bodies in the files that a start or a repair has set aside."""
    found: set[str] = set()
    place = path / "set-aside" / "unreadable"
    for file in place.rglob("*") if place.is_dir() else ():
        if file.is_file():
            found |= bodies_in(file.read_bytes())
    return found


# -- the command ---------------------------------------------------------------------------------------------

EDGES = (*range(6), 255, 1 << 16, 1 << 31, (1 << 32) - 1, 1 << 40, 1 << 62, 1 << 63, (1 << 64) - 1)


def check_change(ground: Ground, name: str, which: int, field: int, number: int) -> None:
    """Make one change to a copy of the directory, and verify what becomes of it."""
    path = ground.path.with_name("changed")
    shutil.rmtree(path, ignore_errors=True)
    shutil.copytree(ground.path, path)
    loose = CHANGES[name](ground, path, which, field, number)
    verify(ground, path, loose)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.stored", description=__doc__)
    parser.add_argument("--target", choices=CHANGES)
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    options = parser.parse_args()
    names = [options.target] if options.target else list(CHANGES)
    random, end, count = Random(options.seed), time.monotonic() + options.seconds, 0
    with tempfile.TemporaryDirectory(prefix="leveret-stored-", dir=MEMORY) as path:
        ground = build(Path(path) / "data")
        while time.monotonic() < end:
            number = random.choice(EDGES) if random.random() < 0.6 else random.randrange(1 << 64)
            given = random.choice(names), random.randrange(1 << 20), random.randrange(64), number
            try:
                check_change(ground, *given)
            except BaseException:
                print(
                    f"after {count} changes: check_change(ground, {', '.join(map(repr, given))})", flush=True
                )
                raise
            count += 1
    print(f"{count} changes with seed {options.seed}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
