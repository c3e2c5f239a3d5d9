"""Counters and log lines of dropped messages: counted by reason, logged at most once a minute for each queue.

A message is dropped when it leaves its queue without being delivered, dead-lettered or removed by a client
(an acknowledgement, a purge, the deletion of the queue). The reason is why the message left its queue, or why
its dead letter could not be routed.
"""

from collections.abc import Callable
from typing import Literal, get_args

import structlog

from leveret.router.turns.timers import Timed

DropReason = Literal[
    "rejected",  # a consumer rejected the message without requeue
    "expired",  # its time to live was over
    "maxlen",  # its queue was full and dropped its oldest messages
    "delivery_limit",  # it was delivered and requeued too often
    "refused",  # its queue was full and refuses new messages; a publisher with confirms gets basic.nack
    "dead_letter_exchange_missing",
    "dead_letter_unroutable",
    "dead_letter_cycle",  # it would have returned to a queue that had dead-lettered it
    "dead_letter_multiplied",  # dead-lettering would have made too many copies of one message
    "reply_unread",  # a direct reply to a client that does not read
]
REASONS: tuple[DropReason, ...] = get_args(DropReason)
# Drops that a client or a setting asks for; those for other reasons are logged as warnings.
INTENDED = frozenset(("rejected", "expired", "maxlen", "refused"))
PERIOD = 60_000  # ms between two lines about the same queue

QueueKey = tuple[str, str]  # virtual host and queue


class Drops:
    """The counters since the start of the broker (``counts``, by reason), and their log lines.

    ``schedule(time, target)`` must schedule a call of ``target.on_timer`` at ``time``, in ms.
    """

    finished = False

    def __init__(self, schedule: Callable[[int, Timed], None]) -> None:
        self.counts: dict[DropReason, int] = dict.fromkeys(REASONS, 0)
        self._schedule = schedule
        self._recent: dict[
            QueueKey, dict[DropReason, int]
        ] = {}  # not logged yet, by queue with an open period
        self._due = False  # whether a timer is set
        self._log = structlog.get_logger()

    def add(self, vhost: str, queue: str, reason: DropReason, count: int, now: int) -> None:
        """Count ``count`` messages that a queue dropped.

        The first call for a queue logs at once and opens a period of ``PERIOD`` ms; the drops within the
        period are logged together when it ends.
        """
        self.counts[reason] += count
        recent = self._recent.get((vhost, queue))
        if recent is not None:
            recent[reason] = recent.get(reason, 0) + count
            return
        self._recent[vhost, queue] = {}
        self._write_line(vhost, queue, {reason: count})
        self._wake(now)

    def on_timer(self, now: int) -> None:
        """End a period: log the drops of each queue, and remove the queues that dropped nothing."""
        self._due = False
        recent, self._recent = self._recent, {}
        for (vhost, queue), counts in recent.items():
            if counts:
                self._write_line(vhost, queue, counts)
                self._recent[vhost, queue] = {}
        if self._recent:
            self._wake(now)

    def _wake(self, now: int) -> None:
        if not self._due:
            self._due = True
            self._schedule(now + PERIOD, self)

    def _write_line(self, vhost: str, queue: str, counts: dict[DropReason, int]) -> None:
        log = self._log.info if INTENDED.issuperset(counts) else self._log.warning
        log("messages dropped", vhost=vhost, queue=queue, **counts)
