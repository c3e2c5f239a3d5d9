"""Route-cache invalidation: the graph of a virtual host's exchanges, and the plans that a change makes stale.

Responsible for an exchange's ``alternate``, and for links from each destination back to the exchanges that
route to it, so that a removal need not search all exchanges. Not for the rules of a change (see ``vhost``),
nor for routing messages (see ``routing``).
"""

from itertools import chain

from leveret.protocol.amqp.message import pack_route
from leveret.router.exchange.base import Binding, BindingDestination, Exchange
from leveret.router.exchange.routing import Routes


class ExchangeGraph:
    """The exchanges of a virtual host and the links between them.

    ``sources`` counts, for each destination, the bindings from each exchange. ``alternates`` maps the name of
    an alternate exchange, which need not exist, to the exchanges that use it.
    """

    __slots__ = ("_routes", "alternates", "sources")

    def __init__(self, routes: Routes) -> None:
        self._routes = routes
        self.sources: dict[BindingDestination, dict[Exchange, int]] = {}
        self.alternates: dict[str, dict[Exchange, None]] = {}

    def add(self, exchange: Exchange) -> None:
        """Add an exchange; others may already name it as their alternate."""
        self._follow(exchange)
        exchange.planned = True  # plans through exchanges that name it as their alternate are stale
        self._changed(exchange)

    def remove(self, exchange: Exchange) -> list[Exchange]:
        """Remove an exchange with all its bindings; return the exchanges that were bound to it."""
        self._changed(exchange)
        for binding in exchange.bindings.values():
            self._count_off(binding)
        self._unfollow(exchange)
        for destination in {binding.destination: None for binding in exchange.bindings.values()}:
            exchange.remove_destination(destination)  # not to leave a cycle
        return self.cut(exchange)

    def link(self, binding: Binding) -> None:
        """Add a binding to its source."""
        source, destination = binding.source, binding.destination
        source.add(binding)
        counts = self.sources.setdefault(destination, {})
        counts[source] = counts.get(source, 0) + 1
        self._changed(source)

    def unlink(self, binding: Binding) -> None:
        """Remove a binding from its source."""
        binding.source.remove(binding)
        self._count_off(binding)
        self._changed(binding.source)

    def cut(self, destination: BindingDestination) -> list[Exchange]:
        """Remove every binding to ``destination``; return the exchanges that had one."""
        sources = list(self.sources.pop(destination, ()))
        for source in sources:
            source.remove_destination(destination)
            self._changed(source)
        return sources

    def set_alternate(self, exchange: Exchange, alternate: str | None) -> None:
        """Set the exchange that gets the messages ``exchange`` cannot route."""
        self._unfollow(exchange)
        exchange.alternate = alternate
        self._follow(exchange)
        self._changed(exchange)

    def target_changed(self, name: str) -> None:
        """Drop the plans of one key of the default exchange; all other plans stay."""
        self._routes.forget(pack_route("", name))
        for exchange in self.alternates.get("", ()):
            self._changed(exchange)

    def _changed(self, exchange: Exchange) -> None:
        """Drop the plans of an exchange whose routes have changed, and of the exchanges before it.

        Every exchange on the way of a cached plan is marked as ``planned``. The search removes the marks and
        ends at exchanges without one, so many changes in a row cost only one search of a dense graph.
        """
        if not exchange.planned:
            return
        exchange.planned = False
        work = [exchange]
        while work:
            current = work.pop()
            self._routes.drop(current)
            for before in chain(self.sources.get(current, ()), self.alternates.get(current.name, ())):
                if before.planned:
                    before.planned = False
                    work.append(before)

    def _count_off(self, binding: Binding) -> None:
        counts = self.sources[binding.destination]
        counts[binding.source] -= 1
        if not counts[binding.source]:
            del counts[binding.source]
            if not counts:
                del self.sources[binding.destination]

    def _follow(self, exchange: Exchange) -> None:
        if exchange.alternate is not None:
            self.alternates.setdefault(exchange.alternate, {})[exchange] = None

    def _unfollow(self, exchange: Exchange) -> None:
        if exchange.alternate is not None:
            followers = self.alternates[exchange.alternate]
            del followers[exchange]
            if not followers:
                del self.alternates[exchange.alternate]
