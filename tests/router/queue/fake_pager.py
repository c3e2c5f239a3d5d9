"""A pager that keeps pages in a list, and reads and writes at calls of ``land``."""

from leveret.router.queue.entry import QueuedEntry


class FakePage:
    """Messages of one run, as they were when it was written."""

    def __init__(self, entries):
        self.entries = list(entries)
        self.settled = set()
        self.written = False

    @property
    def live(self):
        return len(self.entries) - len(self.settled)

    def settle(self, position):
        self.settled.add(position)

    def give_back(self, position, returns):
        raise AssertionError("none of these messages is stored")

    def read(self):
        """The live messages, as others than those that were written."""
        for entry in self.entries:
            if entry.position not in self.settled:
                yield QueuedEntry(entry.message, entry.position, entry.expires)


class FakePager:
    """``writes`` and ``reads`` are the runs that wait for it, each with its queue."""

    def __init__(self):
        self.weights = {}
        self.writes = []
        self.reads = []
        self.released = []

    def weigh(self, queue, weight):
        self.weights[queue.name] = weight

    def write(self, queue, run):
        run.page = FakePage(run.entries)
        self.writes.append((queue, run))

    def read(self, queue, run):
        assert run.page.written
        self.reads.append((queue, run))

    def release(self, queue, run):
        self.released.append(run)

    def finish_writing(self):
        """Have everything on disk, and nothing of it in memory."""
        while self.writes:
            _, run = self.writes.pop(0)
            run.page.written = True
            if run.away:
                run.entries = None

    def land(self, count=1):
        """Bring the runs that were asked for first into memory; return how many others were not read."""
        for _ in range(count):
            queue, run = self.reads.pop(0)
            if queue.paging is not None:  # else it is deleted
                queue.paging.loaded(run, list(run.page.read()))
        return len(self.reads)

    def land_all(self, node):
        """Read whatever is asked for until nothing is."""
        while self.reads:
            self.land()
            node.settle()
