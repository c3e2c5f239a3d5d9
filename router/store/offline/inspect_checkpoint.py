"""Inspection of the checkpoint: read, or rebuilt from the pages in the segments."""

from collections.abc import Collection
from pathlib import Path

from leveret.router.store.files import Files
from leveret.router.store.journal.checkpoint import NAME, pack_checkpoint
from leveret.router.store.journal.checkpoint_rebuild import load_checkpoint, needs_checkpoint, rebuild
from leveret.router.store.journal.journal import DamageError
from leveret.router.store.offline.findings import Finding, Inspection


def inspect_checkpoint(found: Inspection, files: Files, directory: Path, known: Collection[int]) -> None:
    """Read the checkpoint, or rebuild it. Raises FormatError and OSError."""
    path = directory / NAME
    try:
        loaded = load_checkpoint(files, directory, known)
    except DamageError as problem:
        found.damage.append(Finding(path, problem.offset, problem.what))
    else:
        found.checkpoint = loaded.checkpoint
        if loaded.wrong:
            found.damage += [Finding(path, 0, what) for what in loaded.wrong]
            found.changes[path] = pack_checkpoint(found.checkpoint)
            found.remarks.append(
                "parts of the checkpoint are rebuilt from the segments: messages that were "
                "settled before it may come back"
            )
            return
        if path in files.list(directory) or not needs_checkpoint(files, directory):
            return
        found.damage.append(Finding(path, 0, "the file is missing, and journal files before the first, too"))

    def report(segment: Path, offset: int, what: str) -> None:
        found.damage.append(Finding(segment, offset, what))
        found.given_up.add(segment)

    found.checkpoint = rebuild(files, directory, known, report)
    found.changes[path] = pack_checkpoint(found.checkpoint)
    found.remarks += [
        "the checkpoint is rebuilt from the segments: messages that were settled before it may "
        "come back, and all are marked as redelivered",
        "message ids, publishing ids and the positions of named consumers of streams are kept if they are in "
        "the journal files; those in the checkpoint alone are lost: duplicates may be accepted, and named "
        "consumers begin where their arguments say",
    ]
