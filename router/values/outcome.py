"""The outcome of a message in a queue, and the entries that its publisher's confirm waits for.

Responsible for the types of the result. Queues, streams and reply targets return an ``Outcome``; the
publisher confirms of a session keep those whose entries are not on disk yet.
"""

from enum import Enum
from typing import Final, Protocol, TypeAlias


class Awaited(Protocol):
    """A stored message, or a barrier, whose batch must be on disk before a publish is confirmed.

    ``settled``: the confirm need not wait for the batch. ``refused``: the store could not write the message.
    """

    settled: bool
    refused: bool


class CommitBarrier:
    """The commit that a confirm waits for: of messages of a stream, or of a duplicate whose first message is
    in the same batch or an earlier one.

    A barrier is part of the batch that is open when it is created, and is not settled before that batch is on
    disk.
    """

    __slots__ = ("refused", "settled")

    def __init__(self) -> None:
        self.settled = False
        self.refused = False


class Refusal(Enum):
    """The type of ``REFUSED``."""

    REFUSED = "refused"


REFUSED: Final = Refusal.REFUSED

# None: the message was accepted, or is a duplicate, and its confirm need not wait.
Outcome: TypeAlias = Awaited | Refusal | None


class OpenBatch(Protocol):
    """Interface of the store: the number of the batch that everything stored now is part of."""

    batch: int


class Outcomes:
    """The outcomes of one message in all of its queues, collected in one turn or several.

    ``accepted``: no queue has refused the message. ``batch`` is the number of the last batch that contains an
    outcome in ``awaited``, 0 if there is nothing to wait for.
    """

    __slots__ = ("_store", "accepted", "awaited", "batch")

    def __init__(self, store: OpenBatch) -> None:
        self.accepted = True
        self.awaited: list[Awaited] = []
        self.batch = 0
        self._store = store

    def add(self, outcome: Outcome) -> None:
        if outcome is REFUSED:
            self.accepted = False
        elif outcome is not None:
            self.awaited.append(outcome)
            self.batch = self._store.batch
