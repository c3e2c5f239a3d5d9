"""One message in one queue: its position, deadline, number of returns and storage state."""

from typing import Protocol

from msgspec import Struct

from leveret.protocol.amqp.message import NO_FIELDS, Message


class Page(Protocol):
    """Interface of a page of a segment that holds messages of a queue.

    ``live`` counts the unsettled messages, ``written`` is True if the page is on disk.
    """

    live: int
    written: bool

    def settle(self, position: int) -> None: ...
    def give_back(self, position: int, returns: int) -> None: ...


class Entry:
    """A message in a queue or stream. This class has no fields: see ``QueuedEntry``, and ``stream/chunk``."""

    __slots__ = NO_FIELDS

    message: Message
    position: int
    expires: int
    returns: int
    indexed: bool
    gone: bool
    settled: bool
    refused: bool
    stored: bool
    page: Page | None

    def __lt__(self, other: "Entry") -> bool:
        return self.position < other.position

    def copy(self) -> "Entry":
        """Return an entry of the same message at the same position that no index and no order holds."""
        made = QueuedEntry(self.message, self.position, self.expires)
        made.returns, made.settled, made.refused = self.returns, self.settled, self.refused
        made.stored, made.page = self.stored, self.page
        return made


class QueuedEntry(Entry, Struct, eq=False, gc=False):
    """A message in a queue.

    - ``position``: number in the order of arrival. It never changes: a requeued entry returns to its place.
    - ``expires``: deadline in ms (0: none); ``indexed`` is True if the expiry index holds the entry.
    - ``returns``: number of times that a consumer returned the message.
    - ``gone``: the entry was removed from the middle of the order, and is skipped when it reaches the head.
    - ``stored``: the queue's log holds the message; ``page`` is its page of a segment, None if the journal
      has it.
    - ``refused``: the log failed to record the message, or the one that it is a duplicate of.
    - ``settled``: the message was acknowledged or dropped. An entry that was dead-lettered is neither
      ``stored`` nor ``settled``.

    It is made in C, in 0.04 us instead of 0.11 us, and is not tracked by the garbage collector: neither a
    message nor a page refers to entries.
    """

    message: Message
    position: int
    expires: int = 0
    returns: int = 0
    indexed: bool = False
    gone: bool = False
    settled: bool = False
    refused: bool = False
    stored: bool = False
    page: Page | None = None
