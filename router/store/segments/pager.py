"""Paging: messages of heavy queues move from memory to pages, and are read back.

Responsible for pages that are being written or read, and for the memory that ready messages use. A queue
chooses the messages to write and to read (see ``queue/paging``).
"""

from collections import Counter
from collections.abc import Callable, Sequence
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from leveret.protocol.amqp.content_frames import END, FRAME, HEADER_FRAME
from leveret.protocol.amqp.message import Message, ParsedMessage
from leveret.protocol.amqp.traits import Traits
from leveret.router.queue.entry import Entry, QueuedEntry
from leveret.router.queue.page_out import PAGE_MESSAGES
from leveret.router.queue.paged_run import Run
from leveret.router.store.journal.records import RETURNS_MAX, expiry
from leveret.router.store.queue_log import StoredQueueLog
from leveret.router.store.segments.allocation import SegmentAllocation
from leveret.router.store.segments.pages import PageError, PageParts, StoredPage, read_entries, segment_path
from leveret.router.store.set_aside import read_message
from leveret.router.store.writer import Disk, ReadPage, RemoveSegments, Result, WritePages
from leveret.router.values.counters import MESSAGES

if TYPE_CHECKING:
    from leveret.router.queue.queue import Queue

IN_FLIGHT = 32  # pages that may wait to be written; their messages are still in memory
LIGHT = 1 << 16  # bytes; a lighter queue is not paged out


class StorePager:
    """The pager of all queues.

    ``weight`` is the memory of all queues' ready messages, in bytes; above ``budget`` the heaviest queues
    page out.
    """

    def __init__(
        self,
        disk: Disk,
        kept: SegmentAllocation,
        *,
        budget: int,
        wall_offset: Callable[[], int],
        set_aside: Counter[str],
    ) -> None:
        """``wall_offset`` and ``set_aside`` as in ``Store``."""
        self._set_aside = set_aside
        self.weight = 0
        self.budget = budget
        self._disk = disk
        self._kept = kept
        self._passing = SegmentAllocation(kept=False)
        self._wall_offset = wall_offset
        self._heavy: dict[Queue, int] = {}
        self._pieces: list[tuple[StoredPage, PageParts]] = []  # not submitted yet
        self._leaving: dict[StoredPage, Run] = {}  # runs that wait until their page is written
        self._writing: dict[WritePages, list[StoredPage]] = {}
        self._reading: dict[ReadPage, tuple[Queue, Run]] = {}
        self.unreadable: list[tuple[Queue, Run]] = []  # reads to repeat

    # -- the interface queue.paged_run.Pager --------------------------------------------------------------

    def weigh(self, queue: "Queue", weight: int) -> None:
        paging = queue.paging
        assert paging is not None
        self.weight += weight - paging.weight
        if weight > LIGHT:
            self._heavy[queue] = weight
        else:
            self._heavy.pop(queue, None)

    def write(self, queue: "Queue", run: Run) -> None:
        assert run.entries
        run.page = page = self.make_page(_log(queue), run.entries, run.line.priority)
        self._leaving[page] = run

    def read(self, queue: "Queue", run: Run) -> None:
        page = run.page
        assert isinstance(page, StoredPage)
        job = ReadPage(page.kept, page.segment, page.offset, page.length, page.queue_id)
        self._reading[job] = queue, run
        self._disk.submit(job)

    def release(self, queue: "Queue", run: Run) -> None:
        page = run.page
        assert page is None or isinstance(page, StoredPage)
        if page is None:
            return
        if not page.kept:
            self._passing.remove(page)
            self._remove_dead()
        elif (log := _log(queue)) is not None:
            log.discard(page, queue.held)

    def _remove_dead(self) -> None:
        """Remove the transient segments without live or expected pages."""
        if self._passing.has_dead():
            self._disk.submit(RemoveSegments(self._passing.take_dead(), kept=False))

    # -- pages ---------------------------------------------------------------------------------------------

    def make_page(self, log: StoredQueueLog | None, entries: Sequence[Entry], priority: int) -> StoredPage:
        """Make a page of entries, to be written with the next ``submit``.

        The page is kept after a restart if any entry is stored; stored entries get a reference to it.
        """
        offset = self._wall_offset()
        stored = [entry.position for entry in entries if entry.stored]
        kept = bool(stored) and log is not None
        queue_id = log.id if log is not None and kept else 0
        data = PageParts(
            queue_id,
            [
                (
                    entry.position,
                    entry.expires + offset if entry.expires else 0,
                    entry.returns,
                    entry.message.route,
                    entry.message.frames,
                )
                for entry in entries
            ],
        )
        segments = self._segments(kept=kept)
        segment, place = segments.place(len(data))
        passing = [entry.position for entry in entries if not entry.stored] if kept else ()
        earliest = min((entry.expires for entry in entries if entry.expires), default=0)
        page = StoredPage(
            queue_id,
            segment,
            place,
            len(data),
            [entry.position for entry in entries],
            size=sum(entry.message.size for entry in entries),
            earliest=earliest + offset if earliest else 0,
            priority=priority,
            kept=kept,
            passing=passing,
            wall_offset=offset,
            traits=_traits(entries),
        )
        segments.add(page)
        if kept and log is not None:
            log.take_page(page, entries)
        self._pieces.append((page, data))
        return page

    def submit(self) -> list[WritePages]:
        """Submit the jobs that write all new pages, and return them."""
        jobs: list[WritePages] = []
        pieces, self._pieces = self._pieces, []
        while pieces:
            first = pieces[0][0]
            place = first.kept, first.segment
            together = [each for each in pieces if (each[0].kept, each[0].segment) == place]
            pieces = [each for each in pieces if (each[0].kept, each[0].segment) != place]
            job = WritePages(
                first.segment,
                [(page.offset, data) for page, data in together],
                sync=first.kept,
                kept=first.kept,
            )
            self._writing[job] = [page for page, _ in together]
            self._segments(kept=job.kept).expect(job.segment)
            self._disk.submit(job)
            jobs.append(job)
        return jobs

    def balance(self) -> None:
        """Page out some messages of the queue that uses most memory while the budget is exceeded."""
        if self.weight > self.budget and len(self._leaving) < IN_FLIGHT:
            heaviest = max(self._heavy, key=self._heavy.__getitem__, default=None)
            paging = None if heaviest is None else heaviest.paging
            if heaviest is not None and paging is not None and not paging.page_out(PAGE_MESSAGES):
                self._heavy.pop(heaviest, None)  # until it has changed
        if self._pieces:
            self.submit()

    def pending(self) -> set[WritePages]:
        """Return the unfinished jobs that write pages for a checkpoint."""
        return {job for job in self._writing if job.kept}

    # -- results of jobs -----------------------------------------------------------------------------------

    def written(self, job: WritePages) -> None:
        """Free the memory of pages that are on disk."""
        for page in self._writing.pop(job):
            page.written = True
            run = self._leaving.pop(page, None)
            if run is not None and run.away:
                run.entries = None
        self._segments(kept=job.kept).came(job.segment)
        if not job.kept:
            self._remove_dead()

    def _segments(self, *, kept: bool) -> SegmentAllocation:
        return self._kept if kept else self._passing

    def has_read(self, job: ReadPage, result: Result, error: Exception | None) -> bool:
        """Continue after a page was read. If it could not be read, its queue stops when it reaches it.

        Returns True if another attempt may succeed, see ``read_again``.
        """
        queue, run = self._reading.pop(job)
        paging, page = queue.paging, run.page
        if not run.reading or paging is None:
            return False
        assert isinstance(page, StoredPage)
        if error is None:
            assert isinstance(result, bytes)
            paging.loaded(run, self._entries(queue, page, result))
            return False
        if (page.segment, page.offset) != (job.segment, job.offset):
            self.read(queue, run)  # the page has moved since, and the file is gone
            return False
        path = segment_path(Path(), job.segment, kept=job.kept)
        what = "the file is missing" if isinstance(error, FileNotFoundError) else error
        advice = "Stop the broker and run 'leveret store check'"
        text = (
            f"queue '{queue.name}' in vhost '{queue.vhost}' delivers nothing more: {path} cannot be read at "
            f"offset {job.offset}: {what}. {advice}"
        )
        structlog.get_logger().error("page unreadable", what=text)
        paging.unreadable(run, text)
        if isinstance(error, PageError | FileNotFoundError):
            return False
        self.unreadable.append((queue, run))
        return True

    def read_again(self) -> None:
        """Repeat the reads that failed."""
        runs, self.unreadable = self.unreadable, []
        for queue, run in runs:
            if queue.paging is not None:
                queue.paging.read_again(run)

    def _skip(self, queue: "Queue", page: StoredPage, position: int) -> None:
        """Log a message that cannot be read although its page's checksum is right; it stays in the page."""
        path = segment_path(Path(), page.segment, kept=page.kept)
        self._set_aside[MESSAGES] += 1
        structlog.get_logger().error(
            "message left out",
            vhost=queue.vhost,
            queue=queue.name,
            position=position,
            page=f"{path}, offset {page.offset}",
            advice="Stop the broker; 'leveret store dump' prints it, and 'leveret store check' reports it",
        )

    def _entries(self, queue: "Queue", page: StoredPage, data: bytes) -> list[Entry]:
        """Return the live messages of a page.

        Messages of a page that this broker has packed need not be examined. Of other pages, most messages
        have the same header as the previous message; then the properties need not be read again.
        """
        offset = page.wall_offset
        log = _log(queue)
        delivered = log.recovered if log is not None else 0
        whole = page.is_whole()
        header, length = b"", -1
        message: Message | None = None
        entries: list[Entry] = []
        found_entries = read_entries(page, data)
        traits = _known_traits(page, found_entries)
        unpack_header = HEADER_FRAME.unpack_from
        for place, (position, deadline, returns, route, frames) in enumerate(found_entries):
            if not whole and page.is_settled(position):
                continue
            if traits:
                _, channel, _, _, _, size = unpack_header(frames)
                message = ParsedMessage(route, 0, channel, size, frames, traits[place])
            elif len(frames) == length and frames.startswith(header) and message and frames.endswith(END):
                message = message.with_body_of(route, frames)
            else:
                found = read_message(route, frames)
                if found is None:
                    self._skip(queue, page, position)
                    continue
                message, length = found, len(frames)
                header = frames[: len(found.header_frame) + FRAME.size]  # and the head of its body frame
            entry = QueuedEntry(message, position, expiry(deadline, offset) if deadline else 0)
            if returns or not whole:
                entry.returns = min(page.returns(position, returns), RETURNS_MAX)
            if position < delivered and not entry.returns:
                entry.returns = 1
            if whole or not page.is_passing(position):
                entry.stored = True
                entry.page = page
            entries.append(entry)
        if len(found_entries) < page.count:
            there = {position for position, *_ in found_entries}
            for position in page.unsettled():
                if position not in there:
                    self._skip(queue, page, position)
        return entries


def _traits(entries: Sequence[Entry]) -> Sequence[Traits] | None:
    """Return the traits of messages for ``StoredPage``; None if some of them have blind copies."""
    messages = [entry.message for entry in entries]
    return (
        [each.traits for each in messages] if all(type(each) is ParsedMessage for each in messages) else None
    )


def _known_traits(
    page: StoredPage, entries: Sequence[tuple[int, int, int, bytes, bytes]]
) -> Sequence[Traits]:
    """Return the traits of a page's messages, in their order.

    Returns none if the traits are unknown, or if the number or the size of the messages that were read shows
    that this broker has packed others.
    """
    if not page.traits or len(entries) != page.count:
        return ()
    return page.traits if min(map(len, map(itemgetter(4), entries))) >= HEADER_FRAME.size else ()


def _log(queue: "Queue") -> StoredQueueLog | None:
    """Return the log of a queue; None if the queue is not durable, or deleted."""
    log = queue.log
    assert log is None or isinstance(log, StoredQueueLog)
    return log
