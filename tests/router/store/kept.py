"""A real data directory, written by a broker without Trio through the real store and writer."""

from collections import deque
from pathlib import Path

from leveret.protocol.amqp.message import Message
from leveret.router.broker.administration import Administration
from leveret.router.broker.alarms import STORE
from leveret.router.queue.paging import NextMessagePending
from leveret.router.store.backend import StorageBackend
from leveret.router.store.files import Files
from leveret.router.store.journal.recovery import recover
from leveret.router.store.offline.directory import ReadOnlyFiles, read_metadata
from leveret.router.store.offline.dump import queue_messages
from leveret.router.store.opening import DataDirectory, make_writer, read, restore
from leveret.router.store.segments.reader import SegmentReader
from leveret.router.store.store import Store
from leveret.router.store.streams.files import ReadStream
from leveret.router.store.streams.writer import RemoveStream, StreamWriter, WriteStream
from leveret.router.store.writer import Commit, ReadPage, SaveCheckpoint, Sync
from leveret.router.turns.backlog import start_at_once
from tests.router.harness import Node

RETRY = 1000  # ms until a job that failed is done again


class Kept:
    """A broker on the directory; ``settle`` puts all changes on disk."""

    def __init__(
        self,
        path: Path | StorageBackend,
        *,
        journal_size: int = 4096,
        sync: bool = True,
        retires: bool = True,
        budget: int = 1 << 62,
        files: Files | None = None,
        wall_offset: int = 0,
        sliced: bool = False,
    ) -> None:
        """``files`` hold everything but the metadata, which is SQLite's business and in ``path`` in any case.

        ``path`` is a data directory, or the backend of another store.

        Without ``retires`` the journal files pile up, as when a broker stops before they are given up. If
        ``sliced``, long work of the store continues with ``continue_work``.
        """
        self.retires = retires
        self._jobs = deque()
        self._reads = deque()
        self._sliced = sliced
        self._work = deque()
        self.node = Node()
        self.node.broker.wall_offset = wall_offset
        self.directory = DataDirectory(path, files) if isinstance(path, Path) else path
        self.reader = SegmentReader(self.directory.files, self.directory.path)
        self.streams = StreamWriter(self.directory.files, self.directory.path)
        try:
            opened = read(self.directory)
            self.writer = make_writer(self.directory, opened.recovered, journal_size)
            self.store = Store(
                self,
                sync=sync,
                sequence=opened.recovered.sequence,
                segment=max(opened.segments, default=0) + 1,
                next_queue_id=opened.next_queue_id,
                wall_offset=lambda: self.node.broker.wall_offset,
                changed=self._changed,
                put_off=lambda: None,
                budget=budget,
                start=self._start,
            )
            restore(self.node.broker, self.store, self.directory, opened, wall_offset)
        except BaseException:
            self.directory.metadata.close()
            self.directory.close(clean=False)
            raise
        self.cut = opened.recovered.cut
        self.administration = Administration(self.node.broker)
        self.node.settle()
        self.client = self.node.client()

    def submit(self, job):
        if isinstance(job, SaveCheckpoint):  # no file that it removes may be named in it
            named = {page.segment for queue in job.checkpoint.queues for page in queue.pages}
            assert named.isdisjoint(job.segments)
        (self._reads if isinstance(job, ReadPage | ReadStream) else self._jobs).append(job)

    def _changed(self):
        """More is on disk, or writing failed."""
        self.node.broker.alarms.set(STORE, raised=self.store.failure is not None)
        self.node.broker.notify_committed()

    def _start(self, what, slices):
        if self._sliced:
            self._work.append(slices)
        else:
            start_at_once(what, slices)

    def continue_work(self) -> bool:
        """Run a slice of the store's long work; False if there is none."""
        if not self._work:
            return False
        slices = self._work[0]
        if next(slices, True):
            self._work.remove(slices)
        self.node.settle()
        return True

    def step(self) -> bool:
        """Do the next job that writes; False when there is none."""
        while self._jobs:
            job = self._jobs.popleft()
            if self.retires or isinstance(job, Commit | Sync):
                self._do(job, self.streams if isinstance(job, WriteStream | RemoveStream) else self.writer)
                return True
        return False

    def read(self) -> None:
        """Do everything that only reads."""
        while self._reads:
            self._do(self._reads.popleft(), self.reader)

    def _do(self, job, hand) -> None:
        """As a broker does whose threads these are; what fails is done again when ``RETRY`` has passed."""
        try:
            result, error = hand.run(job), None
        except Exception as failure:
            result, error = 0, failure
        try:
            if self.store.done(job, result, error):
                self.node.broker.schedule(self.node.broker.now + RETRY, self.store)
        except Exception as failure:
            self.store.break_off(failure)
        try:
            self.node.settle()
        except Exception as failure:
            if not self.node.broker.failed(failure):
                raise

    def get(self, queue: str = "q", *, no_ack: bool = True):
        """As a client's basic.get, which waits for the disk."""
        for _ in range(10):
            try:
                return self.client.session.get(queue, no_ack=no_ack)
            except NextMessagePending:
                self.read()
        raise AssertionError("the next message does not come into memory")

    def publish(self, *bodies: str, queue: str = "q", **properties):
        """Each in a batch of its own."""
        for body in bodies:
            self.client.publish(body, queue, delivery_mode=2, **properties)
            self.settle()

    def take(self, count: int, queue: str = "q"):
        for _ in range(count):
            assert self.client.get(queue) is not None
        self.settle()

    def settle(self):
        self.node.settle()
        self.store.flush()
        while self._jobs or self._reads or self._work:
            self.continue_work()
            self.step()
            self.read()
            self.store.flush()

    def stop(self):
        self.settle()
        self.writer.close()
        self.directory.close(clean=True, sequence=self.writer.synced)

    def crash(self):
        self.directory.metadata.close()
        self.directory.close(clean=False)


def contents(path: Path, stopped: int = 0) -> dict[str, dict[int, str]]:
    """By queue and position, the bodies that a reader finds: as a broker does, changing nothing."""
    rows, _ = read_metadata(path)
    found = recover(ReadOnlyFiles(), path, [row.id for row in rows], stopped=stopped)
    return {
        row.name: {
            each.position: Message.from_frames(each.route, each.frames).body.decode("latin-1")
            for each in queue_messages(ReadOnlyFiles(), path, found.queues[row.id])
        }
        for row in rows
    }
