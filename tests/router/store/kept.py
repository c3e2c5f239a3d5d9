"""A broker that keeps what it does in a data directory, whose jobs are done when the test says so."""

from collections import deque
from pathlib import Path

from router.queue.paging import NotAtHand
from router.store.access import keep_access
from router.store.boot import DataDirectory, make_writer, read, restore
from router.store.reader import Reader
from router.store.store import Store
from router.store.writer import ReadPage
from tests.router.harness import START, Node


class InlineDisk:
    """A ``Disk`` whose jobs wait until they are let through; reading goes beside writing."""

    def __init__(self):
        self.writes = deque()
        self.reads = deque()

    def submit(self, job):
        (self.reads if isinstance(job, ReadPage) else self.writes).append(job)


class Kept:
    """One data directory, and the broker that lives there now."""

    def __init__(self, path: Path, *, budget: int = 0, journal_size: int = 4096, **settings):
        self.path = path
        self.budget = budget
        self.journal_size = journal_size
        self.settings = settings
        self.open()

    def open(self) -> None:
        self.directory = DataDirectory(self.path)
        opened = read(self.directory)
        self.writer = make_writer(self.directory, opened.recovered, self.journal_size)
        self.reader = Reader(self.directory.files, self.path)
        self.disk = InlineDisk()
        self.node = Node(**self.settings)
        self.broker = self.node.broker
        self.store = Store(
            self.disk,
            sync=True,
            sequence=opened.recovered.sequence,
            segment=max(opened.segments, default=0) + 1,
            next_queue_id=opened.next_queue_id,
            wall_offset=1_700_000_000_000,
            changed=self.broker.committed,
            budget=self.budget,
        )
        restore(self.broker, self.store, self.directory, opened, 1_700_000_000_000)
        self.node.vhost = self.broker.add_vhost("/")
        self.store.change(*keep_access(self.broker))
        self.node.settle()

    def step(self, *, reading: bool) -> bool:
        """Do the next job; False when there is none."""
        jobs, run = (self.disk.reads, self.reader.run) if reading else (self.disk.writes, self.writer.run)
        if not jobs:
            return False
        job = jobs.popleft()
        try:
            result, error = run(job), None
        except FileNotFoundError as missing:  # its segment has gone, which is well if nobody waits for it
            result, error = 0, missing
        self.store.done(job, result, error)
        self.node.settle()
        return True

    def read(self) -> None:
        """Do everything that only reads."""
        while self.step(reading=True):
            pass

    def write(self) -> None:
        """Do everything there is to do."""
        while self.step(reading=False) or self.step(reading=True):
            pass

    def restart(self, *, crash: bool = False, now: int = 0) -> None:
        """Stop, in good order or not, and come back. Only in good order is everything written first."""
        if not crash:
            self.node.settle()
            self.write()
            self.writer.close()
        else:
            self.writer._metadata.close()
        self.directory.close(clean=not crash)
        self.open()
        self.broker.now = max(self.broker.now, START + now)

    def close(self) -> None:
        self.writer.close()
        self.directory.close(clean=True)

    def get(self, client, queue="q", *, no_ack=True):
        """As a client's basic.get, which waits for the disk."""
        for _ in range(10):
            try:
                return client.session.get(queue, no_ack=no_ack)
            except NotAtHand:
                self.read()
        raise AssertionError("the next message does not come into memory")
