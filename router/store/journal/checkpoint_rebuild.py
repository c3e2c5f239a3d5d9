"""Rebuilding of a checkpoint from the pages in the segments.

A repair does this for a damaged checkpoint, and a start for parts of a whole checkpoint that have impossible
values.
"""

from collections.abc import Callable, Collection, Iterable
from itertools import pairwise
from pathlib import Path

import msgspec
from msgspec import Struct, field

from leveret.router.store.files import Files, read_whole
from leveret.router.store.journal.checkpoint import (
    LAST_MAX,
    NO_START,
    Checkpoint,
    PageState,
    QueueState,
    decode_parts,
    read_payload,
)
from leveret.router.store.journal.journal import numbers, path_of
from leveret.router.store.journal.records import Range, ranges
from leveret.router.store.salvage import ScannedFile, scan_file
from leveret.router.store.segments.pages import (
    SUFFIX,
    PageError,
    StoredMessage,
    find_pages,
    stored_size,
    unpack_page,
)
from leveret.router.store.set_aside import read_message

ReportFault = Callable[
    [Path, int, str], None
]  # called with a file, an offset and a description of the fault there


class LoadedCheckpoint(Struct):
    """A usable checkpoint. ``wrong`` describes the unusable parts of the file's ``payload``."""

    checkpoint: Checkpoint
    payload: bytes = b""
    wrong: list[str] = field(default_factory=list)


def ignore_fault(path: Path, offset: int, what: str) -> None:
    """Ignore a fault; a ``ReportFault``."""


def load_checkpoint(files: Files, directory: Path, known: Collection[int]) -> LoadedCheckpoint:
    """Read the checkpoint.

    ``known`` are the ids of the existing queues. If the part of a known queue is unusable, the queue gets all
    its pages in the segments, including messages that were settled. Raises DamageError and FormatError.
    """
    payload = read_payload(files, directory)
    if payload is None:
        return LoadedCheckpoint(Checkpoint())
    checkpoint, wrong = decode_parts(payload)
    if not wrong:
        return LoadedCheckpoint(checkpoint)
    whole = {state.id: state for state in checkpoint.queues}
    named = {(page.segment, page.offset) for state in checkpoint.queues for page in state.pages}
    lacking = {state.id for state in checkpoint.queues if state.id in wrong} | (set(known) - set(whole))
    found = {
        queue_id: [page for page in pages if (page.segment, page.offset) not in named]
        for queue_id, pages in states_in_segments(files, directory, lacking, ignore_fault).items()
    }
    for queue_id in lacking:
        state = whole.get(queue_id, QueueState(queue_id, 0, 0, ()))
        whole[queue_id] = with_pages(state, found.get(queue_id, []))
    queues = [state for state in whole.values() if state.pages or state.notes or state.next_position]
    checkpoint = msgspec.structs.replace(checkpoint, queues=queues)
    if NO_START in wrong:
        number, sequence = _start(files, directory)
        checkpoint = msgspec.structs.replace(checkpoint, journal=number, sequence=sequence)
    faults = [f"queue {queue_id}: {what}" if queue_id >= 0 else what for queue_id, what in wrong.items()]
    return LoadedCheckpoint(checkpoint, payload, faults)


def with_pages(state: QueueState, pages: Iterable[PageState]) -> QueueState:
    """Return the state of a queue with more pages, without positions that the queue already has."""
    held = {position for page in state.pages for position in page.every_position()}
    more: list[PageState] = []
    for page in pages:
        doubles = [position for position in page.every_position() if position in held]
        if len(doubles) < page.count():  # a page that was moved may exist twice
            held.update(page.every_position())
            settled = [*page.settled, *ranges(doubles)]
            more.append(msgspec.structs.replace(page, settled=settled))
    next_position = max([state.next_position, *(page.last + 1 for page in more)])
    return msgspec.structs.replace(
        state,
        next_position=next_position,
        delivered=max(state.delivered, next_position if more else 0),
        pages=[*state.pages, *more],
    )


def rebuild(files: Files, directory: Path, known: Collection[int], report: ReportFault) -> Checkpoint:
    """Return a checkpoint that names every whole page, and the first journal file.

    It has no notes: notes in the journal are read from there, and the gaps of streams are found again.
    """
    found = states_in_segments(files, directory, known, report)
    queues = [with_pages(QueueState(each, 0, 0, ()), pages) for each, pages in sorted(found.items())]
    return Checkpoint(*_start(files, directory), queues)


def _start(files: Files, directory: Path) -> tuple[int, int]:
    """Return the number of the first journal file with a header, and the sequence of its first batch."""
    begun = _first_begun(files, directory)
    return (1, 1) if begun is None or begun.header is None else (begun.number, begun.header.first)


def states_in_segments(
    files: Files, directory: Path, known: Collection[int], report: ReportFault
) -> dict[int, list[PageState]]:
    """Return the whole pages of all segments, by their queues; report other bytes to ``report``."""
    pages: dict[int, list[PageState]] = {}
    for path in segments(files, directory) if known else ():
        data = load(files, path)
        end = 0
        for offset, length, queue_id in find_pages(data):
            if offset > end:
                report(path, end, f"no page can be read before {offset}")
            end = offset + length
            if queue_id not in known:
                continue
            try:
                entries = unpack_page(data[offset:end], queue_id)
                state = state_of(int(path.stem), offset, length, entries, [])
            except PageError as error:
                report(path, offset, str(error))
            else:
                pages.setdefault(queue_id, []).append(state)
        if data.strip(b"\0") and end < len(data):
            report(path, end, "no page can be read from here on")
    return pages


def needs_checkpoint(files: Files, directory: Path) -> bool:
    """Return True if a directory that has no checkpoint must have had one."""
    begun = _first_begun(files, directory)
    if begun is None:
        return bool(files.list(directory / "segments"))
    header = begun.header
    return header is not None and begun.number > 1 and header.synced > 0


def _first_begun(files: Files, directory: Path) -> ScannedFile | None:
    """Return the first journal file with a header."""
    for number in numbers(files, directory / "journal"):
        path = path_of(directory / "journal", number)
        scanned = scan_file(path, number, load(files, path))
        if scanned.header is not None:
            return scanned
    return None


def state_of(
    segment: int, offset: int, length: int, entries: list[StoredMessage], settled: list[Range]
) -> PageState:
    """Return a page as a checkpoint names it. Raises PageError for an impossible one."""
    positions = [entry.position for entry in entries]
    if not positions or any(one >= other for one, other in pairwise(positions)):
        raise PageError("its positions do not ascend")
    if positions[-1] > LAST_MAX:
        raise PageError(f"position {positions[-1]} is impossible")
    return PageState(
        segment=segment,
        offset=offset,
        length=length,
        first=positions[0],
        last=positions[-1],
        positions=_packed(positions),
        size=sum(stored_size(entry.frames) for entry in entries),
        earliest=min((entry.deadline for entry in entries if entry.deadline), default=0),
        priority=_priority(entries),
        settled=settled,
        returns={},
    )


def _priority(entries: list[StoredMessage]) -> int:
    """Return the priority of a page's messages: that of any readable one."""
    messages = (read_message(entry.route, entry.frames) for entry in entries)
    return next((message.traits.priority for message in messages if message is not None), 0)


def _packed(positions: list[int]) -> bytes:
    if positions[-1] - positions[0] + 1 == len(positions):
        return b""
    return b"".join(position.to_bytes(8, "big") for position in positions)


def load(files: Files, path: Path) -> bytes:
    """Return the content of a file."""
    descriptor = files.open(path)
    try:
        return read_whole(files, descriptor)
    finally:
        files.close(descriptor)


def segments(files: Files, directory: Path) -> list[Path]:
    """Return the segment files of a data directory."""
    there = files.list(directory / "segments")
    return [path for path in there if path.suffix == SUFFIX and path.stem.isdecimal()]
