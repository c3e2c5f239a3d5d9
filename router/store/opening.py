"""Opening of a store: locking of a data directory, recovery of the content, restoration of the broker.

Responsible for the order of a start. Afterwards the store has a log for every durable queue, and the writer
continues after the recovered journal.
"""

from pathlib import Path

import structlog
from msgspec import Struct

from leveret.protocol.amqp.table import encode_table
from leveret.router.broker.broker import Broker
from leveret.router.queue.interface import AnyQueue
from leveret.router.queue.queue import Queue
from leveret.router.store.backend import StorageBackend
from leveret.router.store.files import DiskFiles, Files
from leveret.router.store.journal.journal import DamageError
from leveret.router.store.journal.records import BROKER_LOG, ID_MAX
from leveret.router.store.journal.recovery import Recovered, ReportProgress, ignore_progress, recover
from leveret.router.store.lock import DataDirectoryError, Lock, cannot_use
from leveret.router.store.message_restore import MessageRestorer
from leveret.router.store.metadata.database import Metadata
from leveret.router.store.metadata.reading import MetadataError
from leveret.router.store.metadata.restore import Restored, restore_metadata
from leveret.router.store.segments.pages import StoredPage
from leveret.router.store.segments.pages import segment_path as page_path
from leveret.router.store.segments.reader import read_piece
from leveret.router.store.store import Store
from leveret.router.store.streams.files import stream_files
from leveret.router.store.streams.writer import RemoveStream
from leveret.router.store.writer import Writer
from leveret.router.stream.stream import Stream
from leveret.router.values.counters import HEADERS, ROWS
from leveret.router.vhost.declare import make_queue
from leveret.router.vhost.vhost import VHost

METADATA = "metadata.sqlite"
STREAM_ARGUMENT = encode_table({"x-queue-type": "stream"})[4:]  # the argument's bytes in an encoded table


class DataDirectory:
    """The ``StorageBackend`` of a data directory, which this process has locked."""

    def __init__(self, path: Path, files: Files | None = None) -> None:
        """Create the directory if it does not exist, and lock it. Raises DataDirectoryError."""
        self.path = path
        self.files = files or DiskFiles()
        try:
            for name in ("journal", "segments", "transient", "streams"):
                (path / name).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataDirectoryError(cannot_use(path, error)) from None
        self.lock = Lock(path)
        try:
            must_have_metadata(self.files, path)
            self.metadata = Metadata(path / METADATA)
        except MetadataError:
            self.lock.leave()
            raise

    @property
    def stopped(self) -> int | None:
        return self.lock.stopped

    def begin(self) -> None:
        self.lock.begin()

    def leave(self) -> None:
        self.metadata.close()
        self.lock.leave()

    def close(self, *, clean: bool, sequence: int = 0) -> None:
        if clean:
            self.lock.stop(sequence)
        else:
            self.lock.release()


def must_have_metadata(files: Files, path: Path) -> None:
    """Refuse a directory with messages and without metadata: with new metadata all messages would be dropped.

    Raises MetadataError.
    """
    there = any(files.list(path / name) for name in ("journal", "segments", "streams"))
    file = path / METADATA
    if there and not (file.exists() and file.stat().st_size):
        raise MetadataError(
            f"{file} is missing or empty, so the messages of this directory cannot be assigned to queues. "
            "Nothing was changed. Restore that file from a backup"
        )


class Opened(Struct, frozen=True):
    """The recovered messages and files of a store, before the metadata is restored."""

    recovered: Recovered
    next_queue_id: int
    segments: list[int]  # the numbers of the segment files
    streams: dict[int, list[int]]  # the first offsets of the streams' segments, by id


def read(backend: StorageBackend, progress: ReportProgress = ignore_progress) -> Opened:
    """Read the journal and list the segments.

    ``progress`` as in ``recover``. Raises DamageError and MetadataError.
    """
    recovered = recover(
        backend.files,
        backend.path,
        [BROKER_LOG, *backend.metadata.ids()],
        stopped=backend.stopped or 0,
        progress=progress,
    )
    backend.metadata.must_know(recovered.newest_queue)
    if backend.stopped is None:
        # It is not known which messages were delivered just before the crash; all are marked as redelivered.
        for queue in recovered.queues.values():
            queue.delivered = queue.next_position
    paths = backend.files.list(backend.path / "segments")
    segments = sorted(int(path.stem) for path in paths if path.stem.isdecimal())
    _check_segments(backend, recovered)
    streams = stream_files(backend.files, backend.path)
    return Opened(recovered, backend.metadata.next_queue_id(), segments, streams)


def _check_segments(backend: StorageBackend, recovered: Recovered) -> None:
    """Raise DamageError if a segment is missing or too short.

    The content is checked when it is read; to check all of it at a start would take too long.
    """
    last: dict[int, StoredPage] = {}
    for queue in recovered.queues.values():
        for page in queue.pages:
            if page.segment not in last or page.offset > last[page.segment].offset:
                last[page.segment] = page
    for page in last.values():
        path = page_path(backend.path, page.segment)
        try:
            end = read_piece(backend.files, path, 1, page.offset + page.length - 1)
        except FileNotFoundError:
            raise DamageError(path, page.offset, "the file is missing") from None
        if not end:
            raise DamageError(path, page.offset, "the file ends before the page does")


def make_writer(backend: StorageBackend, recovered: Recovered, journal_size: int) -> Writer:
    """Create the writer that continues after the recovered journal."""
    return Writer(
        backend.files,
        backend.path,
        backend.metadata,
        next_journal=recovered.next_journal,
        synced=recovered.sequence - 1,
        journal_size=journal_size,
    )


def restore(
    broker: Broker, store: Store, backend: StorageBackend, opened: Opened, wall_offset: int
) -> Restored:
    """Restore the metadata and the messages into ``broker``, and return the restored objects.

    Rows that cannot be restored are logged and left in the database; the messages of such a queue stay in the
    directory as long as its row does. ``store`` becomes the broker's storage. Raises DamageError and
    MetadataError, and leaves what is stored unchanged in that case.
    """
    restorer = MessageRestorer(
        backend.files,
        backend.path,
        store,
        recovered=opened.recovered,
        streams=opened.streams,
        wall_offset=wall_offset,
    )
    if opened.recovered.loaded.wrong:
        restorer.aside.checkpoint(opened.recovered.loaded.payload, opened.recovered.loaded.wrong)
    for broken in opened.recovered.broken:
        restorer.aside.records(broken)
    broker.set_aside = store.set_aside
    for line in opened.recovered.corrected:
        store.set_aside[HEADERS] += 1
        structlog.get_logger().warning("journal header ignored", what=line)
    restored = restore_metadata(broker, backend.metadata)
    _log_rows(restored, backend.path)
    store.set_aside[ROWS] += len(restored.bad)
    _restore_exchange_notes(store, restored, opened, restorer)
    if notes := opened.recovered.queues[BROKER_LOG].notes:
        store.broker_notes.restore(notes)
    pages = [page for queue in opened.recovered.queues.values() for page in queue.pages]
    store.segments.recovered(opened.segments, pages)  # before a queue drops what is beyond its limits
    for number, queue in restored.queues:
        _load(restorer, queue, number)
    _hold(broker, restorer, restored, opened)
    for stream, firsts in opened.streams.items():
        if stream not in store.logs:  # a deleted stream whose files remained as the broker ended
            store.submit(RemoveStream(stream, firsts))
    store.retirement.recovered(opened.recovered.first_journal, opened.recovered.first_sequence)
    broker.storage = store
    for path in backend.files.list(backend.path / "transient"):
        backend.files.remove(path)
    backend.begin()
    return restored


def _log_rows(restored: Restored, path: Path) -> None:
    """Log each row that was not restored, and each that was restored with a change."""
    log = structlog.get_logger()
    for row, doubt in restored.doubts:
        log.warning("restored otherwise than declared", what=row.what, error=doubt)
    for bad in restored.bad:
        advice = f"'leveret store check {path}' reports it too, and removes it with --repair"
        log.error("not restored", what=bad.row.what, error=bad.why, advice=advice)


def _load(restorer: MessageRestorer, queue: AnyQueue, number: int, *, held: bool = False) -> None:
    if isinstance(queue, Stream):
        restorer.load_stream(queue, number)
    else:
        assert isinstance(queue, Queue)
        restorer.load_queue(queue, number, held=held)


def _restore_exchange_notes(
    store: Store, restored: Restored, opened: Opened, restorer: MessageRestorer
) -> None:
    """Restore the messages that exchanges remember, and other notes of exchanges."""
    for vhost, exchange in restored.exchanges:
        if exchange.has_notes:
            number = restored.windows.get((vhost.name, exchange.name))
            if number is None:  # declared by a version that did not store notes
                exchange.attach(store.keep_exchange_log(vhost.name, exchange))
                continue
            log = store.add_exchange_log(number)
            exchange.attach(log)
            notes = opened.recovered.queues[number].notes
            log.notes.restore(notes)
            restorer.set_aside(exchange.name, number, all_of_it=True)
            restorer.aside.recall(exchange.name, exchange.recall, notes)


def _hold(broker: Broker, restorer: MessageRestorer, restored: Restored, opened: Opened) -> None:
    """Keep the messages of queues whose rows could not be restored.

    They are loaded into queues of a virtual host that is not part of the broker, so that journal files and
    segments that hold them are truncated and compacted like all others.
    """
    for bad in restored.bad.of("queues"):
        number = bad.row.columns["id"]
        assert isinstance(number, int)
        if not 0 < number <= ID_MAX:
            continue  # no messages can be stored under such an id
        arguments = bad.row.columns["arguments"]
        said = isinstance(arguments, bytes) and STREAM_ARGUMENT in arguments
        is_stream = (said or number in opened.streams) and not opened.recovered.queues[number].pages
        vhost, queue_type = VHost("", broker), "stream" if is_stream else "classic"
        queue = make_queue(vhost, "held", durable=True, arguments={"x-queue-type": queue_type})
        vhost.add_queue(queue)
        _load(restorer, queue, number, held=True)
