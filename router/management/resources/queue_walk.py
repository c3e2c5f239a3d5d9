"""Iteration over the ready messages of a queue without delivering them, in slices.

Responsible for reading messages that are only on disk, and for releasing them. ``message_browsing`` shows,
moves and deletes the messages.
"""

from collections.abc import Iterable, Iterator

from leveret.protocol.http import HttpError
from leveret.router.queue.entry import Entry
from leveret.router.queue.paged_run import Run
from leveret.router.queue.queue import Queue
from leveret.router.web.response_steps import ResponseSteps

SLICE = 500  # messages that are visited before other tasks run
STEPS = 5000  # steps of selectors in the same time: about a millisecond
HEADER_BYTES = 1  # of the headers that a selector reads, decoded in the time of a step
BODY_BYTES = 64  # of a body, shown in the time of a step
READ_PAUSE, READ_TIMEOUT = 0.005, 5.0  # seconds between two looks for a page, and the maximum wait for it


class QueueWalk:
    """Iteration over a queue, from its first ready message to the last one at the start.

    ``selector_cost`` is the cost of the selector that is evaluated for each message, 0 without one; bodies
    are read up to ``shown`` bytes.
    """

    def __init__(self, queue: Queue, start: int = 0, *, selector_cost: int = 0, shown: int = 0) -> None:
        self.queue = queue
        self.examined = 0
        self._selector_cost = selector_cost
        self._shown = shown
        self._unfinished: Run | None = None  # some of its messages were not visited yet
        self._end = queue.next_position
        self._passed: dict[int, int] = {}  # last visited position, by priority
        self._start = start

    def next(self) -> ResponseSteps[tuple[list[Entry], Run | None] | None]:
        """Return the next messages, as many as can be examined in one step; None at the end.

        All of them are of the returned paged run, or of none. They stay in memory until the step ends. Raises
        HttpError 503 if a page cannot be read.
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
            left = STEPS
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
                        some = list(self._affordable(inside))
                        self._unfinished = part if len(some) < len(inside) else None
                        self._passed[line.priority] = some[-1].position
                        return some, part
                elif part.position < self._end:
                    entries.append(part)
                    left -= self._cost(part)
                    if left <= 0:
                        break
                else:
                    break
            if entries:
                self._passed[line.priority] = max(entry.position for entry in entries)
                return entries, None
        return None

    def _affordable(self, entries: Iterable[Entry]) -> Iterator[Entry]:
        """Yield as many messages as can be examined in one step, at least one."""
        left = STEPS
        for entry in entries:
            yield entry
            left -= self._cost(entry)
            if left <= 0:
                break

    def _cost(self, entry: Entry) -> int:
        """Return the time to examine a message, in steps."""
        message = entry.message
        cost = STEPS // SLICE + min(message.size, self._shown) // BODY_BYTES
        if self._selector_cost:
            cost += self._selector_cost + (len(message.frames) - message.size) // HEADER_BYTES
        return cost

    def release(self, run: Run | None) -> None:
        """Release the messages of a run after the visit, unless the next messages are of the same run."""
        if run is not None and run is not self._unfinished and self.queue.paging is not None:
            self.queue.paging.unload(run)

    def close(self) -> None:
        """Release the messages of a run that was visited in part."""
        run, self._unfinished = self._unfinished, None
        self.release(run)
