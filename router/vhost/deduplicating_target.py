"""The targets of a message that was published to an exchange with deduplication.

A message is admitted when it is enqueued and not when it is routed: in a transaction that is at the commit.
"""

from collections.abc import Sequence

from leveret.protocol.amqp.message import Message
from leveret.router.deduplication.deduplicator import DUPLICATE
from leveret.router.exchange.base import Exchange
from leveret.router.exchange.routing import Target
from leveret.router.turns.backlog import Slicing
from leveret.router.vhost.vhost import VHost


class Once(tuple[Target, ...]):
    """The queues that a message is routed to, unless it is a duplicate at its exchange.

    A message that a queue refused, or that reached no queue, is not remembered: it may be published again.
    """

    _vhost: VHost
    _exchange: Exchange

    def __new__(cls, vhost: VHost, exchange: Exchange, queues: Sequence[Target]) -> "Once":
        made = super().__new__(cls, queues)
        made._vhost = vhost
        made._exchange = exchange
        return made

    def enqueue(self, message: Message, at_a_time: int) -> Slicing[bool]:
        """Hand a message to its queues, some in each slice; return False if one of them has refused it.

        A message with the same identity that is published meanwhile waits until this one is enqueued.
        """
        cache = self._exchange.deduplication
        assert cache is not None
        identity = cache.identify(message.properties.headers)
        while identity is not None and identity.key in cache.pending:
            yield
        now = self._vhost.host.wall * 1000
        if cache.admit(message, now) is DUPLICATE:
            return True
        if identity is None:
            return (yield from self._enqueue(message, at_a_time))
        cache.pending.add(identity.key)
        try:
            accepted = yield from self._enqueue(message, at_a_time)
        finally:
            cache.pending.discard(identity.key)
        if accepted:
            cache.remember(identity, now)
        return accepted

    def _enqueue(self, message: Message, at_a_time: int) -> Slicing[bool]:
        accepted = True
        for start in range(0, len(self), at_a_time):
            if start:
                yield
            now = self._vhost.host.now
            for queue in self[start : start + at_a_time]:
                if not queue.deleted and not queue.enqueue(message, now):
                    accepted = False
        return accepted
