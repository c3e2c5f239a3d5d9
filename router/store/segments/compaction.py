"""Compaction of segments: the few live messages of an almost empty segment move to another one.

Responsible for one segment at a time, page by page, so that it does not delay the broker. Not for removing
the empty segment: that happens with a later checkpoint (see ``journal/truncation``).
"""

from collections import deque

from leveret.router.store.segments.allocation import SegmentAllocation
from leveret.router.store.segments.pages import StoredMessage, StoredPage, pack_page, read_entries
from leveret.router.store.writer import Disk, ReadPage, Result, WritePages
from leveret.router.turns.backlog import Slices, Start, start_at_once

SPARSE = 0.25  # largest share of live bytes for compaction


class Compaction:
    """The pages that are being moved out of one segment."""

    def __init__(self, disk: Disk, segments: SegmentAllocation, *, start: Start = start_at_once) -> None:
        """``start`` starts long work."""
        self._start = start
        self._choosing = False  # the segment is being chosen
        self._disk = disk
        self._segments = segments
        self._pages: deque[StoredPage] = deque()  # pages still to move; the first is in progress
        self._given_up: set[int] = set()  # segments with a page that cannot be read
        self._reading: ReadPage | None = None
        self._writing: WritePages | None = None
        self._moved: list[StoredMessage] = []  # the messages that will be in the first page
        self._place = 0, 0, 0  # and its place: segment, offset, length

    def begin(self) -> None:
        """Empty the sparsest segment, if it is sparse and no other is being emptied."""
        if not (self._pages or self._choosing):
            self._choosing = True
            self._start("looking for a sparse segment", self._choose())

    def _choose(self) -> Slices:
        try:
            pages, share = yield from self._segments.sparsest(self._given_up)
        finally:
            self._choosing = False
        if share <= SPARSE:
            self._pages.extend(pages)
            self._next()

    def has_read(self, job: ReadPage, result: Result, error: Exception | None) -> bool:
        """Continue after a read. Returns False for a job of another part of the store.

        A page that cannot be read is reported when a queue needs it, not here.
        """
        if job is not self._reading:
            return False
        self._reading = None
        page = self._pages[0]
        if error is None and isinstance(result, bytes) and page.live:
            self._write(page, result)
        else:
            if error is not None:
                self._given_up.add(page.segment)
            self._pages.popleft()
            self._next()
        return True

    def written(self, job: WritePages) -> bool:
        """Move a page to its new place, if messages are still live. Returns False for another part's job."""
        if job is not self._writing:
            return False
        self._writing = None
        page = self._pages.popleft()
        if page.live:
            self._segments.remove(page)
            page.move(*self._place, self._moved)
            self._segments.add(page)
        self._segments.came(job.segment)
        self._moved = []
        self._next()
        return True

    def _next(self) -> None:
        """Read the next page."""
        while self._pages and not self._pages[0].live:
            self._pages.popleft()
        if self._pages:
            page = self._pages[0]
            self._reading = ReadPage(page.kept, page.segment, page.offset, page.length, page.queue_id)
            self._disk.submit(self._reading)

    def _write(self, page: StoredPage, data: bytes) -> None:
        """Write the live messages of a page to another place."""
        self._moved = [
            each._replace(returns=page.returns(each.position, each.returns))
            for each in map(StoredMessage._make, read_entries(page, data))
            if not page.is_settled(each.position)
        ]
        if len(self._moved) < page.live:  # a page with messages that cannot be found stays
            self._given_up.add(page.segment)
            self._moved = []
            self._pages.popleft()
            self._next()
            return
        packed = pack_page(page.queue_id, self._moved)
        segment, offset = self._segments.place(len(packed))
        self._segments.expect(segment)
        self._place = segment, offset, len(packed)
        self._writing = WritePages(segment, [(offset, packed)], sync=True)
        self._disk.submit(self._writing)
