"""What a session gathers between tx.select and tx.commit (AMQP 0-9-1 1.9).

Owns the order in which it takes effect. How a message is enqueued or settled is the session's.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import NamedTuple

from leveret.protocol.amqp.message import Message
from leveret.protocol.errors import PreconditionFailed
from leveret.router.exchange.admission import AdmittedTargets
from leveret.router.exchange.routing import Target
from leveret.router.session.unacked import Held, Taken, Unacked, Verb
from leveret.router.turns.backlog import Slices, Slicing

SLICE = 256  # messages to one queue each, or settlements, that a commit does in a slice


class Publish(NamedTuple):
    """A message that was routed and waits to be enqueued."""

    message: Message
    queues: Sequence[Target]


class Settlement(NamedTuple):
    """Held messages that were taken out to be settled, and how."""

    verb: Verb
    taken: Taken


class Transaction:
    """Publishes, and settlements in the order they were made. It ends with the first commit or rollback."""

    __slots__ = ("_publishes", "_settlements", "settles", "size")

    def __init__(self) -> None:
        self.size = 0  # bytes of memory that its publishes take up, as the session counts them
        self._publishes: deque[Publish] = deque()
        self._settlements: deque[Settlement] = deque()
        self.settles = 0  # how many held messages wait for the commit

    @property
    def publishes(self) -> int:
        """How many messages wait for the commit."""
        return len(self._publishes)

    def held(self) -> Iterator[Held]:
        """The messages that wait to be settled."""
        for settlement in self._settlements:
            for _, held in settlement.taken:
                yield held

    def publish(self, message: Message, queues: Sequence[Target]) -> None:
        self._publishes.append(Publish(message, queues))

    def settle(self, verb: Verb, taken: Taken) -> None:
        self._settlements.append(Settlement(verb, taken))
        self.settles += len(taken)

    def commit(
        self,
        enqueue: Callable[[Message, Sequence[Target]], bool],
        enqueue_widely: Callable[[Message, Sequence[Target]], Slicing[bool]],
        settle: Callable[[Verb, Taken], None],
    ) -> Slices:
        """Do all of it, the publishes first, in slices. ``enqueue_widely`` is for messages that one slice may
        not be enough for.

        PreconditionFailed, when all is done, if a queue has refused a message.
        """
        accepted = True
        left = SLICE
        publishes = self._publishes
        while publishes:
            message, queues = publishes.popleft()
            if len(queues) > SLICE or isinstance(queues, AdmittedTargets):
                if not (yield from enqueue_widely(message, queues)):
                    accepted = False
            elif not enqueue(message, queues):
                accepted = False
            left -= 1 + len(queues)
            if left <= 0:
                left = SLICE
                yield
        while self._settlements:
            settlement = self._settlements.popleft()
            self.settles -= len(settlement.taken)
            settle(*settlement)
            left -= len(settlement.taken)
            if left <= 0:
                left = SLICE
                yield
        if not accepted:
            raise PreconditionFailed("partial tx completion")

    def rollback(self, unacked: Unacked) -> Slices:
        """Forget all of it, in slices; what was settled is held again."""
        publishes = self._publishes
        while publishes:
            for _ in range(min(SLICE, len(publishes))):
                publishes.popleft()
            yield
        taken = chain.from_iterable(settlement.taken for settlement in self._settlements)
        yield from unacked.give_back(taken)
        self._settlements.clear()
        self.settles = 0
