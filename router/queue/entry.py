"""One message in one queue: what a queue knows of it beside the message itself."""

from typing import Protocol

from leveret.protocol.amqp.message import Message


class Page(Protocol):
    """A page of a segment, as far as a queue is concerned: some of its messages are in it.

    ``live`` counts those not settled, ``written`` says whether it is on disk.
    """

    live: int
    written: bool

    def settle(self, position: int) -> None: ...
    def give_back(self, position: int, returns: int) -> None: ...


class Entry:
    """A message's place in a queue.

    ``position`` is its place in the order of arrival and never changes, so that a requeued entry goes back to
    where it was; ``expires`` a deadline in ms (0: none); ``returns`` how often it came back from a consumer;
    ``indexed`` whether the expiry index holds it. An entry whose ``gone`` is set was taken out of the middle
    of the ready ones and is skipped when it comes to the head. ``stored`` says that the queue's log keeps
    it, ``page`` in which page of a segment, None as long as the journal has it; ``refused`` says that the log
    has no record of it, or of the one that it is a duplicate of. ``settled`` says that nobody needs the
    message any more; where it went on as a dead letter it is no longer stored here, and yet not
    settled.
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
        """The same message in the same place."""
        made = Entry(self.message, self.position, self.expires)
        made.returns, made.settled, made.refused = self.returns, self.settled, self.refused
        made.stored, made.page = self.stored, self.page
        return made

    def __lt__(self, other: "Entry") -> bool:
        return self.position < other.position
