"""Choice of the messages of a long order that leave memory together, as one run.

Responsible for the sizes of the head that stays in memory and of a page. ``fifo`` keeps the runs in their
order, ``paging`` has them written.
"""

from collections import deque
from typing import TYPE_CHECKING

from leveret.router.queue.entry import Entry
from leveret.router.queue.paged_run import Run

if TYPE_CHECKING:
    from leveret.router.queue.fifo import Fifo

HEAD = 256  # messages at the head that stay in memory, or fewer:
HEAD_BYTES = 1 << 20  # most bytes of their frames
PAGE_MESSAGES = 1024  # messages in a page, at most
PAGE_BYTES = 1 << 20  # a page ends with the message that brings it to this size
FEW = 64  # fewer messages are not written to a page of their own


def move_head(entries: deque[Entry], head: deque[Entry]) -> None:
    """Move the first entries, which stay in memory, to ``head``. Entries of one page are not separated."""
    size = 0
    page = None
    while entries and (
        (len(head) < HEAD and size < HEAD_BYTES) or (page is not None and entries[0].page is page)
    ):
        entry = entries.popleft()
        page = entry.page
        size += len(entry.message.frames)
        head.append(entry)


def take_run(line: "Fifo") -> Run | None:
    """Move the first entries of a Fifo's tail into a run; return None if they are too few for a page.

    If these entries are exactly the unsettled messages of an existing page, the run uses this page.
    """
    tail = line.tail
    entries: list[Entry] = []
    page = None
    alike = True  # True if all are in ``page``
    size = 0
    while tail and len(entries) < PAGE_MESSAGES and size < PAGE_BYTES:
        entry = tail[0]
        if entry.gone:
            line.gone -= 1
            tail.popleft()
            continue
        if entry.page is not page:
            if entry.page is not None and (not entry.page.written or (alike and len(entries) >= FEW)):
                break
            alike = alike and not entries
            page = entry.page
        entries.append(tail.popleft())
        size += len(entry.message.frames)
        if alike and page is not None and len(entries) == page.live:
            break
    if alike and page is not None and len(entries) == page.live:
        run = Run.of(line, entries, page)
    elif len(entries) >= FEW or size >= PAGE_BYTES // 4:
        run = Run.of(line, entries)
    else:
        tail.extendleft(reversed(entries))
        return None
    run.away = True
    return run
