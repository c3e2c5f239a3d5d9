"""The check of a data directory: its content and its faults.

Responsible for the order of the inspections, and the report. It changes nothing (see ``repair``).
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from leveret.router.store.files import Files
from leveret.router.store.journal.checkpoint import NAME
from leveret.router.store.journal.checkpoint_rebuild import segments
from leveret.router.store.journal.journal import numbers, path_of
from leveret.router.store.journal.reading import Journal
from leveret.router.store.journal.records import BROKER_LOG, BadRecord, publishes_of, unpack_readable
from leveret.router.store.journal.recovery import Recovered, recover
from leveret.router.store.metadata.restore import Restored
from leveret.router.store.metadata.statements import QueueRow
from leveret.router.store.offline.directory import (
    Overlay,
    ReadOnlyFiles,
    is_stream,
    must_know,
    read_metadata,
    reindexed_metadata,
    try_restore,
    without_rows,
)
from leveret.router.store.offline.findings import Finding, Inspection, LiveTotals
from leveret.router.store.offline.inspect_checkpoint import inspect_checkpoint
from leveret.router.store.offline.inspect_journal import inspect_journal
from leveret.router.store.offline.inspect_pages import inspect_pages
from leveret.router.store.offline.inspect_streams import inspect_streams
from leveret.router.store.opening import METADATA
from leveret.router.store.segments.pages import stored_size
from leveret.router.store.set_aside import Recall, bad_notes, read_message


class FileReport(NamedTuple):
    """One file; sizes are in bytes. ``live`` are the bytes that are still needed."""

    path: Path
    kind: str
    size: int
    live: int


@dataclass(slots=True)
class Report:
    """The content of a data directory, and its faults."""

    queues: list[tuple[QueueRow, LiveTotals]]
    files: list[FileReport]
    inspection: Inspection


def check(directory: Path, stopped: int) -> Report:
    """Inspect everything. ``stopped`` is the last batch that must exist.

    Raises MetadataError, since nothing can be reported without the metadata, FormatError and OSError.
    """
    rows, wrong = read_metadata(directory)
    found = inspect(ReadOnlyFiles(), directory, rows, stopped)
    must_know(directory, found.newest_queue)
    if wrong:
        found.damage[:0] = [Finding(directory / METADATA, 0, line) for line in wrong]
        _mend_metadata(found, directory)
    restored = try_restore(directory)
    found.refused += [Finding(directory / METADATA, 0, str(bad)) for bad in restored.bad]
    found.warnings[:0] = [
        Finding(directory / METADATA, 0, f"{row.what}: {doubt}") for row, doubt in restored.doubts
    ]
    _try_notes(found, restored, directory)
    if restored.bad and not wrong:
        _change_metadata(found, directory, without_rows(directory, restored.bad))
    queues = [(row, found.queues.get(row.id, LiveTotals())) for row in rows]
    return Report(queues, list(_files(found, directory)), found)


def _try_notes(found: Inspection, restored: Restored, directory: Path) -> None:
    """Warn of notes that queues and exchanges cannot decode."""
    recalls: list[tuple[int, str, Recall]] = []
    for number, queue in restored.queues:
        recalls.append((number, queue.name, queue.recall))
    for vhost, exchange in restored.exchanges:
        if exchange.has_notes:
            window = restored.windows.get((vhost.name, exchange.name), 0)
            recalls.append((window, exchange.name, exchange.recall))
    for number, name, recall in recalls:
        for key in bad_notes(recall, found.notes.get(number, {})):
            what = f"note {key!r} of '{name}' cannot be read; a broker starts without it"
            found.warnings.append(Finding(directory / "journal", 0, what))


def _mend_metadata(found: Inspection, directory: Path) -> None:
    """Propose rebuilt indexes; the content of a table cannot be restored."""
    whole = reindexed_metadata(directory)
    if whole is None:
        found.remarks.append(f"{METADATA} cannot be repaired: restore that file from a backup")
        return
    _change_metadata(found, directory, whole)


def _change_metadata(found: Inspection, directory: Path, whole: bytes) -> None:
    """Propose to replace the metadata database."""
    found.changes[directory / METADATA] = whole
    for suffix in ("-wal", "-shm"):
        found.changes[directory / f"{METADATA}{suffix}"] = None


def inspect(files: Files, directory: Path, rows: Collection[QueueRow], stopped: int) -> Inspection:
    """Inspect everything but the metadata. Raises FormatError and OSError."""
    found = Inspection()
    known = frozenset([BROKER_LOG, *(row.id for row in rows)])
    inspect_checkpoint(found, files, directory, known)
    inspect_journal(found, files, directory, stopped)
    # The broker's own reader determines what a broker would find, with everything repaired that it would
    # refuse.
    mended = Overlay(found.changes)
    recovered = recover(mended, directory, known)
    found.newest_queue = recovered.newest_queue
    found.notes = {number: queue.notes for number, queue in recovered.queues.items()}
    inspect_pages(found, files, directory, recovered)
    _count_journal(found, mended, directory, recovered)
    _inspect_leftovers(found, files, directory)
    inspect_streams(found, files, directory, recovered, {row.id for row in rows if is_stream(row)})
    return found


def _count_journal(found: Inspection, files: Files, directory: Path, recovered: Recovered) -> None:
    """Add the live messages that are only in the journal."""
    for queue_id, queue in recovered.queues.items():
        totals = found.queues.setdefault(queue_id, LiveTotals())
        totals.messages += len(queue.entries)
        for position, entry in queue.entries.items():
            if read_message(entry.route, entry.frames) is not None:
                totals.size += stored_size(entry.frames)
            else:
                fault = f"the message at position {position} of queue {queue_id} cannot be read"
                found.warnings.append(
                    Finding(directory / "journal", 0, f"{fault}; a broker sets it aside when it starts")
                )
    for broken in recovered.broken:
        what = f"{broken.what}; a broker sets this record aside when it starts"
        found.warnings.append(Finding(broken.path, broken.offset, what))
    for batch in Journal(files, directory / "journal", found.checkpoint.journal, found.checkpoint.sequence):
        for _, _, record in unpack_readable(batch.payload):
            for publish in () if isinstance(record, BadRecord) else publishes_of(record):
                if any(
                    queue_id in recovered.queues and position in recovered.queues[queue_id].entries
                    for queue_id, position, _ in publish.targets
                ):
                    size = len(publish.route) + len(publish.frames)
                    found.live[batch.path] = found.live.get(batch.path, 0) + size


def _inspect_leftovers(found: Inspection, files: Files, directory: Path) -> None:
    """Warn of files that are not referenced: a broker ignores them and removes them in time."""
    named = {page.segment for queue in found.checkpoint.queues for page in queue.pages}
    places = (directory, directory / "journal", directory / "segments", directory / "streams")
    for path in (path for place in places for path in files.list(place)):
        if path.suffix == ".tmp":
            found.warnings.append(Finding(path, 0, "an unfinished file of a process that ended"))
    for path in segments(files, directory):
        if int(path.stem) not in named:
            found.warnings.append(Finding(path, 0, "nothing in it is needed; the broker will remove it"))
    streams = files.list(directory / "streams")
    for path in streams:
        if path.suffix == ".index" and path.with_suffix(".segment") not in streams:
            found.warnings.append(Finding(path, 0, "the index of a missing segment"))
    for number in numbers(files, directory / "journal"):
        if number < found.checkpoint.journal:
            path = path_of(directory / "journal", number)
            found.warnings.append(Finding(path, 0, "nothing in it is needed; the broker will remove it"))


def _files(found: Inspection, directory: Path) -> Iterable[FileReport]:
    files = ReadOnlyFiles()
    kinds = [(directory / METADATA, "metadata"), (directory / f"{METADATA}-wal", "metadata")]
    kinds.append((directory / NAME, "checkpoint"))
    kinds += [
        (path_of(directory / "journal", each), "journal") for each in numbers(files, directory / "journal")
    ]
    kinds += [(path, "segment") for path in segments(files, directory)]
    kinds += [(path, "stream") for path in files.list(directory / "streams") if path.suffix == ".segment"]
    for path, kind in kinds:
        if path.exists():
            size = path.stat().st_size
            whole = kind in ("metadata", "checkpoint")
            yield FileReport(path, kind, size, size if whole else found.live.get(path, 0))
