"""A real data directory, written by a broker without Trio through the real store and writer."""

from collections import deque
from pathlib import Path

from protocol.amqp.message import Message
from router.store.access import keep_access
from router.store.boot import DataDirectory, make_writer, read, restore
from router.store.dump import queue_messages
from router.store.offline import ReadOnlyFiles, read_metadata
from router.store.recovery import recover
from router.store.store import Store
from router.store.writer import Commit, Sync
from tests.router.harness import Node


class Kept:
    """Whoever starts on the directory; ``settle`` has everything on disk."""

    def __init__(
        self, path: Path, *, journal_size: int = 4096, sync: bool = True, retires: bool = True
    ) -> None:
        """Without ``retires`` the journal files pile up, as when a broker stops before they are given up."""
        self.retires = retires
        self.node = Node()
        self.directory = DataDirectory(path)
        try:
            opened = read(self.directory)
            self.writer = make_writer(self.directory, opened.recovered, journal_size)
            self.store = Store(
                self,
                sync=sync,
                sequence=opened.recovered.sequence,
                segment=max(opened.segments, default=0) + 1,
                next_queue_id=opened.next_queue_id,
                wall_offset=0,
                changed=lambda: None,
            )
            restore(self.node.broker, self.store, self.directory, opened, 0)
        except BaseException:
            self.directory.metadata.close()
            self.directory.close(clean=False)
            raise
        self.cut = opened.recovered.cut
        self.store.change(*keep_access(self.node.broker))
        self.client = self.node.client()
        self._jobs = deque()

    def submit(self, job):
        self._jobs.append(job)

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
        while self._jobs:
            job = self._jobs.popleft()
            if not self.retires and not isinstance(job, Commit | Sync):
                continue
            self.store.done(job, self.writer.run(job), None)

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
