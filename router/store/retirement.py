"""How journal files go: what lives on in the oldest one moves into pages, then a checkpoint takes its place.

Owns the pages' places in the segments and the one file that is being retired. It works in small steps, each
begun by the end of the one before, so that it never holds up the broker.
"""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from router.queue.entry import Entry
from router.store.checkpoint import Checkpoint, PageState, QueueState
from router.store.pages import Page, Stored, pack_page
from router.store.writer import Job, SaveCheckpoint, WritePages

if TYPE_CHECKING:
    from router.store.store import QueueLog

PAGE_BYTES = 1 << 20  # a page ends with the message that brings it to so many bytes
PAGE_MESSAGES = 2048
SEGMENT_BYTES = 1 << 26


class Submits(Protocol):
    """Whoever has jobs done."""

    def submit(self, job: Job) -> None: ...


class JournalFile(NamedTuple):
    """A journal file, the sequence of its first batch, and the logs with publishes in it."""

    number: int
    first: int
    logs: dict["QueueLog", None]


class Retirement:
    """The journal files there are, from the oldest to the one that is being written."""

    def __init__(
        self,
        disk: Submits,
        logs: Mapping[int, "QueueLog"],
        *,
        segment: int,
        wall_offset: int,
    ) -> None:
        """``segment`` is the number of the first segment file to be made; ``wall_offset`` as in ``Store``."""
        self._disk = disk
        self._logs = logs
        self._wall_offset = wall_offset
        self._files: deque[JournalFile] = deque()  # the last is being written
        self._busy = False  # the first is being retired
        self._committed = 0
        self._logs_to_move: deque[QueueLog] = deque()
        self._entries_to_move: deque[Entry] = deque()  # of the first of them
        self._waiting: tuple[int, SaveCheckpoint] | None = None  # to be saved once so much is committed
        self._segment = segment
        self._segment_end = 0
        self._live: dict[int, int] = {}  # pages with live messages, by segment

    def recovered(self, number: int, first: int, segments: Iterable[int]) -> None:
        """The broker came back from journal files up to this one (0: none): they are retired as one, soon.

        Of the ``segments`` there are, those go with them that hold nothing live.
        """
        self._live = dict.fromkeys(segments, 0)
        logs = dict.fromkeys(self._logs.values())
        if number:
            self._files.append(JournalFile(number, first, logs))
        for log in logs:
            for page in log.pages:
                self._live[page.segment] += 1

    def wrote(self, sequence: int, file: int, fresh: Mapping["QueueLog", None]) -> None:
        """A batch is in the journal: in which file, and whose publishes it holds."""
        if not self._files or self._files[-1].number != file:
            self._files.append(JournalFile(file, sequence, {}))
        self._files[-1].logs.update(fresh)

    def committed(self, batch: int, gathered: int) -> None:
        """A batch is on disk. ``gathered`` is the one by which everything will be that was done until now."""
        self._committed = batch
        self._save()
        self._begin(gathered)

    def done(self, job: Job, gathered: int) -> None:
        """A step is on disk: take the next."""
        if isinstance(job, WritePages):
            self._step(gathered)
        elif isinstance(job, SaveCheckpoint):
            self._busy = False
            self._begin(gathered)

    def page_died(self, page: Page) -> None:
        """All messages of a page are settled."""
        self._live[page.segment] -= 1

    def _begin(self, gathered: int) -> None:
        """Retire the oldest file if it is full and no other is on its way."""
        if len(self._files) > 1 and not self._busy:
            self._busy = True
            self._logs_to_move.extend(self._files[0].logs)
            self._step(gathered)

    def _save(self) -> None:
        """Save the checkpoint if everything it tells of is on disk."""
        if self._waiting is not None and self._waiting[0] <= self._committed:
            job, self._waiting = self._waiting[1], None
            self._disk.submit(job)

    def _step(self, gathered: int) -> None:
        """Write one page, or note how things stand when nothing is left to be moved."""
        while self._logs_to_move:
            log = self._logs_to_move[0]
            if not self._entries_to_move and log.id in self._logs:
                self._entries_to_move.extend(log.queue.unpaged())
            if self._move(log):
                return
            self._logs_to_move.popleft()
        self._files.popleft()
        dead = [number for number, live in self._live.items() if not live and number != self._segment]
        for number in dead:
            del self._live[number]
        checkpoint = Checkpoint(
            self._files[0].number, self._files[0].first, [_state(log) for log in self._logs.values()]
        )
        # What the checkpoint takes for settled may be settled by a batch that is still being written.
        self._waiting = gathered, SaveCheckpoint(checkpoint, dead)
        self._save()

    def _move(self, log: "QueueLog") -> bool:
        """Write a page of what a queue still keeps without one; False when that is nothing."""
        run: list[Entry] = []
        size = 0
        entries = self._entries_to_move
        while entries and len(run) < PAGE_MESSAGES and size < PAGE_BYTES:
            entry = entries.popleft()
            if entry.stored and log.id in self._logs:
                run.append(entry)
                size += len(entry.message.frames)
        if not run:
            return False
        place, data = self._make_page(log, run)
        self._disk.submit(WritePages(self._segment, [(place, data)], sync=True))
        if self._segment_end >= SEGMENT_BYTES:
            self._segment += 1
            self._segment_end = 0
        return True

    def _make_page(self, log: "QueueLog", run: Sequence[Entry]) -> tuple[int, bytes | bytearray]:
        """A page of these entries, which know it from now on: its place in the segment, and its bytes."""
        offset = self._wall_offset
        stored = [
            Stored(
                entry.position,
                entry.expires + offset if entry.expires else 0,
                entry.returns,
                entry.message.route,
                entry.message.frames,
            )
            for entry in run
        ]
        data = pack_page(log.id, stored)
        page = Page(
            log.id,
            self._segment,
            self._segment_end,
            len(data),
            [entry.position for entry in run],
            size=sum(entry.message.size for entry in run),
            earliest=min((each.deadline for each in stored if each.deadline), default=0),
        )
        for entry in run:
            entry.page = page
        log.pages.append(page)
        self._live[self._segment] = self._live.get(self._segment, 0) + 1
        self._segment_end += len(data)
        return page.offset, data


def _state(log: "QueueLog") -> QueueState:
    """A queue as the checkpoint tells it."""
    pages = [
        PageState(
            page.segment,
            page.offset,
            page.length,
            page.first,
            page.last,
            page.packed_positions(),
            page.size,
            page.earliest,
            page.settled(),
            dict(page.returns),
        )
        for page in log.pages
    ]
    return QueueState(log.id, log.next_position, log.delivered, pages)
