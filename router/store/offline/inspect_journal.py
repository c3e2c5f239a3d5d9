"""Inspection of the journal: whole batches, missing batches, and the messages that the missing ones may have
contained.

Responsible for reading the files as ``reading.Journal`` does, but also after damage.
"""

from pathlib import Path

from leveret.router.store.files import Files
from leveret.router.store.journal.checkpoint import Checkpoint
from leveret.router.store.journal.checkpoint_rebuild import load
from leveret.router.store.journal.journal import JUMP, Header, numbers, pack_header, path_of
from leveret.router.store.journal.records import (
    ProgressRecord,
    PublishRecord,
    Range,
    RunRecord,
    unpack,
)
from leveret.router.store.offline.findings import Finding, Inspection, Loss
from leveret.router.store.salvage import ScannedFile, rewrite, scan_file

MARK = b"LVRT"  # mark of a journal file without batches


class _Gaps:
    """The positions, by queue, that may have been in missing batches."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._lost_any = False
        self.lost: dict[int, list[Range]] = {}
        self._next = {state.id: state.next_position for state in checkpoint.queues}
        self._unsure: set[int] = set()  # queues without a record since a loss

    def lose(self) -> None:
        """Record that batches are missing at this place."""
        self._unsure = set(self._next)
        self._lost_any = True

    def read(self, payload: bytes) -> None:
        for record in unpack(payload):
            if isinstance(record, PublishRecord):
                for queue_id, position, _ in record.targets:
                    self._see(queue_id, position, position + 1)
            elif isinstance(record, RunRecord):
                self._see(record.queue_id, record.first, record.first + len(record.messages))
            elif isinstance(record, ProgressRecord):
                self._see(record.queue_id, record.delivered, record.delivered)

    def _see(self, queue_id: int, position: int, below: int) -> None:
        if queue_id not in self._next:
            self._next[queue_id] = 0
            if self._lost_any:
                self._unsure.add(queue_id)
        before = self._next[queue_id]
        if below > before:
            if queue_id in self._unsure:
                self._unsure.discard(queue_id)
                if position > before:
                    self.lost.setdefault(queue_id, []).append((before, position - before))
            self._next[queue_id] = below


def inspect_journal(found: Inspection, files: Files, directory: Path, stopped: int) -> None:
    """Read every journal file from the checkpoint on.

    ``stopped`` is the last batch that must exist. Raises FormatError and OSError.
    """
    first, expected = found.checkpoint.journal, found.checkpoint.sequence
    directory = directory / "journal"
    there = [number for number in numbers(files, directory) if number >= first]
    end = path_of(directory, first), 0  # where the last batch ends
    gaps = _Gaps(found.checkpoint)
    if first > 1 and first not in there:
        found.damage.append(Finding(*end, "the file is missing"))
        _replace_named(found, directory, first, expected)
        gaps.lose()
    for number in there:
        path = path_of(directory, number)
        scanned = scan_file(path, number, load(files, path), expected)
        header = scanned.header
        if header is not None and header.first > expected + JUMP and header.synced >= expected:
            scanned.renumber(expected)
        begin = _inspect_file(found, path, scanned, end, expected)
        if begin:
            batch = begin
            for each in scanned.batches:
                if each.sequence > batch:
                    gaps.lose()
                gaps.read(each.payload)
                batch = each.sequence + 1
            if scanned.damage or begin != (scanned.header and scanned.header.first):
                found.changes[path] = rewrite(scanned, begin)
            expected = max(expected, batch)
            end = path, scanned.batches[-1].end if scanned.batches else 0
        elif scanned.damage or number == first > 1:
            gaps.lose()
            found.changes[path] = None
            if number == first > 1:
                _replace_named(found, directory, first, expected)
    if stopped >= expected:
        proof = "which was on disk when the broker stopped"
        found.damage.append(Finding(*end, f"batch {expected} is gone, {proof}"))
        found.warnings = [each for each in found.warnings if each[:2] != end]
        found.given_up.add(end[0])
        found.remarks.append(f"batches {expected} to {stopped}, the last ones, are lost with all in them")
    found.losses += [Loss(queue_id, lost) for queue_id, lost in gaps.lost.items()]


def _inspect_file(
    found: Inspection, path: Path, scanned: ScannedFile, end: tuple[Path, int], expected: int
) -> int:
    """Report the faults of one file; return the sequence that it must begin with, 0 if it is unusable."""
    found.damage += [Finding(path, *each) for each in scanned.damage]
    found.warnings += [Finding(path, offset, f"{what}; it is ignored") for offset, what in scanned.corrected]
    header = scanned.header
    if header is None:
        if scanned.damage:
            found.remarks.append(f"nothing can be read of {path.name}")
        elif found.checkpoint.journal == scanned.number > 1:
            found.damage.append(Finding(path, 0, "the file header is gone"))
        else:
            found.warnings.append(Finding(path, 0, "the file was created and never written"))
        return 0
    begin = header.first
    if header.synced >= expected:
        proof = f"which was on disk when {path.name} was begun"
        found.damage.append(Finding(*end, f"batch {expected} is gone, {proof}"))
        found.warnings = [each for each in found.warnings if each[:2] != end]  # the write was not interrupted
        found.given_up.add(end[0])
        begin = expected
    elif scanned.guessed and begin > expected:
        begin = expected  # the content before the first whole batch is unknown
    elif begin > expected:
        missing = f"batches {expected} to {begin - 1}"
        found.warnings.append(Finding(path, 0, f"{missing} are gone, which had not been synced"))
    sequence = begin
    for batch in scanned.batches:
        if batch.sequence > sequence:
            lost = f"batches {sequence} to {batch.sequence - 1}"
            found.remarks.append(f"{lost} are lost: messages in them, and acknowledgements of others")
        sequence = batch.sequence + 1
    if scanned.torn is not None:
        what = "an interrupted write, which is ignored; it was not confirmed"
        found.warnings.append(Finding(path, scanned.torn, what))
    return begin


def _replace_named(found: Inspection, directory: Path, number: int, sequence: int) -> None:
    """Propose an empty journal file where the checkpoint names one."""
    header = Header(sequence, sequence - 1, MARK)
    found.changes[path_of(directory, number)] = pack_header(number, header)
    found.remarks.append(f"the content of {path_of(directory, number).name} is lost")
