"""Restoring of the messages of queues and streams at a start, from recovered journal records and pages.

Responsible for which messages of a queue are in memory after a start, and which pages stay on disk as runs. A
message that cannot be read is set aside (see ``set_aside``); the others are restored.
"""

from bisect import bisect_right
from operator import attrgetter
from pathlib import Path

from leveret.router.queue.entry import Entry, QueuedEntry
from leveret.router.queue.fifo import Fifo
from leveret.router.queue.paged_run import Run
from leveret.router.queue.queue import Queue
from leveret.router.store.files import Files
from leveret.router.store.journal.records import RETURNS_MAX, expiry
from leveret.router.store.journal.recovery import Recovered, RecoveredQueue
from leveret.router.store.segments.pages import StoredMessage, StoredPage
from leveret.router.store.segments.reader import read_stored
from leveret.router.store.set_aside import SetAside, read_message
from leveret.router.store.store import Store
from leveret.router.store.streams.files import recover_stream
from leveret.router.store.streams.writer import RemoveStream
from leveret.router.stream.stream import Stream


class MessageRestorer:
    """Restores the recovered messages and notes of queues and streams."""

    def __init__(
        self,
        files: Files,
        directory: Path,
        store: Store,
        *,
        recovered: Recovered,
        streams: dict[int, list[int]],
        wall_offset: int,
    ) -> None:
        """``streams``: the first offsets of the streams' segments, by id. ``wall_offset`` as in ``Store``."""
        self._files = files
        self._directory = directory
        self._store = store
        self._recovered = recovered
        self._streams = streams
        self._wall_offset = wall_offset
        self.aside = SetAside(files, directory, store.set_aside)

    def load_queue(self, queue: Queue, number: int, *, held: bool = False) -> None:
        """Restore the messages of a queue.

        The messages of a ``held`` queue do not expire, and its limits do not apply. Raises DamageError and
        DataDirectoryError.
        """
        found = self._recovered.queues[number]
        log = self._store.add_queue(queue, number)
        log.pages = dict.fromkeys(found.pages)
        log.next_position = log.committed_below = found.next_position
        log.recovered = found.delivered
        log.notes.restore(found.notes)
        self.aside.recall(queue.name, queue.recall, found.notes)
        log.mark_delivered(found.delivered - 1)
        queue.attach(log, self._store.pager)
        wall_offset = None if held else self._wall_offset
        entries = []
        for stored in found.entries.values():
            entry = _entry(stored, found, None, wall_offset)
            if entry is None:
                self.aside.message(queue.name, number, stored)
            else:
                entries.append(entry)
        for line, parts in self._orders(queue, found, entries, wall_offset).items():
            queue.restore(line, parts)
        if not held:
            queue.resume(found.next_position)

    def load_stream(self, stream: Stream, number: int) -> None:
        """Restore a stream from its segment files, and append the messages that are in the journal only.

        Raises DamageError and DataDirectoryError.
        """
        queue = self._recovered.queues[number]
        self.set_aside(stream.name, number)
        log = self._store.add_stream(stream, number)
        log.notes.restore(queue.notes)
        self.aside.recall(stream.name, stream.recall, queue.notes)
        stream.begin(queue.first_offset)
        firsts = self._streams.get(number, ())
        if expired := [first for first in firsts if first < queue.first_offset]:  # of an interrupted removal
            self._store.submit(RemoveStream(number, expired))
        kept = [first for first in firsts if first >= queue.first_offset]
        found = recover_stream(self._files, self._directory, number, kept)
        if found is not None:
            stream.restore(found.segments, found.last)
            log.recovered(found)
            if found.torn is not None:
                self._recovered.cut.append(found.torn)
        stream.attach(log)
        for position in sorted(queue.entries):
            if position >= stream.next:
                stored = queue.entries[position]
                message = read_message(stored.route, stored.frames)
                if message is None:
                    self.aside.message(stream.name, number, stored)
                else:
                    stream.recover(message, position, stored.deadline)
        stream.skip(queue.next_position)
        log.next_position = stream.next
        queue.entries.clear()

    def set_aside(self, name: str, number: int, *, all_of_it: bool = False) -> None:
        """Set aside the pages of a stream, which should not have pages, or all messages of an exchange.

        Raises DamageError and DataDirectoryError.
        """
        queue = self._recovered.queues[number]
        for page in queue.pages:
            for stored in read_stored(self._files, self._directory, page):
                self.aside.message(name, number, stored)
        queue.pages = []
        if all_of_it:
            for stored in queue.entries.values():
                self.aside.message(name, number, stored)

    def _orders(
        self,
        queue: Queue,
        found: RecoveredQueue,
        entries: list[Entry],
        wall_offset: int | None,
    ) -> dict[Fifo, list[Run | list[Entry]]]:
        """Return the order of a queue for each priority: entries in memory, and runs that stay on disk.

        A page cannot be a run if other messages of the queue are between its own. Such a page, which is rare,
        is read now.
        """
        ready = queue.ready
        standing: dict[Fifo, list[StoredPage]] = {}
        for page in found.pages:
            standing.setdefault(ready.level_of(page.priority), []).append(page)
        loose: dict[Fifo, list[Entry]] = {}
        for entry in entries:
            loose.setdefault(ready.level(entry), []).append(entry)
        orders = {}
        for line in {**standing, **loose}:
            pages, single = standing.get(line, []), loose.get(line, [])
            for page in _mixed(pages, single):
                live = read_stored(self._files, self._directory, page)
                self.aside.missing(queue.name, page, live)
                for stored in live:
                    read = _entry(stored, found, page, wall_offset)
                    if read is None:
                        self.aside.message(queue.name, page.queue_id, stored)
                    else:
                        single.append(read)
                pages.remove(page)
            parts: list[Run | list[Entry]] = []
            items: list[Run | Entry] = [*single, *(_run(line, page, wall_offset) for page in pages)]
            for item in sorted(items, key=attrgetter("position")):
                if isinstance(item, Run):
                    parts.append(item)
                elif parts and isinstance(parts[-1], list):
                    parts[-1].append(item)
                else:
                    parts.append([item])
            orders[line] = parts
        return orders


def _mixed(pages: list[StoredPage], entries: list[Entry]) -> list[StoredPage]:
    """Return the pages with other messages between their own; ``pages`` are sorted by first position."""
    mixed: dict[StoredPage, None] = {}
    furthest: StoredPage | None = None
    for page in pages:
        if furthest is not None and page.first < furthest.last:
            mixed[furthest] = mixed[page] = None
        if furthest is None or page.last > furthest.last:
            furthest = page
    firsts = [page.first for page in pages]
    for entry in entries:
        index = bisect_right(firsts, entry.position) - 1
        if index >= 0 and entry.position < pages[index].last:
            mixed[pages[index]] = None
    return list(mixed)


def _run(line: Fifo, page: StoredPage, wall_offset: int | None) -> Run:
    """Return the run of a page. If some of its messages are settled, its size is estimated until it
    is read.
    """
    expires = expiry(page.earliest, wall_offset) if wall_offset is not None else 0
    page.wall_offset = wall_offset or 0
    size = page.size * page.live // page.count
    return Run(line, page, page.first, count=page.live, size=size, expires=expires)


def _entry(
    stored: StoredMessage, queue: RecoveredQueue, page: StoredPage | None, wall_offset: int | None
) -> Entry | None:
    """Return the entry of a stored message, None if the message cannot be read."""
    message = read_message(stored.route, stored.frames)
    if message is None:
        return None
    expires = expiry(stored.deadline, wall_offset) if wall_offset is not None else 0
    entry = QueuedEntry(message, stored.position, expires)
    entry.stored = True
    entry.page = page
    entry.returns = min(stored.returns, RETURNS_MAX)
    if stored.position < queue.delivered:
        entry.returns = max(1, entry.returns)
    return entry
