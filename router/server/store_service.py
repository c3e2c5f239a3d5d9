"""Store of a running broker: its backend, its threads, and passing their results to the core."""

import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import TypeVar

import structlog
import trio
from msgspec import Struct, field

from leveret.router.broker.alarms import STORE
from leveret.router.broker.broker import Broker
from leveret.router.server.driver import Driver
from leveret.router.server.os_metrics import memory_limit
from leveret.router.server.resource_monitor import set_alarm
from leveret.router.server.snapshot_threads import SnapshotThreads
from leveret.router.server.startup_log import totals
from leveret.router.server.store_thread import Worker
from leveret.router.store.backend import DeposedError, StorageBackend
from leveret.router.store.journal.sync_interval import IntervalSync
from leveret.router.store.opening import DataDirectory, make_writer, read, restore
from leveret.router.store.segments.reader import SegmentReader
from leveret.router.store.store import Store
from leveret.router.store.streams.files import ReadStream
from leveret.router.store.streams.writer import RemoveStream, StreamWriter, WriteStream
from leveret.router.store.writer import Commit, Job, ReadPage, Result

T = TypeVar("T")

ADVICE = "Nothing was confirmed that is not on disk. Start the broker again, and report the error"
RETRY = 1000  # ms until a failed write is repeated
DELAY = 100  # ms until data is written that no client waits for
FINISH = 1.5  # seconds that a stopping broker waits for the disk
SHARE = 10  # ready messages may use this part of the memory limit, a tenth,
MOST = 1 << 27  # and at most this many bytes: reading ahead is fast enough


class _Disk(Struct):
    """Passes jobs to the threads. The broker is restored before the threads run; until then jobs
    wait here.
    """

    writer: Worker | None = None
    reader: Worker | None = None
    streams: Worker | None = None
    early: list[Job] = field(default_factory=list)

    def submit(self, job: Job) -> None:
        if isinstance(job, ReadPage | ReadStream):
            worker = self.reader
        else:
            worker = self.streams if isinstance(job, WriteStream | RemoveStream) else self.writer
        if worker is None:
            self.early.append(job)
        else:
            worker.submit(job)


class _Flush(Struct):
    """Timer target that writes deferred data."""

    store: Store
    finished = False

    def on_timer(self, now: int) -> None:
        self.store.flush()


class _Progress:
    """Logs every second how much of the journal was read."""

    def __init__(self, log: structlog.typing.FilteringBoundLogger) -> None:
        self._log = log
        self._next = time.monotonic() + 1

    def __call__(self, path: Path, offset: int) -> None:
        if time.monotonic() >= self._next:
            self._next += 1
            self._log.info("restoring", journal=path.name, offset=offset)


class StoreService:
    """Stores a broker in a backend, from ``start`` to ``finish``."""

    def __init__(self, broker: Broker, backend: StorageBackend) -> None:
        """Read the backend and restore the broker from it.

        Raises StorageError, MetadataError, DamageError and FormatError.
        """
        settings = broker.settings.store
        self._log = structlog.get_logger()
        self._broker = broker
        self._driver: Driver | None = None
        self._backend = backend
        self.deposed = False  # True if the store is broken because another broker has taken it over
        self.snapshots: SnapshotThreads | None = None  # set by ``start``
        began = time.monotonic()
        opened = read(backend, _Progress(self._log))
        for line in opened.recovered.cut:
            self._log.warning("journal truncated", what=line)
        self._writer = make_writer(backend, opened.recovered, settings.journal_size)
        self._disk = _Disk()
        self._idle = trio.Event()
        self.broken = trio.Event()  # set if the store has failed: the broker has to stop
        broker.wall_offset = wall_offset = time.time_ns() // 1_000_000 - broker.now
        self.store = Store(
            self._disk,
            sync=settings.sync == "always",
            sequence=opened.recovered.sequence,
            segment=max(opened.segments, default=0) + 1,
            next_queue_id=opened.next_queue_id,
            wall_offset=lambda: broker.wall_offset,
            changed=self._changed,
            budget=settings.memory or min(memory_limit() // SHARE, MOST),
            put_off=self._put_off,
            start=broker.backlog.start,
        )
        self._flush = _Flush(self.store)
        self._interval: IntervalSync | None = None
        if settings.sync == "interval":
            self._interval = IntervalSync(self.store, settings.sync_interval, broker.schedule)
        self.restored = restore(broker, self.store, backend, opened, wall_offset)
        if broker.vhosts:  # else the store is new
            took = round(time.monotonic() - began, 3)
            self._log.info("restored", data=str(backend.path), **totals(broker), seconds=took)

    def start(self, driver: Driver) -> None:
        """Start writing; called inside of Trio."""
        self._driver = driver
        backend = self._backend
        reader = SegmentReader(backend.files, backend.path)
        self._disk.writer = Worker("writer", self._writer.run, self._done, self._writer.close)
        self._disk.reader = Worker("reader", reader.run, self._done)
        streams = StreamWriter(backend.files, backend.path)
        self._disk.streams = Worker("streams", streams.run, self._done, streams.close)
        for job in self._disk.early:
            self._disk.submit(job)
        if isinstance(backend, DataDirectory):
            self.snapshots = SnapshotThreads(
                backend.path, driver, self._writer, self._disk.writer, self._disk.streams
            )

    def interject(self, work: Callable[[], T]) -> "Future[T]":
        """Run a call in the thread of the writer between two of its jobs; return its future."""
        assert self._disk.writer is not None
        return self._disk.writer.interject(work)

    def _done(self, job: Job, result: Result, error: Exception | None) -> None:
        """Handle the result of a job of a thread, in a turn of its own."""
        assert self._driver is not None
        now = self._driver.begin(f"result of {type(job).__name__}")
        try:
            if isinstance(error, DeposedError):
                self.deposed = True
                self.store.break_off(error)
            elif self.store.done(job, result, error):
                what = "reading failed" if isinstance(job, ReadPage | ReadStream) else "writing failed"
                self._log.error(what, error=str(error), again_in_ms=RETRY)
                self._broker.schedule(now + RETRY, self.store)
        except Exception as failure:
            # Later commits might be wrong: it is better to restart with what is on disk.
            self.store.break_off(failure)
        if self._interval is not None:
            self._interval.wrote(now)
        self._driver.end()
        self._driver.release_waiting(committed=isinstance(job, Commit))
        if not self.store.busy():
            self._idle.set()

    def _changed(self) -> None:
        """Update the alarm and let clients continue, after a commit or a failed write.

        Commits may succeed while other jobs fail.
        """
        failure, broken = self.store.failure, self.store.broken
        if broken is not None and not self.broken.is_set():
            if self.deposed:
                self._log.error("the store has another owner", reason=str(broken))
            else:
                self._log.error("the store failed", exc_info=broken, advice=ADVICE)
            self._broker.alarms.set(STORE, raised=True)  # until the broker has stopped
            self.broken.set()
        set_alarm(self._broker.alarms, STORE, failure is not None, **({"error": failure} if failure else {}))
        self._broker.notify_committed()

    def _put_off(self) -> None:
        """Schedule the write of data that no client waits for."""
        self._broker.schedule(self._broker.now + DELAY, self._flush)

    async def finish(self) -> None:
        """Write everything and release the directory; do not wait for a disk that fails."""
        self.store.end_turn()
        self.store.flush()
        self._idle = trio.Event()
        error: Exception | None = None
        with trio.move_on_after(FINISH) as waiting:
            if self.store.busy():
                await self._idle.wait()
            disk = self._disk
            if disk.reader is not None and disk.streams is not None and disk.writer is not None:
                await disk.reader.finish()
                error = await disk.streams.finish()
                error = await disk.writer.finish() or error
        clean = error is None and not waiting.cancelled_caught and self.store.broken is None
        if not clean:
            failure = self.store.failure or (error and str(error))
            self._log.error("stopped with unwritten data", error=failure)
        await self._close(clean=clean)

    async def _close(self, *, clean: bool) -> None:
        """Release the backend; do not wait for a server that does not answer."""
        close = partial(self._backend.close, clean=clean, sequence=self._writer.synced)
        error: Exception | None = None
        with trio.move_on_after(FINISH) as waiting:
            try:
                await trio.to_thread.run_sync(close, abandon_on_cancel=True)
            except (OSError, DeposedError) as failed:
                error = failed
        if error is not None or waiting.cancelled_caught:
            why = "the store does not answer" if error is None else str(error)
            self._log.error("the stop was not recorded", error=why)
