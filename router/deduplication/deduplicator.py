"""The interface of deduplication: a message is new, a duplicate, or has no identity.

A message is remembered after it was stored, not when it is admitted: otherwise, if storing fails, the message
would be dropped as a duplicate when it is published again.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import NamedTuple

from leveret.protocol.amqp.message import INTERNAL, Message
from leveret.router.values.notes import Key, Notes
from leveret.router.values.outcome import CommitBarrier


class Identity(NamedTuple):
    """The identity of a message: the key of its note, and for a stream the publishing id."""

    key: Key
    number: int = 0


class Duplicate(NamedTuple):
    """A message that was published before. Its confirm waits for ``barrier``: the first message's commit."""

    barrier: CommitBarrier | None


Admission = Identity | Duplicate | None


class Deduplicator(ABC):
    """The message ids or publishing ids that one queue, exchange or stream has seen.

    ``notes`` persists them; None if the queue, exchange or stream is not stored.
    """

    __slots__ = ("notes",)

    def __init__(self) -> None:
        self.notes: Notes | None = None

    def admit(self, message: Message, now: int) -> Admission:
        """Return the identity of a new message, a ``Duplicate``, or None for a message without an identity.

        The caller passes the identity to ``remember`` once the message is stored. For a message from the
        broker itself the result is always None: as a duplicate it would be lost. ``now`` is in ms since the
        epoch.
        """
        if message.bits & INTERNAL:
            return None
        identity = self.identify(message)
        if identity is None or not self.is_known(identity, now):
            return identity
        return Duplicate(None if self.notes is None else self.notes.barrier())

    @abstractmethod
    def identify(self, message: Message) -> Identity | None:
        """Return the identity of a message, from its headers; None if it has none."""

    @abstractmethod
    def is_known(self, identity: Identity, now: int) -> bool:
        """Return True if a message with this identity is remembered at ``now`` (ms since the epoch)."""

    @abstractmethod
    def remember(self, identity: Identity, now: int) -> None:
        """Remember a message that was stored at ``now`` (ms since the epoch)."""

    @abstractmethod
    def recall(self, notes: Mapping[Key, bytes]) -> None:
        """Restore the remembered messages from their notes. Raises ValueError and struct.error for a note
        that cannot be decoded.
        """
