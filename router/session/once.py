"""A message that its exchange takes once: whether one like it came lately is asked when it is enqueued.

Owns the question, which stands in the place of the message's queues until then, as a transaction may. What
is remembered is the business of ``leveret.router.deduplication``.
"""

from collections.abc import Iterator, Sequence

from leveret.protocol.amqp.message import Message
from leveret.router.exchange.base import Exchange
from leveret.router.routing import Target
from leveret.router.vhost import VHost


class Once:
    """The queues that a message is routed to, if none with the value ``key`` has been through its exchange.

    One that a queue refused, or that reached none, is not remembered: it may be published again.
    """

    __slots__ = ("_exchange", "_key", "_vhost", "name", "queues")

    def __init__(self, vhost: VHost, exchange: Exchange, key: bytes, queues: Sequence[Target]) -> None:
        self.name = exchange.name
        self.queues = queues
        self._vhost = vhost
        self._exchange = exchange
        self._key = key

    @property
    def deleted(self) -> bool:
        return False

    def enqueue(self, message: Message, now: int, *, again: bool = False) -> bool:
        """Hand a message to its queues; False when one of them has refused it."""
        window, log = self._exchange.deduplication, self._exchange.log
        assert window is not None
        wall = self._vhost.wall * 1000
        if window.known(self._key, wall) is not None:
            if log is not None:
                log.await_commit(message, self._key, window.again(self._key))
            return True
        accepted = True
        for queue in self.queues:
            if not queue.enqueue(message, now):
                accepted = False
        if accepted:
            window.add(self._key, window.newest + 1, wall, None if log is None else log.note)
        return accepted

    def enqueue_all(self, messages: Sequence[Message], now: int) -> bool:
        """Each has a value of its own."""
        return False


def queues_of(targets: Sequence[Target]) -> Iterator[Target]:
    """Where messages to these targets stand at last."""
    for target in targets:
        if isinstance(target, Once):
            yield from target.queues
        else:
            yield target
