"""The result of an inspection of a data directory: faults, losses, and the proposed repair.

Damage prevents a start or will cause an error later; warnings are about remains of a crash.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from leveret.router.store.journal.checkpoint import Checkpoint
from leveret.router.store.journal.records import Range


class Finding(NamedTuple):
    """A fault, in words."""

    path: Path
    offset: int
    what: str


class Loss(NamedTuple):
    """Positions of a queue whose messages may be lost."""

    queue_id: int
    positions: list[Range]


class FileSlice(NamedTuple):
    """Bytes of a file that are kept, from ``start`` to ``stop``."""

    start: int
    stop: int


@dataclass(slots=True)
class LiveTotals:
    """The live messages of a queue; ``size`` is the bytes of all bodies."""

    messages: int = 0
    size: int = 0
    pages: int = 0


@dataclass(slots=True)
class Inspection:
    """The faults, and the changes that would repair them."""

    checkpoint: Checkpoint = field(default_factory=Checkpoint)  # as proposed
    damage: list[Finding] = field(default_factory=list)
    refused: list[Finding] = field(default_factory=list)  # rows that a broker ignores at a start; no damage
    warnings: list[Finding] = field(default_factory=list)
    losses: list[Loss] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)  # further losses that a repair cannot restore
    notes: dict[int, dict[bytes, bytes]] = field(default_factory=dict)  # by the id of their queue
    newest_queue: int = 0  # the highest queue id in the directory
    # New content of whole files; None: remove
    changes: dict[Path, bytes | None] = field(default_factory=dict)
    # A file made of parts of the old one
    excerpts: dict[Path, list[bytes | FileSlice]] = field(default_factory=dict)
    indexes: set[Path] = field(default_factory=set)  # stream segments that need a new index
    given_up: set[Path] = field(default_factory=set)  # files with parts that are not read again
    queues: dict[int, LiveTotals] = field(default_factory=dict)
    live: dict[Path, int] = field(default_factory=dict)  # bytes by file
