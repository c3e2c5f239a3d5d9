"""Deletion of queues and exchanges in slices.

Responsible for deletions that take long: of many bindings, of many queues, and of chains of auto-delete
exchanges. ``VHost.delete_queue`` and ``VHost.delete_exchange`` delete a single object at once.
"""

from collections import deque
from typing import TYPE_CHECKING

from leveret.router.exchange.base import Exchange
from leveret.router.queue.consumers import Consumer
from leveret.router.queue.interface import AnyQueue
from leveret.router.turns.backlog import Slices
from leveret.router.vhost.trace import TRACE

if TYPE_CHECKING:
    from leveret.router.vhost.vhost import VHost

SOME = 16  # consumers that are cancelled at a time
FEW = 200  # bindings that are removed at a time: half a millisecond


class Deletion:
    """Deletion in one virtual host."""

    def __init__(self, vhost: "VHost") -> None:
        self._vhost = vhost
        self._unused: deque[Exchange] = deque()  # auto-delete exchanges without bindings, to be deleted

    def delete_everything(self) -> Slices:
        """Delete all queues and exchanges, except the default exchange."""
        vhost = self._vhost
        yield from self.delete_queues(list(vhost.queues.values()))
        for name in list(vhost.exchanges):
            exchange = vhost.exchanges.get(name)
            if name and exchange is not None:
                yield from self.delete_bindings(exchange)
                if vhost.exchanges.get(name) is exchange:
                    vhost.delete_exchange(exchange)
                yield

    def delete_queues(self, queues: list[AnyQueue]) -> Slices:
        """Delete the queues of a list that still exist; the list is empty afterwards."""
        queues.reverse()
        while queues:
            yield from self.delete_queue(queues.pop())
            yield

    def delete_queue(self, queue: AnyQueue) -> Slices:
        """Delete an existing queue; if it has many bindings, they are deleted before."""
        yield from self.delete_bindings(queue)
        if not queue.deleted:
            self._vhost.delete_queue(queue)

    def cancel_consumers(self, queue: AnyQueue, consumers: list[Consumer]) -> Slices:
        """Cancel consumers of a deleted queue, except those that have ended by now, and notify their clients.

        The list is empty afterwards.
        """
        consumers.reverse()
        while consumers:
            for consumer in reversed(consumers[-SOME:]):
                if consumer in queue.consumers:
                    queue.consumers.remove(consumer)
                    consumer.sink.cancelled(consumer)
            del consumers[-SOME:]
            yield

    def delete_bindings(self, end: AnyQueue | Exchange) -> Slices:
        """Delete the bindings of a queue or exchange if they are too many to be deleted together with it.

        They are removed from disk with the queue or exchange, so a restart before that restores them.
        """
        graph = self._vhost.graph
        bindings = list(end.bindings.values()) if isinstance(end, Exchange) else []
        for source in list(graph.sources.get(end, ())):
            bindings += source.bound_to(end)
        if len(bindings) <= FEW:
            return
        while bindings:
            for binding in bindings[-FEW:]:
                source = binding.source
                if source.find(binding.identity) is binding:
                    graph.unlink(binding)
                    if source is not end:
                        self.delete_if_unused(source)
            del bindings[-FEW:]
            yield

    def delete_if_unused(self, source: Exchange) -> None:
        """Delete an auto-delete exchange without bindings; end tracing that was to end with the last one."""
        vhost = self._vhost
        if source.name == TRACE and not source.bindings:
            vhost.firehose.unbound()
        if source.auto_delete and not source.bindings and source.name in vhost.exchanges:
            self._unused.append(source)
            if len(self._unused) == 1:  # otherwise it is one of a chain, whose first is being deleted
                vhost.host.backlog.start("deleting auto-delete exchanges", self._delete_unused())

    def _delete_unused(self) -> Slices:
        """Delete the exchanges that have lost their last binding, and exchanges that lose theirs as
        a result.
        """
        vhost = self._vhost
        try:
            while self._unused:
                exchange = self._unused[0]
                if not exchange.bindings:
                    yield from self.delete_bindings(exchange)
                if not exchange.bindings and vhost.exchanges.get(exchange.name) is exchange:
                    vhost.delete_exchange(exchange)
                self._unused.popleft()
                yield
        finally:
            self._unused.clear()
