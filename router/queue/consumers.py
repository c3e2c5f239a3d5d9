"""Who takes from a queue, and whose turn it is.

Owns the order among consumers: priorities, round-robin, the single active one. What a consumer may still take
is asked of the consumer; what it does with messages is its sink's business.
"""

from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from leveret.router.queue.entry import Entry

if TYPE_CHECKING:
    from leveret.router.queue.interface import AnyQueue, QueueLike

SLICE = 256  # messages one consumer is given at a time


class DeliverySink(Protocol):
    """What a queue knows of the session behind a consumer."""

    prefetch: int  # shared by all consumers of the session (0: no limit)
    finished: bool  # it has ended, and its consumers with it

    def room(self) -> int:
        """How many more messages the session takes now, whatever the consumer."""

    def await_room(self, consumer: "Consumer") -> None:
        """A consumer has no room although it holds less than its own prefetch count: wake it when the session
        has room.
        """

    def deliver(self, consumer: "Receiver", entries: Sequence[Entry]) -> None:
        """Take these messages, and count those that are to be settled as the consumer's."""

    def crash(self, error: Exception) -> None:
        """End the client's connection: the broker failed while it served this client."""

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
    ``ready`` whether it stands in line, ``starving`` is not 0 if the session wakes it when there is room.
    ``share`` is how many messages it may be given before the session's other consumers are, if the session
    has a prefetch count.
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
        "share",
        "starving",
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
        self.probed: tuple[int, QueueLike] | None = (
            None  # which of the next delivery is measured, and by whom
        )
        self.active = False
        self.ready = False
        self.starving = 0
        self.share = SLICE

    @property
    def source(self) -> "QueueLike":
        """Whom the messages that it was given are settled with."""
        return self.queue

    def room(self) -> int:
        """How many messages it takes now."""
        room = self.sink.room()
        if self.sink.prefetch:
            room = min(room, self.share)
        if self.prefetch and not self.no_ack:
            room = min(room, self.prefetch - self.unacked)
        return min(room, SLICE)

    @property
    def full(self) -> bool:
        """Whether it holds as many messages as its own prefetch count allows."""
        return 0 < self.prefetch <= self.unacked and not self.no_ack

    def wake(self) -> None:
        """Something was settled or written out: stand in line again if there is room."""
        if self.active and not self.ready and not self.starving:
            if self.room() > 0:
                self.queue.consumers.line_up(self)
                self.queue.touch()
            elif not self.full:
                self.sink.await_room(self)


Line: TypeAlias = OrderedDict[Consumer, None]  # in turn; anyone can leave at once


class Consumers:
    """The consumers of one queue. Those ready stand in lines, one a priority; the first of the highest line
    is next.

    A queue may have tens of thousands of consumers, each with a priority of its own: whoever comes, goes or
    gets ready costs no look at the others.
    """

    __slots__ = ("_all", "_by_priority", "_lines", "_priorities", "_waiting", "sharing", "single_active")

    def __init__(self, *, single_active: bool) -> None:
        self.single_active = single_active
        self.sharing = False  # whether any of them may share its prefetch count with other consumers
        self._all: dict[Consumer, None] = {}  # in the order they came
        self._by_priority: dict[int, dict[Consumer, None]] = {}  # where one only is active; in that order
        self._priorities: list[int] = []  # the keys of it, the lowest first
        self._lines: dict[int, Line] = {}
        self._waiting: list[int] = []  # the keys of it, the lowest first

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[Consumer]:
        return iter(self._all)

    @property
    def active(self) -> Consumer | None:
        """The single active consumer, or the first one."""
        return next((consumer for consumer in self._all if consumer.active), None)

    def refuse(self, *, exclusive: bool) -> bool:
        """Whether another consumer may not join: one is exclusive, or this one wants to be and cannot."""
        if exclusive and (self._all or self.single_active):
            return True
        return any(consumer.exclusive for consumer in islice(self._all, 1))  # who is exclusive is alone

    def add(self, consumer: Consumer) -> None:
        """Add one; where one only is active, it waits if there is one already."""
        first = not self._all
        self._all[consumer] = None
        self.sharing = self.sharing or consumer.sink.prefetch > 0
        if self.single_active:
            group = self._by_priority.get(consumer.priority)
            if group is None:
                group = self._by_priority[consumer.priority] = {}
                insort(self._priorities, consumer.priority)
            group[consumer] = None
        if first or not self.single_active:
            self._activate(consumer)

    def remove(self, consumer: Consumer) -> None:
        """Take one out; where one only is active and this was it, the next by priority and age takes over."""
        del self._all[consumer]
        was_active = consumer.active
        consumer.active = False
        self.leave(consumer)
        self.sharing = self.sharing and bool(self._all)
        priority = consumer.priority
        if not self._lines.get(priority, True):
            del self._lines[priority]
            _discard(self._waiting, priority)
        if self.single_active:
            group = self._by_priority[priority]
            del group[consumer]
            if not group:
                del self._by_priority[priority]
                _discard(self._priorities, priority)
            if was_active and self._priorities:
                self._activate(next(iter(self._by_priority[self._priorities[-1]])))

    def clear(self) -> list[Consumer]:
        """Take all out; return them in the order they came."""
        consumers = list(self._all)
        for consumer in consumers:
            consumer.active = consumer.ready = False
        for group in (self._all, self._by_priority, self._lines, self._priorities, self._waiting):
            group.clear()
        return consumers

    def line_up(self, consumer: Consumer) -> None:
        """Put a consumer at the end of its priority's line."""
        line = self._lines.get(consumer.priority)
        if line is None:
            line = self._lines[consumer.priority] = OrderedDict()
            insort(self._waiting, consumer.priority)
        line[consumer] = None
        consumer.ready = True

    def leave(self, consumer: Consumer) -> None:
        """Take a consumer out of line until it wakes."""
        if consumer.ready:
            del self._lines[consumer.priority][consumer]
            consumer.ready = False

    def skip(self, consumer: Consumer) -> None:
        """Take a consumer that has no room out of line until it has some."""
        self.leave(consumer)
        if not consumer.full:
            consumer.sink.await_room(consumer)

    def line(self) -> Line | None:
        """The line whose turn it is: the ready consumers of the highest priority. Who was served moves to its
        end.
        """
        while self._waiting:
            line = self._lines[self._waiting[-1]]
            if line:
                return line
            del self._lines[self._waiting.pop()]
        return None

    def skip_without_room(self, line: Line) -> bool:
        """Take those out of a line who have no room; whether anybody is left in it."""
        for consumer in [each for each in line if each.room() <= 0]:
            self.skip(consumer)
        return bool(line)

    def _activate(self, consumer: Consumer) -> None:
        consumer.active = True
        if consumer.room() > 0:
            self.line_up(consumer)
        elif not consumer.full:
            consumer.sink.await_room(consumer)


def _discard(numbers: list[int], number: int) -> None:
    """Take a number out of a sorted list."""
    del numbers[bisect_left(numbers, number)]
