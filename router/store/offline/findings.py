"""What an inspection of a data directory gathers: what is wrong, what is lost by it, and what would mend it.

Damage is what a broker refuses to start with or will stumble upon; warnings are about what a crash may leave.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from leveret.router.store.journal.checkpoint import Checkpoint
from leveret.router.store.journal.records import Range


class Finding(NamedTuple):
    """Something that is not as it should be, in words."""

    path: Path
    offset: int
    what: str


class Loss(NamedTuple):
    """Positions of a queue whose messages may be lost."""

    queue_id: int
    positions: list[Range]


class Slice(NamedTuple):
    """Bytes of a file that are kept, from ``start`` to ``stop``."""

    start: int
    stop: int


@dataclass(slots=True)
class Totals:
    """What is live in a queue; ``size`` is the bytes of all bodies."""

    messages: int = 0
    size: int = 0
    pages: int = 0


@dataclass(slots=True)
class Inspection:
    """What was found, and what would mend it."""

    checkpoint: Checkpoint = field(default_factory=Checkpoint)  # as it should be
    damage: list[Finding] = field(default_factory=list)
    refused: list[Finding] = field(default_factory=list)  # rows that a broker starts without; no damage
    warnings: list[Finding] = field(default_factory=list)
    losses: list[Loss] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)  # what else a repair cannot bring back
    notes: dict[int, dict[bytes, bytes]] = field(default_factory=dict)  # by the id of their queue
    newest_queue: int = 0  # the highest queue id that anything tells of
    changes: dict[Path, bytes | None] = field(default_factory=dict)  # whole files; None: it goes
    excerpts: dict[Path, list[bytes | Slice]] = field(default_factory=dict)  # a file made of parts of its own
    indexes: set[Path] = field(default_factory=set)  # segments of streams that need another index
    given_up: set[Path] = field(default_factory=set)  # files with parts that nobody will read any more
    queues: dict[int, Totals] = field(default_factory=dict)
    live: dict[Path, int] = field(default_factory=dict)  # bytes by file
