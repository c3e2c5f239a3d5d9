"""What is counted of the messages that pass: plain numbers, which only grow.

Owns what each is called, in the terms of RabbitMQ's management API. They are counted a batch at a time, where
the messages are handled; what can be told from other numbers is not counted at all. Rates are made of them
elsewhere.
"""


class Given:
    """What was given out, by a queue or to a session, and what came back otherwise than acknowledged.

    ``deliver`` and ``get`` are for messages that are to be settled, ``_no_ack`` for those that are not;
    ``redeliver`` counts those of all that had been given out before, ``back`` those that were requeued or
    rejected.
    """

    __slots__ = ("back", "deliver", "deliver_no_ack", "get", "get_empty", "get_no_ack", "redeliver")

    def __init__(self) -> None:
        self.deliver = self.deliver_no_ack = 0
        self.get = self.get_no_ack = self.get_empty = 0
        self.redeliver = 0
        self.back = 0

    def got(self, *, no_ack: bool, redelivered: bool) -> None:
        """One was taken by basic.get."""
        if no_ack:
            self.get_no_ack += 1
        else:
            self.get += 1
        self.redeliver += redelivered

    def acknowledged(self, unacked: int) -> int:
        """How many were acknowledged, with so many still to be settled."""
        return self.deliver + self.get - self.back - unacked


class Published:
    """Counters of a session's publishes: all, confirmed (or refused), and routed to no queue.

    ``publish_confirm`` counts publishes with publisher confirms. It is set when the session ends; until then
    the session's ``Confirms`` has the number.
    """

    __slots__ = ("confirm", "drop_unroutable", "publish", "publish_confirm", "return_unroutable")

    def __init__(self) -> None:
        self.publish = self.publish_confirm = 0
        self.confirm = 0
        self.return_unroutable = self.drop_unroutable = 0


class Past:
    """Counters of ended sessions, and the number of copies that deleted exchanges routed."""

    __slots__ = ("ack", "given", "published", "routed")

    def __init__(self) -> None:
        self.given = Given()
        self.published = Published()
        self.ack = 0
        self.routed = 0

    def add(self, given: Given, published: Published) -> None:
        """A session is over; nothing that it was given is still to be settled."""
        self.ack += given.acknowledged(0)
        for total, part in ((self.given, given), (self.published, published)):
            for name in part.__slots__:
                setattr(total, name, getattr(total, name) + getattr(part, name))


class Churn:
    """What came and went in the life of a broker."""

    __slots__ = (
        "channel_closed",
        "channel_created",
        "connection_closed",
        "connection_created",
        "queue_created",
        "queue_declared",
        "queue_deleted",
    )

    def __init__(self) -> None:
        self.connection_created = self.connection_closed = 0
        self.channel_created = self.channel_closed = 0
        self.queue_declared = self.queue_created = self.queue_deleted = 0


class Traffic:
    """Bytes of one connection, and how often some came or were sent."""

    __slots__ = ("reads", "received", "sends", "sent")

    def __init__(self) -> None:
        self.received = self.reads = 0
        self.sent = self.sends = 0

    def read(self, size: int) -> None:
        """Bytes came."""
        self.received += size
        self.reads += 1

    def wrote(self, size: int) -> None:
        """Bytes were sent."""
        self.sent += size
        self.sends += 1


# Kinds of stored content that a start may find unreadable, as metrics and the API name them.
SET_ASIDE = MESSAGES, RECORDS, NOTES, CHECKPOINTS, HEADERS, ROWS = (
    "messages",
    "records",
    "notes",
    "checkpoints",
    "headers",
    "rows",
)
