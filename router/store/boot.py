"""Opening a data directory: the lock, what was there, and the broker made anew from it.

Owns the order of starting. It leaves a store that knows every durable queue, and the means to write on.
"""

from bisect import bisect_right
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path

import structlog

from protocol.amqp.message import Message
from router.broker import Broker
from router.queue.entry import Entry
from router.queue.fifo import Fifo
from router.queue.paging import Paging
from router.queue.queue import Queue
from router.queue.run import Run
from router.store.files import DiskFiles, Files
from router.store.journal import DamageError
from router.store.lock import DataDirectoryError, Lock
from router.store.metadata import Metadata, MetadataError
from router.store.pages import Page, Stored
from router.store.pages import segment_path as page_path
from router.store.reader import read_piece, read_stored
from router.store.recovery import Recovered, RecoveredQueue, Tell, recover, silent
from router.store.restoring import Restored, restore_metadata
from router.store.store import Store
from router.store.stream_writer import RemoveStream
from router.store.streams import recover_stream, stream_files
from router.store.writer import Writer
from router.stream.stream import Stream
from router.vhost import VHost

METADATA = "metadata.sqlite"


class DataDirectory:
    """A data directory that is this process's alone."""

    def __init__(self, path: Path, files: Files | None = None) -> None:
        """Make it if it is not there, and lock it. Raises DataDirectoryError."""
        self.path = path
        self.files = files or DiskFiles()
        try:
            for name in ("journal", "segments", "transient", "streams"):
                (path / name).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataDirectoryError(f"cannot use the data directory {path}: {error.strerror}") from None
        self.lock = Lock(path)
        self.clean = self.lock.stopped is not None  # the last holder left it in good order
        try:
            must_have_metadata(self.files, path)
            self.metadata = Metadata(path / METADATA)
        except MetadataError:
            self.lock.leave()
            raise

    def close(self, *, clean: bool, sequence: int = 0) -> None:
        """Let others have it; ``clean`` says that all that was ever done is on disk.

        ``sequence`` is that of the journal's last batch.
        """
        if clean:
            self.lock.stop(sequence)
        else:
            self.lock.release()


def must_have_metadata(files: Files, path: Path) -> None:
    """Refuse messages without their queues. Made anew, the metadata would have all of them dropped.

    Raises MetadataError.
    """
    there = any(files.list(path / name) for name in ("journal", "segments", "streams"))
    file = path / METADATA
    if there and not (file.exists() and file.stat().st_size):
        raise MetadataError(
            f"{file} is missing or empty, and nobody knows whose the messages of this directory are. "
            "Nothing was changed. Restore that file from a backup"
        )


@dataclass(frozen=True, slots=True)
class Opened:
    """What was found: the messages, whosever they are."""

    recovered: Recovered
    next_queue_id: int
    segments: list[int]  # the numbers of the segment files
    streams: dict[int, list[int]]  # the first offsets of the streams' segments, by id


def read(directory: DataDirectory, progress: Tell = silent) -> Opened:
    """Read all messages there are. Raises DamageError and MetadataError. ``progress`` as in ``recover``."""
    recovered = recover(
        directory.files,
        directory.path,
        directory.metadata.ids(),
        stopped=directory.lock.stopped or 0,
        progress=progress,
    )
    directory.metadata.must_know(recovered.newest_queue)
    if not directory.clean:
        # Nobody knows what was delivered just before the crash, and what was must come back as redelivered.
        for queue in recovered.queues.values():
            queue.delivered = queue.next_position
    paths = directory.files.list(directory.path / "segments")
    segments = sorted(int(path.stem) for path in paths if path.stem.isdigit())
    _check_segments(directory, recovered)
    streams = stream_files(directory.files, directory.path)
    return Opened(recovered, directory.metadata.next_queue_id(), segments, streams)


def _check_segments(directory: DataDirectory, recovered: Recovered) -> None:
    """The segments are there, and long enough. DamageError otherwise.

    What is in them is checked when it is read: to do it now would take longer the more there is.
    """
    last: dict[int, Page] = {}
    for queue in recovered.queues.values():
        for page in queue.pages:
            if page.segment not in last or page.offset > last[page.segment].offset:
                last[page.segment] = page
    for page in last.values():
        path = page_path(directory.path, page.segment)
        try:
            end = read_piece(directory.files, path, 1, page.offset + page.length - 1)
        except FileNotFoundError:
            raise DamageError(path, page.offset, "the file is missing") from None
        if not end:
            raise DamageError(path, page.offset, "the file ends before the page does")


def make_writer(directory: DataDirectory, recovered: Recovered, journal_size: int) -> Writer:
    """Who goes on writing behind what was read."""
    return Writer(
        directory.files,
        directory.path,
        directory.metadata,
        next_journal=recovered.next_journal,
        synced=recovered.sequence - 1,
        journal_size=journal_size,
    )


def restore(
    broker: Broker, store: Store, directory: DataDirectory, opened: Opened, wall_offset: int
) -> Restored:
    """Make everything again and give the queues their messages; return what was made. Raises DamageError and
    MetadataError, and has changed nothing of the directory then.

    Rows that cannot be used are told, and left as they are. Messages of a queue that is not there for that
    reason are kept in the directory as long as its row is there. The broker keeps through ``store`` from here
    on.
    """
    restored = restore_metadata(broker, directory.metadata)
    _tell(restored, directory.path)
    _restore_windows(store, restored, opened)
    pages = [page for queue in opened.recovered.queues.values() for page in queue.pages]
    store.segments.recovered(opened.segments, pages)  # before a queue drops what is beyond its limits
    for number, queue in restored.queues:
        if isinstance(queue, Stream):
            _restore_stream(directory, store, queue, number, opened)
        else:
            assert isinstance(queue, Queue)
            found = opened.recovered.queues[number]
            _restore_queue(directory, store, queue, number, found=found, wall_offset=wall_offset)
            queue.resume(found.next_position)
    _hold(broker, store, directory, restored, opened)
    for stream, firsts in opened.streams.items():
        if stream not in store.logs:  # it was deleted, and the broker ended before its files were
            store.submit(RemoveStream(stream, firsts))
    store.retirement.recovered(opened.recovered.first_journal, opened.recovered.first_sequence)
    broker.keeper = store
    for path in directory.files.list(directory.path / "transient"):
        directory.files.remove(path)
    directory.lock.begin()
    return restored


def _tell(restored: Restored, path: Path) -> None:
    """Log each row that is not used, and each that is not taken as it was declared."""
    log = structlog.get_logger()
    for row, doubt in restored.doubts:
        log.warning("restored otherwise than declared", what=row.what, error=doubt)
    for bad in restored.bad:
        advice = f"'leveret store check {path}' tells it too, and with --repair removes it"
        log.error("not restored", what=bad.row.what, error=bad.why, advice=advice)


def _restore_windows(store: Store, restored: Restored, opened: Opened) -> None:
    """Let the exchanges know what they took lately, as far as they ask."""
    for vhost, exchange in restored.exchanges:
        if exchange.deduplication is not None:
            number = restored.windows.get((vhost.name, exchange.name))
            if number is None:  # declared by a version that knew no windows
                exchange.log = store.keep_window(vhost.name, exchange)
                continue
            log = exchange.log = store.add_window(number)
            log.notes = opened.recovered.queues[number].notes
            exchange.deduplication.recall(log.notes)


def _restore_queue(
    directory: DataDirectory,
    store: Store,
    queue: Queue,
    number: int,
    *,
    found: RecoveredQueue,
    wall_offset: int | None,
) -> None:
    """Give a queue its messages; without ``wall_offset`` none of them expires."""
    log = store.add_queue(queue, number)
    log.pages = dict.fromkeys(found.pages)
    log.next_position = log.committed = found.next_position
    log.recovered = found.delivered
    log.notes = found.notes
    if queue.deduplication is not None:
        queue.deduplication.recall(found.notes)
    log.deliver(found.delivered - 1)
    queue.log = log
    queue.paging = Paging(queue, store.pager)
    entries = [_entry(each, found, None, wall_offset) for each in found.entries.values()]
    for line, parts in _orders(directory, queue, found, entries, wall_offset).items():
        queue.restore(line, parts)


def _hold(broker: Broker, store: Store, directory: DataDirectory, restored: Restored, opened: Opened) -> None:
    """Keep the messages of queues that are not there, since their rows cannot be used.

    Each is in a queue of a virtual host that nobody can reach, so that journal files and segments with it are
    given up as for any other.
    """
    for bad in restored.bad.of("queues"):
        number = bad.row.columns["id"]
        assert isinstance(number, int)
        found = opened.recovered.queues[number]
        is_stream = number in opened.streams and not found.pages
        queue = VHost("", broker).declare_queue(
            "held", durable=True, arguments={"x-queue-type": "stream" if is_stream else "classic"}
        )
        if isinstance(queue, Stream):
            _restore_stream(directory, store, queue, number, opened)
        else:
            assert isinstance(queue, Queue)
            _restore_queue(directory, store, queue, number, found=found, wall_offset=None)


def _restore_stream(
    directory: DataDirectory, store: Store, stream: Stream, number: int, opened: Opened
) -> None:
    """Find a stream's end in its files, and put behind it what only the journal has."""
    queue = opened.recovered.queues[number]
    log = store.add_stream(stream, number)
    log.notes = queue.notes
    stream.recall(queue.notes)
    found = recover_stream(directory.files, directory.path, number, opened.streams.get(number, ()))
    if found is not None:
        stream.restore(found.segments, found.last)
        log.recovered(found)
        if found.torn is not None:
            opened.recovered.cut.append(found.torn)
    stream.log = log
    for position in sorted(queue.entries):
        if position >= stream.next:
            stored = queue.entries[position]
            stream.recover(Message.from_frames(stored.route, stored.frames), position, stored.deadline)
    stream.skip(queue.next_position)
    log.next_position = stream.next
    queue.entries.clear()


def _orders(
    directory: DataDirectory,
    queue: Queue,
    found: RecoveredQueue,
    entries: list[Entry],
    wall_offset: int | None,
) -> dict[Fifo, list[Run | list[Entry]]]:
    """What a queue holds, for each priority in its order: entries, and runs that stay on disk.

    A page whose messages do not stand together is read now; there are few of those.
    """
    ready = queue.ready
    standing: dict[Fifo, list[Page]] = {}
    for page in found.pages:
        standing.setdefault(ready.level_of(page.priority), []).append(page)
    loose: dict[Fifo, list[Entry]] = {}
    for entry in entries:
        loose.setdefault(ready.level(entry), []).append(entry)
    orders = {}
    for line in {**standing, **loose}:
        pages, single = standing.get(line, []), loose.get(line, [])
        for page in _mixed(pages, single):
            single += [
                _entry(each, found, page, wall_offset)
                for each in read_stored(directory.files, directory.path, page)
            ]
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


def _mixed(pages: list[Page], entries: list[Entry]) -> list[Page]:
    """Those pages, of some in the order of their first positions, between whose messages others stand."""
    mixed: dict[Page, None] = {}
    furthest: Page | None = None
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


def _run(line: Fifo, page: Page, wall_offset: int | None) -> Run:
    """A page as it stands in a queue. Of one whose messages are in part settled the size is an estimate until
    it is read.
    """
    expires = max(1, page.earliest - wall_offset) if page.earliest and wall_offset is not None else 0
    size = page.size * page.live // page.count
    return Run(line, page, page.first, count=page.live, size=size, expires=expires)


def _entry(stored: Stored, queue: RecoveredQueue, page: Page | None, wall_offset: int | None) -> Entry:
    """A message as the queue holds it; a deadline that has passed stays in the past."""
    expires = max(1, stored.deadline - wall_offset) if stored.deadline and wall_offset is not None else 0
    entry = Entry(Message.from_frames(stored.route, stored.frames), stored.position, expires)
    entry.stored = True
    entry.page = page
    entry.returns = stored.returns
    if stored.position < queue.delivered:
        entry.returns = max(1, entry.returns)
    return entry
