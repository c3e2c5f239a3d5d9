"""Iteration over the ready messages of a queue without delivering them, in slices.

Responsible for reading messages that are only on disk, and for releasing them. Not for what is done with the
messages (see ``message_browsing``).
"""

from leveret.protocol.http import HttpError
from leveret.router.queue.entry import Entry
from leveret.router.queue.paged_run import Run
from leveret.router.queue.queue import Queue
from leveret.router.web.response_steps import ResponseSteps

SLICE = 500  # messages that are visited before other tasks run
READ_PAUSE, READ_TIMEOUT = 0.005, 5.0  # seconds between two looks for a page, and the maximum wait for it


class QueueWalk:
    """Iteration over a queue, from its first ready message to the last one at the start."""

    def __init__(self, queue: Queue, start: int = 0) -> None:
        self.queue = queue
        self.examined = 0
        self._end = queue.next_position
        self._passed: dict[int, int] = {}  # last visited position, by priority
        self._start = start

    def next(self) -> ResponseSteps[tuple[list[Entry], Run | None] | None]:
        """Return the next messages, of one paged run or of none; None at the end.

        They stay in memory until the step ends. Raises HttpError 503 if a page cannot be read.
        """
        waited = 0.0
        while not self.queue.deleted:
            found = self._find()
            if found is None:
                return None
            entries, run = found
            if entries:
                self.examined += len(entries)
                return entries, run
            assert run is not None
            if run.damage:
                raise HttpError(503, run.damage)
            if waited > READ_TIMEOUT:
                raise HttpError(503, "the disk did not answer in time")
            if self.queue.paging is not None:
                self.queue.paging.fetch(run)
            waited += READ_PAUSE
            yield READ_PAUSE
        return None

    def _find(self) -> tuple[list[Entry], Run | None] | None:
        """Return unvisited messages; an empty list if their run has to be read first; None at the end."""
        for line in self.queue.ready.lines:
            entries: list[Entry] = []
            passed = self._passed.get(line.priority, self._start - 1)
            for part in line.parts(passed + 1):
                if isinstance(part, Run):
                    if entries:
                        break
                    if part.entries is None:
                        if part.position + part.count > passed + 1 and part.position < self._end:
                            return [], part
                        continue
                    inside = [each for each in part.entries if passed < each.position < self._end]
                    if inside:
                        self._passed[line.priority] = inside[-1].position
                        return inside, part
                elif part.position < self._end:
                    entries.append(part)
                    if len(entries) == SLICE:
                        break
                else:
                    break
            if entries:
                self._passed[line.priority] = max(entry.position for entry in entries)
                return entries, None
        return None

    def release(self, run: Run | None) -> None:
        """Release the messages of a run after the visit."""
        if run is not None and self.queue.paging is not None:
            self.queue.paging.unload(run)
