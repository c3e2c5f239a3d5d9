"""Salvage of damaged files: the readable rest of one file, and a rewritten file that a broker can read.

Responsible for finding what is readable in the bytes of a file. Not for reading or writing files, nor for the
choice of files (see ``offline/check``).
"""

from collections.abc import Collection, Iterator
from pathlib import Path
from struct import error

from msgspec import Struct, field
from msgspec.structs import replace

from leveret.protocol.amqp.blind_keys import FRAME_BLIND
from leveret.protocol.amqp.constants import BASIC, FRAME_BODY, FRAME_END, FRAME_HEADER, FRAME_OVERHEAD
from leveret.protocol.amqp.content_frames import FRAME, HEADER_FRAME
from leveret.protocol.amqp.message import Message, unpack_route
from leveret.protocol.errors import AmqpError
from leveret.router.store.journal.checkpoint import PageState
from leveret.router.store.journal.journal import (
    FILE_HEADER,
    JUMP,
    Batch,
    DamageError,
    Header,
    pack_batch,
    pack_header,
)
from leveret.router.store.journal.reading import batch_at, find_later, next_batch, read_header
from leveret.router.store.journal.records import BadRecord, unpack_readable
from leveret.router.store.segments.pages import PageError, StoredMessage, unpack_page, unpack_positions

# -- journal files ----------------------------------------------------------------------------------------


class ScannedFile(Struct):
    """The readable part of a journal file; ``header`` is None if nothing is readable."""

    number: int
    header: Header | None
    batches: list[Batch] = field(default_factory=list)  # in sequence, with gaps where there is damage
    damage: list[tuple[int, str]] = field(default_factory=list)  # offset, description
    torn: int | None = None  # offset of an interrupted write
    guessed: bool = False  # the header is damaged, and this one is derived from the first whole batch
    corrected: list[tuple[int, str]] = field(default_factory=list)  # impossible values that are ignored

    def correct(self, path: Path, offset: int, what: str) -> None:
        """Record an ignored value; a ``journal.reading.Correct``."""
        self.corrected.append((offset, what))

    def renumber(self, expected: int) -> None:
        """Number the batches anew, since their sequences do not follow the batch before."""
        assert self.header is not None
        what = f"batch {self.header.first} cannot follow batch {expected - 1}"
        self.damage.append((0, what))
        self.header = Header(expected, expected - 1, self.header.mark)
        self.batches = [
            replace(batch, sequence=sequence, synced=sequence - 1)
            for sequence, batch in enumerate(self.batches, expected)
        ]


def scan_file(path: Path, number: int, data: bytes, expected: int = 0) -> ScannedFile:
    """Read all whole batches, including those after damage.

    ``expected`` as in ``read_header``. Raises FormatError.
    """
    damage = []
    scanned = ScannedFile(number, None)
    try:
        header = read_header(path, number, data, expected, scanned.correct)
    except DamageError as problem:
        damage.append((0, problem.what))
        first = _first_batch(path, data)
        if first is None:
            return ScannedFile(number, None, damage=damage)
        header = Header(
            first.sequence, min(first.synced, first.sequence - 1), data[first.offset : first.offset + 4]
        )
        scanned = ScannedFile(number, header, damage=damage, guessed=True)
        _scan_batches(path, data, scanned, header, first.offset)
        return scanned
    scanned.header = header
    if header is not None:
        _scan_batches(path, data, scanned, header, FILE_HEADER)
    return scanned


def _scan_batches(path: Path, data: bytes, scanned: ScannedFile, header: Header, offset: int) -> None:
    expected = header.first
    while True:
        batch = next_batch(path, data, offset, header.mark, expected, scanned.correct)
        if batch is not None:
            batch = _without_bad_records(batch, scanned)
            scanned.batches.append(batch)
            expected, offset = expected + 1, batch.end
            continue
        later = find_later(path, data, offset, header.mark, expected)
        if later is None:
            break
        proof = f"which was on disk when batch {later.sequence} was written"
        scanned.damage.append((offset, f"batch {expected} is gone, {proof}"))
        resume = _find_whole(path, data, offset, header.mark, expected)
        assert resume is not None  # the later one is such a batch
        if resume.sequence - expected <= JUMP:
            expected, offset = resume.sequence, resume.offset
        else:  # no file can hold so many batches
            scanned.damage.append((resume.offset, f"no batch {resume.sequence} can follow"))
            scanned.batches.append(replace(resume, sequence=expected + 1, synced=expected))
            expected, offset = expected + 2, resume.end
    if data.count(0, offset) != max(0, len(data) - offset):
        scanned.torn = offset


def _without_bad_records(batch: Batch, scanned: ScannedFile) -> Batch:
    """Return a batch without unreadable records, which are added to ``scanned.damage``."""
    found = list(unpack_readable(batch.payload))
    bad = [record for _, _, record in found if isinstance(record, BadRecord)]
    if not bad:
        return batch
    scanned.damage += [(batch.offset, record.why) for record in bad]
    good = [batch.payload[start:end] for start, end, record in found if not isinstance(record, BadRecord)]
    return replace(batch, payload=b"".join(good))


def _first_batch(path: Path, data: bytes) -> Batch | None:
    """Return the first whole batch of a file whose header is damaged, as a source of the header's values."""
    found: Batch | None = None
    for mark in {data[FILE_HEADER - 8 : FILE_HEADER - 4], data[FILE_HEADER : FILE_HEADER + 4]}:
        if any(mark):
            batch = _find_whole(path, data, FILE_HEADER, mark, 1)
            if batch is not None and (found is None or batch.offset < found.offset):
                found = batch
    return found


def _find_whole(path: Path, data: bytes, offset: int, mark: bytes, least: int) -> Batch | None:
    """Return the first whole batch from an offset on with at least this sequence."""
    while (offset := data.find(mark, offset)) >= 0:
        batch = batch_at(path, data, offset, mark)
        if batch is not None and batch.sequence >= least:
            return batch
        offset += 1
    return None


def rewrite(scanned: ScannedFile, begin: int) -> bytes:
    """Return the file with everything readable, from the sequence ``begin`` on.

    Missing batches are replaced by empty ones, so that a reader finds every sequence.
    """
    header = scanned.header
    assert header is not None
    header = Header(begin, min(header.synced, begin - 1), header.mark)
    data = bytearray(pack_header(scanned.number, header))
    expected = begin
    for batch in scanned.batches:
        while expected < batch.sequence:
            data += pack_batch(header.mark, (), expected, header.synced)
            expected += 1
        data += pack_batch(header.mark, (batch.payload,), batch.sequence, batch.synced)
        expected += 1
    return bytes(data)


# -- pages ------------------------------------------------------------------------------------------------


def verify_page(data: bytes, queue_id: int, state: PageState) -> list[StoredMessage]:
    """Return the messages of a page. Raises PageError unless it is as the checkpoint describes it."""
    if len(data) != state.length:
        raise PageError(f"the file ends before the page does, which has {state.length} bytes")
    entries = unpack_page(data, queue_id)
    if [entry.position for entry in entries] != list(positions_of(state)):
        raise PageError("the page holds other positions than the checkpoint lists")
    for entry in entries:
        if not is_message(entry.route, entry.frames):
            raise PageError(f"the entry at position {entry.position} is no message")
    return entries


def positions_of(state: PageState) -> Collection[int]:
    """Return the positions of a page, ascending."""
    return unpack_positions(state.first, state.last, state.positions)


def is_message(route: bytes, frames: bytes) -> bool:
    """Return True if a route and content frames have the form of a message, all of one channel."""
    try:
        if 2 + route[0] + route[1 + route[0]] != len(route):
            return False
        unpack_route(route)
        _, channel, _, class_id, _, size_of_body = HEADER_FRAME.unpack_from(frames)
        if class_id != BASIC:
            return False
        kinds, body = [], 0
        for kind, number, size in _frames(frames):
            if number != channel:
                return False
            kinds.append(kind)
            body += size if kind == FRAME_BODY else 0
        if kinds[0] == FRAME_BLIND == kinds[-1]:
            kinds[0], _ = FRAME_HEADER, kinds.pop()
        if kinds[:1] != [FRAME_HEADER] or any(kind != FRAME_BODY for kind in kinds[1:]):
            return False
        _ = Message.from_frames(route, frames).blind_keys
        return bool(body == size_of_body)
    except (AmqpError, ValueError, IndexError, error):
        return False


def _frames(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield the type, channel and payload size of each frame. Raises ValueError for incomplete frames."""
    offset = 0
    while offset < len(data):
        kind, channel, size = FRAME.unpack_from(data, offset)
        offset += size + FRAME_OVERHEAD
        if offset > len(data) or data[offset - 1] != FRAME_END:
            raise ValueError("no frame end")
        yield kind, channel, size
