"""The checkpoint of a data directory, for tests that look at what was written."""

from pathlib import Path

from leveret.router.store.files import Files
from leveret.router.store.journal.checkpoint import Checkpoint, decode_parts, read_payload


def read_checkpoint(files: Files, directory: Path) -> Checkpoint:
    """The checkpoint, all of which can be used; an empty one where there is none."""
    payload = read_payload(files, directory)
    if payload is None:
        return Checkpoint()
    checkpoint, wrong = decode_parts(payload)
    assert not wrong, wrong
    return checkpoint
