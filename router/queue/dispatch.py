"""Round-robin delivery to the consumers of one priority, and the number of messages that each gets at once.

Responsible for fairness within one line of consumers. ``consumers`` selects the line; ``queue`` takes the
messages from the order and counts deliveries.
"""

from itertools import islice
from typing import Protocol

from leveret.router.queue.consumers import SLICE, Consumer, Consumers, Line
from leveret.router.queue.entry import Entry

DRAIN = 4 * SLICE  # work, in messages, that a queue does before other queues deliver
SERVED = 8  # messages that a delivery to one more consumer counts as: it takes ten microseconds
ROUND = SLICE // 2  # consumers served in one round, a millisecond


class DeliveringQueue(Protocol):
    """Interface of a queue, as ``serve_round`` uses it."""

    consumers: Consumers

    def take(self, count: int, now: int) -> tuple[list[Entry], int]:
        """Take up to ``count`` messages. Return those that have not expired, and the number taken."""

    def assign(self, consumer: Consumer, entries: list[Entry]) -> None:
        """Assign taken messages to a consumer: its session delivers them."""

    def reclaim(self, entries: list[Entry]) -> None:
        """Requeue the messages that no session holds, at the end of the batch."""


def serve_round(queue: DeliveringQueue, line: Line, waiting: int, now: int) -> int:
    """Deliver the same number of messages to each of the next consumers of a line.

    ``waiting`` is the number of ready messages in memory. Returns the work done, at least 1: the number of
    messages that left the queue, and ``SERVED`` for each consumer.
    """
    turn: list[Consumer] = []
    share, sharing, skipped = SLICE, False, 0
    for consumer in list(islice(line, min(waiting, ROUND))):
        credit = consumer.credit()
        if credit <= 0:
            queue.consumers.skip(consumer)
            skipped += 1
            continue
        turn.append(consumer)
        share = min(share, credit)
        if consumer.sink.prefetch:
            sharing = True
    if not turn:
        return skipped
    if len(turn) == 1 == len(line):
        return _serve(queue, line, turn, share, now)
    if not sharing:
        share = max(1, min(share, DRAIN // len(turn))) if len(turn) == len(line) else 1
        return _serve(queue, line, turn, share, now)
    served = skipped  # consumers of one session share its prefetch count: the first may use it up
    for consumer in turn:
        if consumer.credit() > 0:
            served += _serve(queue, line, [consumer], 1, now)
        else:
            queue.consumers.skip(consumer)
            served += 1
    return served


def _serve(queue: DeliveringQueue, line: Line, turn: list[Consumer], share: int, now: int) -> int:
    """Deliver up to ``share`` messages to each consumer of ``turn``, and move those served to the line's end.

    Returns the work done, as ``serve_round``.
    """
    entries, count = queue.take(len(turn) * share, now)
    index = 0
    try:
        if len(line) > 1:
            ahead = len(entries) % len(turn) if len(turn) == len(line) else len(entries)
            for consumer in turn[:ahead]:
                line.move_to_end(consumer)
        for index, consumer in enumerate(turn):
            mine = entries[index :: len(turn)] if len(turn) > 1 else entries
            if mine:
                queue.assign(consumer, mine)
    except Exception:
        for place in range(index, len(turn)):
            queue.reclaim(entries[place :: len(turn)])
        raise
    return count + SERVED * len(turn)
