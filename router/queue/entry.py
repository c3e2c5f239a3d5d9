"""One message in one queue: what a queue knows of it beside the message itself."""

from protocol.amqp.message import Message


class Entry:
    """A message's place in a queue.

    ``position`` is its place in the order of arrival and never changes, so that a requeued entry goes back to
    where it was; ``expires`` a deadline in ms (0: none); ``returns`` how often it came back from a consumer;
    ``indexed`` whether the expiry index holds it. An entry whose ``gone`` is set was taken out from the
    middle and is skipped when it comes to the head.
    """

    __slots__ = ("expires", "gone", "indexed", "message", "position", "returns")

    def __init__(self, message: Message, position: int, expires: int = 0) -> None:
        self.message = message
        self.position = position
        self.expires = expires
        self.returns = 0
        self.indexed = False
        self.gone = False

    def __lt__(self, other: "Entry") -> bool:
        return self.position < other.position
