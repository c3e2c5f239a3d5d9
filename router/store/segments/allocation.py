"""Allocation of pages to segment files, and the segments without live messages.

Responsible for numbers and counts. Not for writing and removing files (see ``writer``).
"""

from collections.abc import Container, Iterable

from leveret.router.store.segments.pages import StoredPage
from leveret.router.turns.backlog import Slicing

SEGMENT_BYTES = 1 << 26  # a segment ends with the page that brings it to this size
WORTH = 1 << 23  # bytes from which an unfinished file is worth removing
PAGES = 1000  # pages whose live bytes are added up in one slice


class SegmentAllocation:
    """The segment files of one kind: ``kept`` files, or files that do not survive the broker."""

    def __init__(self, *, kept: bool, next_number: int = 1) -> None:
        self.kept = kept
        self._number = next_number  # the file that is being filled
        self._end = 0
        self._pages: dict[int, dict[StoredPage, None]] = {}  # pages with live messages, by file
        self._empty: set[int] = set()  # files without live messages
        self._expecting: dict[int, int] = {}  # pages that are being written, by file
        self._sizes: dict[int, int] = {}

    def recovered(self, numbers: Iterable[int], pages: Iterable[StoredPage]) -> None:
        """Add the segments of these numbers, with these pages, after a recovery."""
        for number in numbers:
            self._pages[number] = {}
            self._sizes[number] = 0
            self._empty.add(number)
        for page in pages:
            self.add(page)

    def place(self, length: int) -> tuple[int, int]:
        """Allocate ``length`` bytes; return the file and the offset."""
        if self._end >= SEGMENT_BYTES:
            self.begin_another()
        number, offset = self._number, self._end
        self._end += length
        self._sizes[number] = self._end
        self._pages.setdefault(number, {})
        self._empty.discard(number)  # the file will hold something
        return number, offset

    def begin_another(self) -> None:
        """End the current file and fill another one."""
        if self._end:
            self._number += 1
            self._end = 0

    def expect(self, number: int) -> None:
        """Count a page that will be written to a file."""
        self._expecting[number] = self._expecting.get(number, 0) + 1

    def came(self, number: int) -> None:
        """Count a page as written, after ``expect``."""
        self._expecting[number] -= 1
        if not self._expecting[number]:
            del self._expecting[number]
        self._look(number)

    def add(self, page: StoredPage) -> None:
        """Add a page to its file."""
        number = page.segment
        self._pages[number][page] = None
        self._sizes[number] = max(self._sizes[number], page.offset + page.length)
        self._empty.discard(number)

    def remove(self, page: StoredPage) -> None:
        """Remove a page without live messages."""
        self._pages[page.segment].pop(page, None)
        self._look(page.segment)

    def _look(self, number: int) -> None:
        """Mark a file as empty if it has no live messages and no page is being written to it."""
        if not self._pages[number] and number not in self._expecting:
            self._empty.add(number)

    def has_dead(self) -> bool:
        """Return True if a file has no live messages. The current one counts only from ``WORTH`` bytes."""
        others = len(self._empty) - (self._number in self._empty)
        return others > 0 or (self._number in self._empty and self._end >= WORTH)

    def take_dead(self) -> list[int]:
        """Return the files without live messages, for removal, and forget them."""
        if self._number in self._empty and self._end >= WORTH:
            self.begin_another()
        dead = sorted(self._empty - {self._number})
        self._empty.difference_update(dead)
        for number in dead:
            del self._pages[number], self._sizes[number]
        return dead

    def sparsest(self, left_out: Container[int]) -> Slicing[tuple[list[StoredPage], float]]:
        """Return the pages of the full file with the least live bytes, and their share.

        Files in ``left_out`` are skipped. Pages may have died or moved between two slices.
        """
        least, pages = 1.0, list[StoredPage]()
        for number in list(self._pages):
            there = list(self._pages.get(number, ()))
            if number == self._number or not there or number in left_out:
                continue
            size, live = self._sizes[number], 0.0
            for start in range(0, len(there), PAGES):
                live += sum(page.length * page.live / page.count for page in there[start : start + PAGES])
                yield
            if live / size < least:
                least, pages = live / size, there
        return pages, least
