"""A change makes the plans stale of every exchange whose messages may come there, and of no other."""

from itertools import permutations

import pytest

from leveret.protocol.amqp.message import pack_route
from leveret.router.exchange.base import Binding
from leveret.router.exchange.fanout import FanoutExchange
from leveret.router.exchange.invalidation import ExchangeGraph
from leveret.router.exchange.routing import Routes

NAMES = "abcd"


class Nowhere:
    """A topology without queues."""

    def __init__(self, exchanges):
        self.exchanges = exchanges

    def target(self, name):
        return None


class Queue:
    name = "q"


class World:
    """The exchange a leads to b, c names b as its alternate, d stands alone."""

    def __init__(self):
        self.exchanges = {name: FanoutExchange(name) for name in NAMES}
        self.routes = Routes(Nowhere(self.exchanges))
        self.graph = ExchangeGraph(self.routes)
        for exchange in self.exchanges.values():
            self.graph.add(exchange)
        self.queue = Queue()
        self.binding = Binding(self.exchanges["b"], self.queue, "")
        self.graph.link(self.binding)
        self.graph.link(Binding(self.exchanges["a"], self.exchanges["b"], ""))
        self.graph.set_alternate(self.exchanges["c"], "b")

    def plan(self):
        """Make a plan for each exchange."""
        for name, exchange in self.exchanges.items():
            self.routes.plan(pack_route(name, ""), exchange, "")

    def stale(self):
        """The exchanges whose plans were dropped."""
        return "".join(name for name in self.exchanges if pack_route(name, "") not in self.routes.plans)


CHANGES = {
    "another binding": (lambda w: w.graph.link(Binding(w.exchanges["b"], w.queue, "k")), "abc"),
    "a binding less": (lambda w: w.graph.unlink(w.binding), "abc"),
    "a queue that goes": (lambda w: w.graph.cut(w.queue), "abc"),
    "an exchange that goes": (lambda w: w.graph.remove(w.exchanges["b"]), "abc"),
    "an alternate for the last": (lambda w: w.graph.set_alternate(w.exchanges["b"], "d"), "abc"),
    "an alternate for the first": (lambda w: w.graph.set_alternate(w.exchanges["a"], "d"), "a"),
    "an alternate less": (lambda w: w.graph.set_alternate(w.exchanges["c"], None), "c"),
    "a binding to one that nobody leads to": (
        lambda w: w.graph.link(Binding(w.exchanges["d"], w.queue, "")),
        "d",
    ),
}


@pytest.mark.parametrize(("change", "stale"), CHANGES.values(), ids=CHANGES.keys())
def test_a_change_is_known_to_all_before_it(change, stale):
    world = World()
    for _ in range(2):  # a change of a plan that was made anew counts again
        world.plan()
        assert world.stale() == ""
    change(world)
    assert world.stale() == stale


@pytest.mark.parametrize("planned", NAMES)
def test_a_change_is_known_though_only_one_before_it_has_a_plan(planned):
    world = World()
    world.routes.plan(pack_route(planned, ""), world.exchanges[planned], "")
    world.graph.unlink(world.binding)
    assert (pack_route(planned, "") in world.routes.plans) is (planned == "d")


class Searched(dict):
    """What leads to each destination, which counts how often a search asks for it."""

    count = 0

    def get(self, *arguments):
        Searched.count += 1
        return super().get(*arguments)


def test_changes_of_a_dense_graph_without_plans_search_nothing():
    exchanges = {str(number): FanoutExchange(str(number)) for number in range(60)}
    graph = ExchangeGraph(Routes(Nowhere(exchanges)))
    for exchange in exchanges.values():
        graph.add(exchange)
    graph.sources = Searched(graph.sources)
    Searched.count = 0
    bindings = [Binding(source, target, "") for source, target in permutations(exchanges.values(), 2)]
    for binding in bindings:
        graph.link(binding)
    for binding in bindings[::2]:
        graph.unlink(binding)
    graph.remove(exchanges["0"])
    assert Searched.count == 0


def test_changes_after_one_publish_search_a_dense_graph_once():
    exchanges = {str(number): FanoutExchange(str(number)) for number in range(60)}
    routes = Routes(Nowhere(exchanges))
    graph = ExchangeGraph(routes)
    for exchange in exchanges.values():
        graph.add(exchange)
    for source, target in permutations(exchanges.values(), 2):
        graph.link(Binding(source, target, ""))
    graph.sources = Searched(graph.sources)
    routes.plan(pack_route("0", ""), exchanges["0"], "")
    Searched.count = 0
    for number in range(100):
        graph.link(Binding(exchanges["7"], Queue(), str(number)))
    assert Searched.count == 60
    assert routes.plans == {}


def test_exchanges_that_lost_a_binding_are_returned():
    world = World()
    assert world.graph.cut(world.queue) == [world.exchanges["b"]]
    assert world.graph.cut(world.queue) == []
    assert world.graph.remove(world.exchanges["b"]) == [world.exchanges["a"]]
    assert not world.graph.sources


def test_a_key_of_the_default_exchange_is_stale_for_those_it_is_the_alternate_of():
    world = World()
    world.graph.set_alternate(world.exchanges["d"], "")
    world.plan()
    world.graph.target_changed("q")
    assert world.stale() == "d"
