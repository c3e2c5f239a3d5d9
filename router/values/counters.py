"""Counters of messages, connections and channels: plain numbers that only grow.

Their names are those of RabbitMQ's management API. The code that handles messages increases them once a
batch. A number that can be computed from others has no counter. Not for rates (see
``management.statistics.rates``).
"""


class DeliveryCounters:
    """Counters of the deliveries of a queue or to a session, and of messages that were requeued or rejected.

    ``deliver`` and ``get`` count messages that must be settled, ``deliver_no_ack`` and ``get_no_ack``
    messages that need not be. ``redeliver`` counts repeated deliveries of both kinds, ``back`` messages that
    were requeued or rejected, ``get_empty`` gets from an empty queue.
    """

    __slots__ = ("back", "deliver", "deliver_no_ack", "get", "get_empty", "get_no_ack", "redeliver")

    def __init__(self) -> None:
        self.deliver = self.deliver_no_ack = 0
        self.get = self.get_no_ack = self.get_empty = 0
        self.redeliver = 0
        self.back = 0

    def got(self, *, no_ack: bool, redelivered: bool) -> None:
        """Count a message taken by basic.get."""
        if no_ack:
            self.get_no_ack += 1
        else:
            self.get += 1
        self.redeliver += redelivered

    def acknowledged(self, unacked: int) -> int:
        """Return the number of acknowledged messages, given the number of unacknowledged ones."""
        return self.deliver + self.get - self.back - unacked


class PublishCounters:
    """Counters of a session's publishes: all, confirmed (or refused), and routed to no queue.

    ``publish_confirm`` counts publishes with publisher confirms. It is set when the session ends; until then
    the session's ``Confirms`` has the number.
    """

    __slots__ = ("confirm", "drop_unroutable", "publish", "publish_confirm", "return_unroutable")

    def __init__(self) -> None:
        self.publish = self.publish_confirm = 0
        self.confirm = 0
        self.return_unroutable = self.drop_unroutable = 0


class EndedSessions:
    """Counters of ended sessions, and the number of copies that deleted exchanges routed."""

    __slots__ = ("ack", "delivery_counters", "published", "routed")

    def __init__(self) -> None:
        self.delivery_counters = DeliveryCounters()
        self.published = PublishCounters()
        self.ack = 0
        self.routed = 0

    def add(self, deliveries: DeliveryCounters, published: PublishCounters) -> None:
        """Add the counters of an ended session, all of whose deliveries are settled."""
        self.ack += deliveries.acknowledged(0)
        for total, part in ((self.delivery_counters, deliveries), (self.published, published)):
            for name in part.__slots__:
                setattr(total, name, getattr(total, name) + getattr(part, name))


class Churn:
    """Counters of connections, channels and queues that were created and removed since the broker's start."""

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
    """Bytes of one connection, and the number of reads and writes."""

    __slots__ = ("reads", "received", "sends", "sent")

    def __init__(self) -> None:
        self.received = self.reads = 0
        self.sent = self.sends = 0

    def read(self, size: int) -> None:
        """Count a read of ``size`` bytes."""
        self.received += size
        self.reads += 1

    def wrote(self, size: int) -> None:
        """Count a write of ``size`` bytes."""
        self.sent += size
        self.sends += 1


# Kinds of stored content that may be unreadable at a start, as metrics and the API name them.
SET_ASIDE = MESSAGES, RECORDS, NOTES, CHECKPOINTS, HEADERS, ROWS = (
    "messages",
    "records",
    "notes",
    "checkpoints",
    "headers",
    "rows",
)
