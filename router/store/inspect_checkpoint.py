"""The checkpoint in an inspection: read, or made anew from the pages that the segments hold."""

from collections.abc import Collection
from pathlib import Path

from leveret.protocol.amqp.message import body_size
from leveret.router.store.checkpoint import (
    NAME,
    Checkpoint,
    PageState,
    QueueState,
    pack_checkpoint,
    read_checkpoint,
)
from leveret.router.store.files import Files
from leveret.router.store.findings import Finding, Inspection, load, segments
from leveret.router.store.journal import DamageError, numbers, path_of
from leveret.router.store.pages import Stored, find_pages, unpack_page
from leveret.router.store.records import Range, ranges
from leveret.router.store.salvage import ScannedFile, scan_file
from leveret.router.store.unreadable import read_message


def inspect_checkpoint(found: Inspection, files: Files, directory: Path, known: Collection[int]) -> None:
    """Read the checkpoint, or make one anew. Raises FormatError and OSError."""
    path = directory / NAME
    try:
        found.checkpoint = read_checkpoint(files, directory)
    except DamageError as problem:
        found.damage.append(Finding(path, problem.offset, problem.what))
    else:
        if path in files.list(directory) or not _needs_checkpoint(files, directory):
            return
        found.damage.append(Finding(path, 0, "the file is missing, and journal files before the first, too"))
    found.checkpoint = _rebuild(found, files, directory, known)
    found.changes[path] = pack_checkpoint(found.checkpoint)
    found.remarks += [
        "the checkpoint is made anew from what the segments hold: messages that were settled before it may "
        "come back, and all come as redelivered",
        "what deduplication remembers, the positions of named consumers of streams and the numbers of their "
        "publishers are kept where the journal files tell them; those of the checkpoint alone are lost: "
        "what was taken once may be taken again, and consumers begin where their arguments say",
    ]


def _needs_checkpoint(files: Files, directory: Path) -> bool:
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


def _rebuild(found: Inspection, files: Files, directory: Path, known: Collection[int]) -> Checkpoint:
    """A checkpoint that names every whole page there is, and the first journal file.

    It has no notes: those in the journal come from there, and the gaps of streams are found again.
    """
    pages: dict[int, list[PageState]] = {}
    seen: dict[int, set[int]] = {}
    for path in segments(files, directory):
        data = load(files, path)
        end = 0
        for offset, length, queue_id in find_pages(data):
            if offset > end:
                found.damage.append(Finding(path, end, f"no page can be read before {offset}"))
                found.given_up.add(path)
            end = offset + length
            if queue_id not in known:
                continue
            entries = unpack_page(data[offset:end], queue_id)
            held = seen.setdefault(queue_id, set())
            doubles = [entry.position for entry in entries if entry.position in held]
            if len(doubles) < len(entries):  # one that was moved may be there twice
                held.update(entry.position for entry in entries)
                state = state_of(int(path.stem), offset, length, entries, ranges(doubles))
                pages.setdefault(queue_id, []).append(state)
        if data.strip(b"\0") and end < len(data):
            found.damage.append(Finding(path, end, "no page can be read from here on"))
            found.given_up.add(path)
    queues = [
        QueueState(queue_id, behind, behind, states)
        for queue_id, states in sorted(pages.items())
        for behind in [max(state.last for state in states) + 1]
    ]
    begun = _first_begun(files, directory)
    if begun is None or begun.header is None:
        return Checkpoint(1, 1, queues)
    return Checkpoint(begun.number, begun.header.first, queues)


def state_of(
    segment: int, offset: int, length: int, entries: list[Stored], settled: list[Range]
) -> PageState:
    """A page as a checkpoint names it."""
    positions = [entry.position for entry in entries]
    return PageState(
        segment=segment,
        offset=offset,
        length=length,
        first=positions[0],
        last=positions[-1],
        positions=_packed(positions),
        size=sum(body_size(entry.frames) for entry in entries),
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
