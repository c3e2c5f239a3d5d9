"""Who takes from a queue, and whose turn it is.

Owns the order among consumers: priorities, round-robin, the single active one. What a consumer may still take
is asked of the consumer; what it does with messages is its sink's business.
"""

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from router.queue.entry import Entry

if TYPE_CHECKING:
    from router.queue.kind import AnyQueue, Source

SLICE = 256  # messages one consumer is given at a time


class DeliverySink(Protocol):
    """What a queue knows of the session behind a consumer."""

    prefetch: int  # shared by all consumers of the session (0: no limit)

    def room(self) -> int:
        """How many more messages the session takes now, whatever the consumer."""

    def deliver(self, consumer: "Receiver", entries: Sequence[Entry]) -> None:
        """Take these messages, and count those that are to be settled as the consumer's."""

    def cancelled(self, consumer: "Consumer") -> None:
        """This consumer was ended: its queue was deleted or cannot be read, or the right to that was lost."""


class Receiver:
    """Somebody in a session whom messages are delivered to, by consumer tag.

    ``no_ack``: a delivery settles the message. ``counted``: the client is told how often a message was
    delivered before. ``wire`` is whatever the protocol keeps to write deliveries. ``served`` grows with each
    delivery of the session: who has the lowest was served longest ago.
    """

    __slots__ = ("counted", "no_ack", "served", "sink", "tag", "wire")

    def __init__(self, sink: DeliverySink, tag: str, *, no_ack: bool, counted: bool = False) -> None:
        self.sink = sink
        self.tag = tag
        self.no_ack = no_ack
        self.counted = counted
        self.served = 0
        self.wire: Any = None

    def wake(self) -> None:
        """There may be room again; nobody waits here."""


class Consumer(Receiver):
    """A subscription of a session to a queue.

    ``prefetch`` is its own limit of unacknowledged messages (0: none) and ``unacked`` how many it holds,
    ``redelivered`` how many it was given that had been given out before;
    ``active`` says whether it may receive (it waits behind no single active consumer and was not cancelled),
    ``ready`` whether it stands in line.
    """

    __slots__ = (
        "active",
        "arguments",
        "exclusive",
        "prefetch",
        "priority",
        "probed",
        "queue",
        "ready",
        "redelivered",
        "unacked",
    )

    def __init__(
        self,
        queue: "AnyQueue",
        sink: DeliverySink,
        tag: str,
        *,
        no_ack: bool = False,
        exclusive: bool = False,
        prefetch: int = 0,
        priority: int = 0,
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(sink, tag, no_ack=no_ack, counted=queue.counted)
        self.queue = queue
        self.exclusive = exclusive
        self.prefetch = prefetch
        self.priority = priority
        self.arguments = arguments or {}
        self.unacked = 0
        self.redelivered = 0
        self.probed: tuple[int, Source] | None = None  # which of the next delivery is measured, and by whom
        self.active = False
        self.ready = False

    @property
    def source(self) -> "Source":
        """Whom the messages that it was given are settled with."""
        return self.queue

    def room(self) -> int:
        """How many messages it takes now."""
        room = self.sink.room()
        if self.prefetch and not self.no_ack:
            room = min(room, self.prefetch - self.unacked)
        return min(room, SLICE)

    def wake(self) -> None:
        """Something was settled or written out: stand in line again if there is room."""
        if self.active and not self.ready and self.room() > 0:
            self.queue.consumers.line_up(self)
            self.queue.touch()


Line: TypeAlias = OrderedDict[Consumer, None]  # in turn; anyone can leave at once


class Consumers:
    """The consumers of one queue. Those ready stand in lines, one a priority; the first of the highest line
    is next.
    """

    __slots__ = ("_lines", "_order", "all", "sharing", "single_active")

    def __init__(self, *, single_active: bool) -> None:
        self.single_active = single_active
        self.sharing = False  # whether any of them may share its prefetch count with other consumers
        self.all: list[Consumer] = []  # in the order they came
        self._lines: dict[int, Line] = {}
        self._order: list[Line] = []  # highest priority first

    def __len__(self) -> int:
        return len(self.all)

    def __iter__(self) -> Iterator[Consumer]:
        return iter(self.all)

    @property
    def active(self) -> Consumer | None:
        """The single active consumer, or the first one."""
        return next((consumer for consumer in self.all if consumer.active), None)

    def refuse(self, *, exclusive: bool) -> bool:
        """Whether another consumer may not join: one is exclusive, or this one wants to be and cannot."""
        if exclusive and (self.all or self.single_active):
            return True
        return any(consumer.exclusive for consumer in self.all)

    def add(self, consumer: Consumer) -> None:
        """Add one; where one only is active, it waits if there is one already."""
        self.all.append(consumer)
        self.sharing = self.sharing or consumer.sink.prefetch > 0
        if not (self.single_active and self.active):
            self._activate(consumer)

    def remove(self, consumer: Consumer) -> None:
        """Take one out; where one only is active and this was it, the next by priority and age takes over."""
        self.all.remove(consumer)
        was_active = consumer.active
        consumer.active = False
        self.leave(consumer)
        self.sharing = self.sharing and bool(self.all)
        if not any(other.priority == consumer.priority for other in self.all):
            self._lines.pop(consumer.priority, None)
            self._sort()
        if self.single_active and was_active and self.all:
            self._activate(max(self.all, key=lambda other: other.priority))

    def line_up(self, consumer: Consumer) -> None:
        """Put a consumer at the end of its priority's line."""
        line = self._lines.get(consumer.priority)
        if line is None:
            line = self._lines[consumer.priority] = OrderedDict()
            self._sort()
        line[consumer] = None
        consumer.ready = True

    def leave(self, consumer: Consumer) -> None:
        """Take a consumer out of line until it wakes."""
        if consumer.ready:
            del self._lines[consumer.priority][consumer]
            consumer.ready = False

    def line(self) -> Line | None:
        """The line whose turn it is: the ready consumers of the highest priority. Who was served moves to its
        end.
        """
        for line in self._order:
            if line:
                return line
        return None

    def skip_full(self, line: Line) -> bool:
        """Take those out of a line who have no room; whether anybody is left in it."""
        for consumer in [each for each in line if each.room() <= 0]:
            self.leave(consumer)
        return bool(line)

    def _sort(self) -> None:
        self._order = [self._lines[number] for number in sorted(self._lines, reverse=True)]

    def _activate(self, consumer: Consumer) -> None:
        consumer.active = True
        if consumer.room() > 0:
            self.line_up(consumer)
