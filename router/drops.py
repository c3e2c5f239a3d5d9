"""Messages that the broker drops: counted by reason, and logged for each queue at most once a minute.

A message is dropped when nobody gets it any more and no client has said that this is well: unlike one that is
acknowledged, purged, or deleted with its queue. The reason is why it left its queue, if that has no
dead-letter exchange, or why its dead letter came nowhere.
"""

from collections.abc import Callable
from typing import Literal, get_args

import structlog

from router.timers import Timed

DropReason = Literal[
    "rejected",  # a consumer refused it for good
    "expired",  # its time to live was over
    "maxlen",  # its queue was full and dropped its oldest messages
    "delivery_limit",  # it was delivered and requeued too often
    "refused",  # its queue was full and refuses new messages; a publisher with confirms gets basic.nack
    "dead_letter_exchange_missing",
    "dead_letter_unroutable",
    "dead_letter_cycle",  # it would have come back to a queue where it died
    "reply_unread",  # a direct reply to a client that does not read
]
REASONS: tuple[DropReason, ...] = get_args(DropReason)
# What a client or a setting asks for; the other reasons are logged as warnings.
INTENDED = frozenset(("rejected", "expired", "maxlen", "refused"))
PERIOD = 60_000  # ms between two lines about the same queue

QueueKey = tuple[str, str]  # virtual host and queue


class Drops:
    """``counts`` has all that were dropped since the start, by reason. ``schedule`` is the broker's."""

    finished = False

    def __init__(self, schedule: Callable[[int, Timed], None]) -> None:
        self.counts: dict[DropReason, int] = dict.fromkeys(REASONS, 0)
        self._schedule = schedule
        self._recent: dict[QueueKey, dict[DropReason, int]] = {}  # not logged yet, of queues logged lately
        self._due = False  # whether ``on_timer`` is to be called
        self._log = structlog.get_logger()

    def add(self, vhost: str, queue: str, reason: DropReason, count: int, now: int) -> None:
        """A queue has dropped ``count`` messages. The first are logged at once, those of the next ``PERIOD``
        together at its end.
        """
        self.counts[reason] += count
        recent = self._recent.get((vhost, queue))
        if recent is not None:
            recent[reason] = recent.get(reason, 0) + count
            return
        self._recent[vhost, queue] = {}
        self._tell(vhost, queue, {reason: count})
        self._wake(now)

    def on_timer(self, now: int) -> None:
        """A period is over: log what was dropped in it, and forget the queues that have dropped nothing."""
        self._due = False
        recent, self._recent = self._recent, {}
        for (vhost, queue), counts in recent.items():
            if counts:
                self._tell(vhost, queue, counts)
                self._recent[vhost, queue] = {}
        if self._recent:
            self._wake(now)

    def _wake(self, now: int) -> None:
        if not self._due:
            self._due = True
            self._schedule(now + PERIOD, self)

    def _tell(self, vhost: str, queue: str, counts: dict[DropReason, int]) -> None:
        log = self._log.info if INTENDED.issuperset(counts) else self._log.warning
        log("messages dropped", vhost=vhost, queue=queue, **counts)
