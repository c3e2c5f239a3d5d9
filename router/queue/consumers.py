"""Consumers of a queue, and the order in which they are served.

Responsible for priorities, round-robin and the single active consumer. ``Consumer.credit`` applies the
prefetch counts: it is the number of messages that a consumer may receive now. The session of a consumer, its
``DeliverySink``, writes the deliveries.
"""

from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from leveret.protocol.amqp.packed_table import pack_if_large
from leveret.router.queue.entry import Entry
from leveret.router.turns.backlog import Slicing

if TYPE_CHECKING:
    from leveret.router.queue.interface import AnyQueue, QueueLike

SLICE = 256  # messages that one consumer gets at a time, at most


class DeliverySink(Protocol):
    """Interface of a consumer's session, as the queue sees it."""

    prefetch: int  # shared by all consumers of the session (0: no limit)
    finished: bool  # the session and its consumers have ended

    def credit(self) -> int:
        """Return how many more messages the session can receive now, over all its consumers."""

    def await_credit(self, consumer: "Consumer") -> None:
        """Wake a consumer as soon as the session has credit.

        For consumers that hold less than their own prefetch count, but whose session has no credit.
        """

    def deliver(self, consumer: "Receiver", entries: Sequence[Entry]) -> None:
        """Write messages to the client; add those that must be settled to the consumer's ``unacked``."""

    def crash(self, error: Exception) -> None:
        """End the client's connection: the broker failed while it served this client."""

    def cancelled(self, consumer: "Consumer") -> None:
        """Notify the client that its consumer has ended.

        Its queue was deleted or cannot be read, or the user may no longer read from it.
        """


class Receiver:
    """A consumer tag of a session that messages are delivered to.

    ``no_ack``: a delivery settles the message. ``counted``: deliveries carry the number of earlier deliveries
    (header ``x-delivery-count``). ``wire`` is data that the protocol's writer caches for deliveries.
    ``served`` is the session's delivery sequence number at the last delivery: the receiver with the lowest
    one was served longest ago.
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
        """Do nothing: only a ``Consumer`` waits for credit."""


class Consumer(Receiver):
    """A subscription of a session to a queue.

    ``prefetch`` is the consumer's limit of unacknowledged messages (0: none), ``unacked`` the number that it
    holds, ``redelivered`` the number of its deliveries that were redeliveries.

    ``active`` is False for cancelled consumers, and for those that wait because another one is the single
    active consumer. ``ready`` is True while the consumer is in the line of its priority. ``starving`` is not
    0 while the consumer waits for credit of its session. If the session has a prefetch count, ``share`` is
    the number of messages that the consumer gets before other consumers of the session do. ``probed`` is set
    if the next delivery has a sample of the latency probe: its index in the delivery, and the ``Probed`` that
    settles it.
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
        self.arguments = pack_if_large(arguments or {})
        self.unacked = 0
        self.redelivered = 0
        self.probed: tuple[int, QueueLike] | None = None
        self.active = False
        self.ready = False
        self.starving = 0
        self.share = SLICE

    @property
    def source(self) -> "QueueLike":
        """The queue in which the consumer's deliveries are settled."""
        return self.queue

    def prepare(self) -> Slicing[None]:
        """Prepare the consumer, in slices, before it is added to its queue. The base class does nothing."""
        return
        yield

    def credit(self) -> int:
        """Return the number of messages that the consumer may receive now."""
        sink = self.sink
        credit = sink.credit()
        if sink.prefetch:
            credit = min(credit, self.share)
        if self.prefetch and not self.no_ack:
            room = self.prefetch - self.unacked
            credit = room if room < credit else credit  # ``min`` takes three times as long
        return credit if credit < SLICE else SLICE

    @property
    def full(self) -> bool:
        """True if the consumer holds as many messages as its own prefetch count allows."""
        return 0 < self.prefetch <= self.unacked and not self.no_ack

    def wake(self) -> None:
        """Make the consumer ready if it has credit again, after messages were settled or written out."""
        if self.active and not self.ready and not self.starving:
            if self.credit() > 0:
                self.queue.consumers.line_up(self)
                self.queue.touch()
            elif not self.full:
                self.sink.await_credit(self)


Line: TypeAlias = OrderedDict[Consumer, None]  # in the order of service; removal costs O(1)


class Consumers:
    """The consumers of one queue. Ready ones are in lines, one for each priority; the first consumer of the
    highest priority is next.

    A queue may have tens of thousands of consumers, each with a priority of its own. Adding, removing and
    making one ready never iterates over the others.
    """

    __slots__ = (
        "_all",
        "_by_priority",
        "_lines",
        "_priorities",
        "_waiting",
        "only",
        "sharing",
        "single_active",
    )

    def __init__(self, *, single_active: bool) -> None:
        self.single_active = single_active
        self.sharing = False  # True if the session of any of them may have a prefetch count
        self.only: Consumer | None = None  # the queue's only consumer, while it is ready
        self._all: dict[Consumer, None] = {}  # in the order they were added
        self._by_priority: dict[int, dict[Consumer, None]] = {}  # with single_active; in that order
        self._priorities: list[int] = []  # the keys of ``_by_priority``, the lowest first
        self._lines: dict[int, Line] = {}
        self._waiting: list[int] = []  # the keys of ``_lines``, the lowest first

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[Consumer]:
        return iter(self._all)

    def __contains__(self, consumer: object) -> bool:
        return consumer in self._all

    @property
    def active(self) -> Consumer | None:
        """The single active consumer, or the first one."""
        return next((consumer for consumer in self._all if consumer.active), None)

    def refuse(self, *, exclusive: bool) -> bool:
        """Return True if another consumer may not be added.

        That is so if there is an exclusive consumer, and with ``exclusive`` if there is any consumer.
        """
        if exclusive and (self._all or self.single_active):
            return True
        return any(consumer.exclusive for consumer in islice(self._all, 1))  # an exclusive one is alone

    def add(self, consumer: Consumer) -> None:
        """Add a consumer. With a single active consumer, later ones wait."""
        first = not self._all
        self._all[consumer] = None
        self.only = None
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
        """Remove a consumer. If it was the single active one, the next by priority and age becomes active."""
        del self._all[consumer]
        was_active = consumer.active
        consumer.active = False
        self.leave(consumer)
        if len(self._all) == 1:
            left = next(iter(self._all))
            self.only = left if left.ready else None
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

    def line_up(self, consumer: Consumer) -> None:
        """Mark a consumer as ready, at the end of its priority's line."""
        line = self._lines.get(consumer.priority)
        if line is None:
            line = self._lines[consumer.priority] = OrderedDict()
            insort(self._waiting, consumer.priority)
        line[consumer] = None
        consumer.ready = True
        if len(self._all) == 1:
            self.only = consumer

    def leave(self, consumer: Consumer) -> None:
        """Mark a consumer as not ready until ``wake`` is called."""
        if consumer.ready:
            del self._lines[consumer.priority][consumer]
            consumer.ready = False
            self.only = None

    def skip(self, consumer: Consumer) -> None:
        """Mark a consumer without credit as not ready until it has credit."""
        self.leave(consumer)
        if not consumer.full:
            consumer.sink.await_credit(consumer)

    def line(self) -> Line | None:
        """Return the ready consumers of the highest priority, the next first; None if there are none.

        The caller moves served consumers to the end.
        """
        while self._waiting:
            line = self._lines[self._waiting[-1]]
            if line:
                return line
            del self._lines[self._waiting.pop()]
        return None

    def skip_without_credit(self, line: Line) -> bool:
        """Mark the first consumers without credit as not ready; return True if any consumer remains."""
        for consumer in list(islice(line, SLICE)):
            if consumer.credit() > 0:
                break
            self.skip(consumer)
        return bool(line)

    def _activate(self, consumer: Consumer) -> None:
        consumer.active = True
        if consumer.credit() > 0:
            self.line_up(consumer)
        elif not consumer.full:
            consumer.sink.await_credit(consumer)


def _discard(numbers: list[int], number: int) -> None:
    """Remove a number from a sorted list."""
    del numbers[bisect_left(numbers, number)]
