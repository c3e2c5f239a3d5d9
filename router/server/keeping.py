"""A store at work: the data directory, the committer's thread, and the core told of what is on disk."""

import time
from dataclasses import dataclass
from pathlib import Path

import structlog
import trio

from router.broker import Broker
from router.server.committer import Committer
from router.server.driver import Driver
from router.store.access import keep_access
from router.store.boot import DataDirectory, make_writer, read, restore
from router.store.store import Store
from router.store.writer import Job

RETRY = 1000  # ms until a failed write is tried again
DELAY = 100  # ms until that is written which nobody waits for
FINISH = 1.5  # seconds that a stopping broker waits for the disk


@dataclass(slots=True)
class _Disk:
    """Stands in for the committer until its thread runs: a store is made before it."""

    committer: Committer | None = None

    def submit(self, job: Job) -> None:
        assert self.committer is not None
        self.committer.submit(job)


@dataclass(slots=True)
class _Flush:
    """A target of the timers: the moment to write what was put off."""

    store: Store
    finished = False

    def on_timer(self, now: int) -> None:
        self.store.flush()


class Keeping:
    """Keeps a broker in a data directory, from ``start`` to ``finish``."""

    def __init__(self, broker: Broker, path: Path) -> None:
        """Lock and read the directory and restore the broker from it.

        Raises DataDirectoryError, MetadataError and DamageError.
        """
        settings = broker.settings.store
        self._log = structlog.get_logger()
        self._broker = broker
        self._driver: Driver | None = None
        self._directory = DataDirectory(path)
        began = time.monotonic()
        opened = read(self._directory)
        for line in opened.recovered.cut:
            self._log.warning("journal cut", what=line)
        self._writer = make_writer(self._directory, opened.recovered, settings.journal_size)
        self._disk = _Disk()
        self._idle = trio.Event()
        wall_offset = time.time_ns() // 1_000_000 - broker.now
        self.store = Store(
            self._disk,
            sync=settings.sync == "always",
            sequence=opened.recovered.sequence,
            segment=max(opened.segments, default=0) + 1,
            next_queue_id=opened.next_queue_id,
            wall_offset=wall_offset,
            changed=self._changed,
            put_off=self._put_off,
        )
        self._flush = _Flush(self.store)
        restore(broker, self.store, self._directory, opened, wall_offset)
        messages = sum(len(each.ready) for vhost in broker.vhosts.values() for each in vhost.queues.values())
        took = round(time.monotonic() - began, 3)
        self._log.info("restored", queues=len(opened.rows), messages=messages, seconds=took)

    def keep_access(self) -> None:
        """Have virtual hosts, users, rights and policies kept as they are now."""
        self.store.change(*keep_access(self._broker))

    def start(self, driver: Driver) -> None:
        """Begin to write; called inside of Trio."""
        self._driver = driver
        self._disk.committer = Committer(self._writer, self.store.done)

    def _changed(self) -> None:
        """More is on disk, or writing failed."""
        assert self._driver is not None
        now = self._driver.begin()
        if self.store.failure is not None:
            self._log.error("writing failed", error=self.store.failure, again_in_ms=RETRY)
            self._broker.schedule(now + RETRY, self.store)
        else:
            self._broker.committed()
        self._driver.end()
        if not self.store.busy():
            self._idle.set()

    def _put_off(self) -> None:
        """Something has gathered that nobody waits for."""
        self._broker.schedule(self._broker.now + DELAY, self._flush)

    async def finish(self) -> None:
        """Have everything on disk and let go of the directory; do not wait for a disk that fails."""
        self.store.end_turn()
        self.store.flush()
        self._idle = trio.Event()
        with trio.move_on_after(FINISH) as waiting:
            if self.store.busy():
                await self._idle.wait()
            if self._disk.committer is not None:
                await self._disk.committer.finish()
        if waiting.cancelled_caught:
            self._log.error("stopped without having written everything", error=self.store.failure)
        self._directory.close(clean=not waiting.cancelled_caught)
