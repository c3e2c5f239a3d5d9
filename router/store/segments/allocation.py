"""Where pages go: which segment file is being filled, and which have nothing live in them any more.

Owns the numbers and the counting; writing and removing is the writer's.
"""

from collections.abc import Container, Iterable

from leveret.router.store.segments.pages import Page

SEGMENT_BYTES = 1 << 26  # a segment ends with the page that brings it to so many bytes
WORTH = 1 << 23  # bytes that are worth removing a file which is not full


class Segments:
    """The segment files of one kind: ``kept`` ones, or those that do not outlive the broker."""

    def __init__(self, *, kept: bool, next_number: int = 1) -> None:
        self.kept = kept
        self._number = next_number  # the file that is being filled
        self._end = 0
        self._pages: dict[int, dict[Page, None]] = {}  # with live messages, by file
        self._empty: set[int] = set()  # files without any
        self._expecting: dict[int, int] = {}  # how many pages are on their way to a file
        self._sizes: dict[int, int] = {}

    def recovered(self, numbers: Iterable[int], pages: Iterable[Page]) -> None:
        """There are segments of these numbers, with these pages."""
        for number in numbers:
            self._pages[number] = {}
            self._sizes[number] = 0
            self._empty.add(number)
        for page in pages:
            self.add(page)

    def place(self, length: int) -> tuple[int, int]:
        """The file and the offset for the next ``length`` bytes."""
        if self._end >= SEGMENT_BYTES:
            self.begin_another()
        number, offset = self._number, self._end
        self._end += length
        self._sizes[number] = self._end
        self._pages.setdefault(number, {})
        self._empty.discard(number)  # it will hold something
        return number, offset

    def begin_another(self) -> None:
        """Leave the file as it is, and fill another one."""
        if self._end:
            self._number += 1
            self._end = 0

    def expect(self, number: int) -> None:
        """A page is on its way to a file, where it is added or not when it has come."""
        self._expecting[number] = self._expecting.get(number, 0) + 1

    def came(self, number: int) -> None:
        """It has come."""
        self._expecting[number] -= 1
        if not self._expecting[number]:
            del self._expecting[number]
        self._look(number)

    def add(self, page: Page) -> None:
        """A page has its place."""
        number = page.segment
        self._pages[number][page] = None
        self._sizes[number] = max(self._sizes[number], page.offset + page.length)
        self._empty.discard(number)

    def remove(self, page: Page) -> None:
        """Nothing of a page is live."""
        self._pages[page.segment].pop(page, None)
        self._look(page.segment)

    def _look(self, number: int) -> None:
        """Notice a file that holds nothing."""
        if not self._pages[number] and number not in self._expecting:
            self._empty.add(number)

    def any_dead(self) -> bool:
        """Whether a file has nothing live in it; the one that is being filled counts once it is worth it."""
        others = len(self._empty) - (self._number in self._empty)
        return others > 0 or (self._number in self._empty and self._end >= WORTH)

    def take_dead(self) -> list[int]:
        """The files without anything live, which are to be removed and count no more."""
        if self._number in self._empty and self._end >= WORTH:
            self.begin_another()
        dead = sorted(self._empty - {self._number})
        self._empty.difference_update(dead)
        for number in dead:
            del self._pages[number], self._sizes[number]
        return dead

    def sparsest(self, left_out: Container[int]) -> tuple[list[Page], float]:
        """The pages of the file with the least live bytes, and their share, among those that are full and not
        ``left_out``.
        """
        least, pages = 1.0, list[Page]()
        for number, there in self._pages.items():
            if number != self._number and there and number not in left_out:
                live = sum(page.length * page.live / page.count for page in there) / self._sizes[number]
                if live < least:
                    least, pages = live, list(there)
        return pages, least
