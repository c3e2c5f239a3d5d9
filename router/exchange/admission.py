"""Admission of messages by an exchange with deduplication, before they are enqueued.

A message is admitted when it is enqueued, not when it is routed: in a transaction this is at the commit.
"""

from collections.abc import Sequence
from typing import Protocol

from leveret.protocol.amqp.message import Message
from leveret.router.deduplication.cache import DeduplicationCache
from leveret.router.deduplication.deduplicator import Duplicate
from leveret.router.exchange.base import Exchange
from leveret.router.exchange.routing import Target
from leveret.router.turns.backlog import Slices
from leveret.router.values.outcome import Outcomes


class AdmissionClock(Protocol):
    """The time of a batch: ``now`` in ms of the broker's clock, ``wall`` in seconds since the epoch."""

    now: int
    wall: int


class AdmittedTargets(tuple[Target, ...]):
    """The queues that a message is routed to, unless it is a duplicate at its exchange.

    A message that a queue refused is not remembered: it may be published again.
    """

    _cache: DeduplicationCache
    _clock: AdmissionClock

    def __new__(
        cls, cache: DeduplicationCache, clock: AdmissionClock, queues: Sequence[Target]
    ) -> "AdmittedTargets":
        made = super().__new__(cls, queues)
        made._cache = cache
        made._clock = clock
        return made

    def distribute(self, message: Message, at_a_time: int, outcomes: Outcomes) -> Slices:
        """Hand a message to its queues, some in each slice, and add the results to ``outcomes``.

        A message with the same identity that is published meanwhile waits until this one is enqueued.
        """
        cache = self._cache
        identity = cache.identify(message)
        while identity is not None and identity.key in cache.pending:
            yield
        now = self._clock.wall * 1000
        admission = cache.admit(message, now)
        if isinstance(admission, Duplicate):
            outcomes.add(admission.barrier)
            return
        if identity is None:
            yield from self._distribute(message, at_a_time, outcomes)
            return
        cache.pending.add(identity.key)
        try:
            yield from self._distribute(message, at_a_time, outcomes)
        finally:
            cache.pending.discard(identity.key)
        if outcomes.accepted:
            cache.remember(identity, now)

    def _distribute(self, message: Message, at_a_time: int, outcomes: Outcomes) -> Slices:
        for start in range(0, len(self), at_a_time):
            if start:
                yield
            now = self._clock.now
            for queue in self[start : start + at_a_time]:
                if not queue.deleted:
                    outcomes.add(queue.enqueue(message, now))


def admitted(
    exchange: Exchange, message: Message, queues: Sequence[Target], clock: AdmissionClock
) -> Sequence[Target]:
    """Return the queues that a message published to ``exchange`` is routed to, as ``AdmittedTargets`` if the
    exchange may refuse it. A message that reaches no queue is not remembered.
    """
    cache = exchange.deduplication
    if cache is None or not queues or not message.traits.has_headers:
        return queues
    return AdmittedTargets(cache, clock, queues)
