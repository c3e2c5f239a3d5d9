"""The graph of one virtual host's exchanges: who leads to whom, and whose routes a change makes stale.

Owns an exchange's ``alternate``, and the way back from anything to what leads there, so that what goes away
costs nobody a scan. What changes, and whether it may, is the virtual host's business; which way a message
takes is routing's.
"""

from itertools import chain

from leveret.protocol.amqp.message import pack_route
from leveret.router.exchange.base import Binding, Destination, Exchange
from leveret.router.exchange.routing import Routes


class Graph:
    """The exchanges of a virtual host.

    ``sources`` counts, for each destination, the bindings from each exchange; ``alternates`` has the
    exchanges that name one as their alternate, be it there or not.
    """

    __slots__ = ("_routes", "alternates", "sources")

    def __init__(self, routes: Routes) -> None:
        self._routes = routes
        self.sources: dict[Destination, dict[Exchange, int]] = {}
        self.alternates: dict[str, dict[Exchange, None]] = {}

    def add(self, exchange: Exchange) -> None:
        """An exchange is there now; others may have named it before."""
        self._follow(exchange)
        exchange.planned = True  # those that name it as their alternate went past the place where it is now
        self._changed(exchange)

    def remove(self, exchange: Exchange) -> list[Exchange]:
        """An exchange is going away, with all its bindings; return those that were bound to it."""
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
        """Take a binding from its source."""
        binding.source.remove(binding)
        self._count_off(binding)
        self._changed(binding.source)

    def cut(self, destination: Destination) -> list[Exchange]:
        """Take away every binding that leads to ``destination``; return the exchanges that had one."""
        sources = list(self.sources.pop(destination, ()))
        for source in sources:
            source.remove_destination(destination)
            self._changed(source)
        return sources

    def set_alternate(self, exchange: Exchange, alternate: str | None) -> None:
        """Have an exchange pass on to another what it cannot route."""
        self._unfollow(exchange)
        exchange.alternate = alternate
        self._follow(exchange)
        self._changed(exchange)

    def target_changed(self, name: str) -> None:
        """The default exchange leads elsewhere for this one key; everyone else's plans stay."""
        self._routes.forget(pack_route("", name))
        for exchange in self.alternates.get("", ()):
            self._changed(exchange)

    def _changed(self, exchange: Exchange) -> None:
        """Drop the plans of an exchange that leads elsewhere now, and of those before it.

        A kept plan has marked every exchange on its way as ``planned``. Behind one without the mark there is
        no plan to drop, so that many changes in a row cost one search of a dense graph and not one each.
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
