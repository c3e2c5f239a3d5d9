"""The publishes and settlements of an open transaction (AMQP 0-9-1 1.9), until its commit or rollback.

Responsible for the order in which they take effect. The session enqueues and settles.
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
    """Messages to settle, and the verb to settle them with."""

    verb: Verb
    taken: Taken


class Transaction:
    """The content of one transaction, which ends with its first commit or rollback."""

    __slots__ = ("_publishes", "_settlements", "settles", "size")

    def __init__(self) -> None:
        self.size = 0  # bytes of memory of its publishes, as the session counts them
        self._publishes: deque[Publish] = deque()
        self._settlements: deque[Settlement] = deque()
        self.settles = 0  # number of messages to settle at the commit

    @property
    def publishes(self) -> int:
        """The number of publishes that wait for the commit."""
        return len(self._publishes)

    def held(self) -> Iterator[Held]:
        """Yield the messages that wait to be settled."""
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
        distribute: Callable[[Message, Sequence[Target]], bool],
        distribute_widely: Callable[[Message, Sequence[Target]], Slicing[bool]],
        settle: Callable[[Verb, Taken], None],
    ) -> Slices:
        """Do the publishes, then the settlements, in slices. ``distribute_widely`` is for messages that may
        need several slices.

        Raises PreconditionFailed, after all is done, if a queue has refused a message.
        """
        accepted = True
        left = SLICE
        publishes = self._publishes
        while publishes:
            message, queues = publishes.popleft()
            if len(queues) > SLICE or isinstance(queues, AdmittedTargets):
                if not (yield from distribute_widely(message, queues)):
                    accepted = False
            elif not distribute(message, queues):
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
        """Drop the publishes, and hold the settled messages again, in slices."""
        publishes = self._publishes
        while publishes:
            for _ in range(min(SLICE, len(publishes))):
                publishes.popleft()
            yield
        taken = chain.from_iterable(settlement.taken for settlement in self._settlements)
        yield from unacked.give_back(taken)
        self._settlements.clear()
        self.settles = 0
