"""Whose turn it is when a queue has messages for several consumers, and how many each is given at once.

Owns fairness within one line of consumers. Which line is next is the consumers' business; what a message is
on its way out, the queue's.
"""

from itertools import islice
from typing import Protocol

from leveret.router.queue.consumers import SLICE, Consumer, Consumers, Line
from leveret.router.queue.entry import Entry

DRAIN = 4 * SLICE  # messages a queue delivers before others have their turn
ROUND = SLICE  # consumers that are served in one round: each costs as much as many messages do


class DeliveringQueue(Protocol):
    """What is asked of a queue."""

    consumers: Consumers

    def take(self, count: int, now: int) -> tuple[list[Entry], int]:
        """Up to ``count`` messages that may still be delivered, and how many left the queue for that."""

    def deliver_to(self, consumer: Consumer, entries: list[Entry]) -> None:
        """Hand taken messages to a consumer."""

    def reclaim(self, entries: list[Entry]) -> None:
        """Put back those of these messages that nobody holds by the end of the batch."""


def serve_round(queue: DeliveringQueue, line: Line, waiting: int, now: int) -> int:
    """Serve the next consumers in line, each with the same number of messages, while ``waiting`` are ready;
    return how many left the queue.
    """
    turn: list[Consumer] = []
    share, sharing = SLICE, False
    for consumer in list(islice(line, min(waiting, ROUND))):
        room = consumer.room()
        if room <= 0:
            queue.consumers.skip(consumer)
            continue
        turn.append(consumer)
        share = min(share, room)
        if consumer.sink.prefetch:
            sharing = True
    if not turn:
        return 0
    if len(turn) == 1 == len(line):
        return _serve(queue, line, turn, share, now)
    if not sharing:
        share = max(1, min(share, DRAIN // len(turn))) if len(turn) == len(line) else 1
        return _serve(queue, line, turn, share, now)
    served = 0  # those that share a limit are asked one by one: the first may use it up
    for consumer in turn:
        if consumer.room() > 0:
            served += _serve(queue, line, [consumer], 1, now)
        else:
            queue.consumers.skip(consumer)
    return served


def _serve(queue: DeliveringQueue, line: Line, turn: list[Consumer], share: int, now: int) -> int:
    """Give each of ``turn`` up to ``share`` messages, one after the other, and have the line go on behind
    the last served.
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
                queue.deliver_to(consumer, mine)
    except Exception:
        for place in range(index, len(turn)):
            queue.reclaim(entries[place :: len(turn)])
        raise
    return count
