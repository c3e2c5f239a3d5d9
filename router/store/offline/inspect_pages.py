"""Inspection of pages: reads every page that the checkpoint names, and salvages bad ones."""

from pathlib import Path

import msgspec

from leveret.router.store.files import Files
from leveret.router.store.journal.checkpoint import NAME, PageState, pack_checkpoint
from leveret.router.store.journal.checkpoint_rebuild import segments, state_of
from leveret.router.store.journal.records import ranges
from leveret.router.store.journal.recovery import Recovered
from leveret.router.store.offline.findings import Finding, Inspection, LiveTotals, Loss
from leveret.router.store.salvage import is_message, positions_of, verify_page
from leveret.router.store.segments.pages import (
    PageError,
    StoredMessage,
    StoredPage,
    pack_page,
    salvage_entries,
    segment_path,
    stored_size,
)
from leveret.router.store.segments.reader import read_piece


def inspect_pages(found: Inspection, files: Files, directory: Path, recovered: Recovered) -> None:
    """Read every page of the existing queues, count the live messages, and salvage bad pages.

    Raises OSError.
    """
    segment = 1 + max(
        [
            *(int(path.stem) for path in segments(files, directory)),
            *(page.segment for queue in found.checkpoint.queues for page in queue.pages),
        ],
        default=0,
    )
    moved = bytearray()
    before = len(found.damage)
    queues = []
    for queue in found.checkpoint.queues:
        if queue.id not in recovered.queues:
            continue  # the queue was deleted
        pages = {(page.segment, page.offset): page for page in recovered.queues[queue.id].pages}
        states: list[PageState] = []
        for state in queue.pages:
            page = pages.get((state.segment, state.offset))
            path = segment_path(directory, state.segment)
            data = _read_page(files, path, state)
            try:
                if data is None:
                    raise PageError("the file is missing")
                _count(found, path, queue.id, page, verify_page(data, queue.id, state))
            except PageError as problem:
                found.damage.append(Finding(path, state.offset, f"page of queue {queue.id}: {problem}"))
                entries = _salvage(found, queue.id, data or b"", state, page)
                if data is not None:
                    found.given_up.add(path)
                if entries:
                    packed = pack_page(queue.id, entries)
                    states.append(_moved(state, segment, len(moved), len(packed), entries))
                    moved += packed
            else:
                states.append(state)
        queues.append(msgspec.structs.replace(queue, pages=states))
    if len(found.damage) > before:
        found.checkpoint = msgspec.structs.replace(found.checkpoint, queues=queues)
        found.changes[directory / NAME] = pack_checkpoint(found.checkpoint)
        if moved:
            found.changes[segment_path(directory, segment)] = bytes(moved)
            found.remarks.append(
                "the readable part of damaged pages is kept; a checksum covers a whole page, so that "
                "one of these messages may not be what was published"
            )


def _count(
    found: Inspection, path: Path, queue_id: int, page: StoredPage | None, entries: list[StoredMessage]
) -> None:
    """Add the live messages of a page to the totals."""
    live = [entry for entry in entries if page is not None and not page.is_settled(entry.position)]
    totals = found.queues.setdefault(queue_id, LiveTotals())
    totals.messages += len(live)
    totals.size += sum(stored_size(entry.frames) for entry in live)
    totals.pages += bool(live)
    stored = sum(len(entry.route) + len(entry.frames) for entry in live)
    found.live[path] = found.live.get(path, 0) + stored


def _salvage(
    found: Inspection, queue_id: int, data: bytes, state: PageState, page: StoredPage | None
) -> list[StoredMessage]:
    """Return the readable live messages of a damaged page; the others are lost."""
    live = [each for each in positions_of(state) if page is not None and not page.is_settled(each)]
    entries = salvage_entries(data, live, is_message)
    kept = {entry.position for entry in entries}
    lost = ranges(position for position in live if position not in kept)
    if lost:
        found.losses.append(Loss(queue_id, lost))
    return entries


def _moved(
    state: PageState, segment: int, offset: int, length: int, entries: list[StoredMessage]
) -> PageState:
    """Return the state of a page at another place with fewer messages, none of them settled."""
    fresh = state_of(segment, offset, length, entries, [])
    kept = {entry.position for entry in entries}
    returns = {position: count for position, count in state.returns.items() if position in kept}
    return msgspec.structs.replace(
        state,
        segment=segment,
        offset=offset,
        length=length,
        first=fresh.first,
        last=fresh.last,
        positions=fresh.positions,
        size=fresh.size,
        earliest=fresh.earliest,
        settled=[],
        returns=returns,
    )


def _read_page(files: Files, path: Path, state: PageState) -> bytes | None:
    """Return the bytes at the place of a page; None if the file is missing."""
    try:
        return read_piece(files, path, state.length, state.offset)
    except FileNotFoundError:
        return None
