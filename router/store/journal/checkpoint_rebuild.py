"""Making a checkpoint anew from the pages that the segments hold, for what the checkpoint itself cannot tell.

A repair does this for a damaged checkpoint, and a start for the parts of one that is whole but says what
cannot be.
"""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import msgspec

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
    Stored,
    find_pages,
    stored_size,
    unpack_page,
)
from leveret.router.store.set_aside import read_message

Tell = Callable[[Path, int, str], None]  # what is wrong at an offset of a file, in words


@dataclass(slots=True)
class Loaded:
    """A checkpoint that can be used. ``wrong`` says what of the file ``payload`` could not, in words."""

    checkpoint: Checkpoint
    payload: bytes = b""
    wrong: list[str] = field(default_factory=list)


def silent(path: Path, offset: int, what: str) -> None:
    """Nobody is told."""


def load_checkpoint(files: Files, directory: Path, known: Collection[int]) -> Loaded:
    """Read the checkpoint. Queues among ``known`` whose part of it cannot be used get the pages that the
    segments hold of them, with messages that were settled before. Raises DamageError and FormatError.
    """
    payload = read_payload(files, directory)
    if payload is None:
        return Loaded(Checkpoint())
    checkpoint, wrong = decode_parts(payload)
    if not wrong:
        return Loaded(checkpoint)
    whole = {state.id: state for state in checkpoint.queues}
    named = {(page.segment, page.offset) for state in checkpoint.queues for page in state.pages}
    lacking = {state.id for state in checkpoint.queues if state.id in wrong} | (set(known) - set(whole))
    found = {
        queue_id: [page for page in pages if (page.segment, page.offset) not in named]
        for queue_id, pages in states_in_segments(files, directory, lacking, silent).items()
    }
    for queue_id in lacking:
        state = whole.get(queue_id, QueueState(queue_id, 0, 0, ()))
        whole[queue_id] = with_pages(state, found.get(queue_id, []))
    queues = [state for state in whole.values() if state.pages or state.notes or state.next_position]
    checkpoint = msgspec.structs.replace(checkpoint, queues=queues)
    if NO_START in wrong:
        number, sequence = _start(files, directory)
        checkpoint = msgspec.structs.replace(checkpoint, journal=number, sequence=sequence)
    told = [f"queue {queue_id}: {what}" if queue_id >= 0 else what for queue_id, what in wrong.items()]
    return Loaded(checkpoint, payload, told)


def with_pages(state: QueueState, pages: Iterable[PageState]) -> QueueState:
    """The state of a queue with some more pages, none of whose positions it has already."""
    held = {position for page in state.pages for position in page.every_position()}
    more: list[PageState] = []
    for page in pages:
        doubles = [position for position in page.every_position() if position in held]
        if len(doubles) < page.count():  # one that was moved may be there twice
            held.update(page.every_position())
            settled = [*page.settled, *ranges(doubles)]
            more.append(msgspec.structs.replace(page, settled=settled))
    behind = max([state.next_position, *(page.last + 1 for page in more)])
    return msgspec.structs.replace(
        state,
        next_position=behind,
        delivered=max(state.delivered, behind if more else 0),
        pages=[*state.pages, *more],
    )


def rebuild(files: Files, directory: Path, known: Collection[int], tell: Tell) -> Checkpoint:
    """A checkpoint that names every whole page there is, and the first journal file.

    It has no notes: those in the journal come from there, and the gaps of streams are found again.
    """
    found = states_in_segments(files, directory, known, tell)
    queues = [with_pages(QueueState(each, 0, 0, ()), pages) for each, pages in sorted(found.items())]
    return Checkpoint(*_start(files, directory), queues)


def _start(files: Files, directory: Path) -> tuple[int, int]:
    """The number of the first journal file that says anything, and the sequence of its first batch."""
    begun = _first_begun(files, directory)
    return (1, 1) if begun is None or begun.header is None else (begun.number, begun.header.first)


def states_in_segments(
    files: Files, directory: Path, known: Collection[int], tell: Tell
) -> dict[int, list[PageState]]:
    """The whole pages of all segments, by their queues; ``tell`` is called for what is no page."""
    pages: dict[int, list[PageState]] = {}
    for path in segments(files, directory) if known else ():
        data = load(files, path)
        end = 0
        for offset, length, queue_id in find_pages(data):
            if offset > end:
                tell(path, end, f"no page can be read before {offset}")
            end = offset + length
            if queue_id not in known:
                continue
            try:
                entries = unpack_page(data[offset:end], queue_id)
                state = state_of(int(path.stem), offset, length, entries, [])
            except PageError as error:
                tell(path, offset, str(error))
            else:
                pages.setdefault(queue_id, []).append(state)
        if data.strip(b"\0") and end < len(data):
            tell(path, end, "no page can be read from here on")
    return pages


def needs_checkpoint(files: Files, directory: Path) -> bool:
    """Whether what is there, without a checkpoint, cannot be all that there was."""
    begun = _first_begun(files, directory)
    if begun is None:
        return bool(files.list(directory / "segments"))
    header = begun.header
    return header is not None and begun.number > 1 and header.synced > 0


def _first_begun(files: Files, directory: Path) -> ScannedFile | None:
    """The first journal file that says anything."""
    for number in numbers(files, directory / "journal"):
        path = path_of(directory / "journal", number)
        scanned = scan_file(path, number, load(files, path))
        if scanned.header is not None:
            return scanned
    return None


def state_of(
    segment: int, offset: int, length: int, entries: list[Stored], settled: list[Range]
) -> PageState:
    """A page as a checkpoint names it. Raises PageError if there is no such page."""
    positions = [entry.position for entry in entries]
    if not positions or any(one >= other for one, other in pairwise(positions)):
        raise PageError("its positions do not ascend")
    if positions[-1] > LAST_MAX:
        raise PageError(f"no queue has come to position {positions[-1]}")
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


def _priority(entries: list[Stored]) -> int:
    """The priority of a page's messages, which is that of each that can be read."""
    messages = (read_message(entry.route, entry.frames) for entry in entries)
    return next((message.properties.priority or 0 for message in messages if message is not None), 0)


def _packed(positions: list[int]) -> bytes:
    if positions[-1] - positions[0] + 1 == len(positions):
        return b""
    return b"".join(position.to_bytes(8, "big") for position in positions)


def load(files: Files, path: Path) -> bytes:
    """All that a file holds."""
    descriptor = files.open(path)
    try:
        return read_whole(files, descriptor)
    finally:
        files.close(descriptor)


def segments(files: Files, directory: Path) -> list[Path]:
    """The segment files of a data directory."""
    there = files.list(directory / "segments")
    return [path for path in there if path.suffix == SUFFIX and path.stem.isdecimal()]
