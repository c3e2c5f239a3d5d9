"""A message that its exchange takes once: whether one like it came lately is asked when it is enqueued.

Owns the question, which goes with the message's queues until then, as a transaction may. What is remembered
is the business of ``leveret.router.deduplication.cache``.
"""

from collections.abc import Sequence

from leveret.protocol.amqp.message import Message
from leveret.router.exchange.base import Exchange
from leveret.router.exchange.routing import Target
from leveret.router.turns.backlog import Slicing
from leveret.router.vhost.vhost import VHost


class Once(tuple[Target, ...]):
    """The queues that a message is routed to, if none with the value ``key`` has been through its exchange.

    One that a queue refused, or that reached none, is not remembered: it may be published again.
    """

    _vhost: VHost
    _exchange: Exchange
    _key: bytes

    def __new__(cls, vhost: VHost, exchange: Exchange, key: bytes, queues: Sequence[Target]) -> "Once":
        made = super().__new__(cls, queues)
        made._vhost = vhost
        made._exchange = exchange
        made._key = key
        return made

    def enqueue(self, message: Message, at_a_time: int) -> Slicing[bool]:
        """Hand a message to its queues, some in each slice; return False if one of them has refused it.

        One with the same value that comes meanwhile waits until it is known what becomes of this one.
        """
        window, log, key = self._exchange.deduplication, self._exchange.log, self._key
        assert window is not None
        while key in window.arriving:
            yield
        wall = self._vhost.host.wall * 1000
        if window.known(key, wall) is not None:
            if log is not None:
                log.await_commit(message, key, window.again(key))
            return True
        accepted = True
        window.arriving.add(key)
        try:
            for start in range(0, len(self), at_a_time):
                if start:
                    yield
                now = self._vhost.host.now
                for queue in self[start : start + at_a_time]:
                    if not queue.deleted and not queue.enqueue(message, now):
                        accepted = False
        finally:
            window.arriving.discard(key)
        if accepted:
            window.add(key, window.newest + 1, wall, None if log is None else log.notes)
        return accepted
