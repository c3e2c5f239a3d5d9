"""One message in one queue: its position, deadline, number of returns and storage state."""

from typing import Protocol

from leveret.protocol.amqp.message import Message


class Page(Protocol):
    """Interface of a page of a segment that holds messages of a queue.

    ``live`` counts the unsettled messages, ``written`` is True if the page is on disk.
    """

    live: int
    written: bool

    def settle(self, position: int) -> None: ...
    def give_back(self, position: int, returns: int) -> None: ...


class Entry:
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
    """

    __slots__ = (
        "expires",
        "gone",
        "indexed",
        "message",
        "page",
        "position",
        "refused",
        "returns",
        "settled",
        "stored",
    )

    def __init__(self, message: Message, position: int, expires: int = 0) -> None:
        self.message = message
        self.position = position
        self.expires = expires
        self.returns = 0
        self.indexed = False
        self.gone = False
        self.settled = False
        self.refused = False
        self.stored = False
        self.page: Page | None = None

    def copy(self) -> "Entry":
        """Return an entry of the same message at the same position."""
        made = Entry(self.message, self.position, self.expires)
        made.returns, made.settled, made.refused = self.returns, self.settled, self.refused
        made.stored, made.page = self.stored, self.page
        return made

    def __lt__(self, other: "Entry") -> bool:
        return self.position < other.position
