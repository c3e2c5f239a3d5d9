"""A change makes the plans stale of every exchange whose messages may come there, and of no other."""

import pytest

from router.exchange.base import Binding
from router.exchange.fanout import FanoutExchange
from router.graph import Graph
from router.routing import Routes

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
        self.graph = Graph(Routes(Nowhere(self.exchanges)))
        for exchange in self.exchanges.values():
            self.graph.add(exchange)
        self.queue = Queue()
        self.binding = Binding(self.exchanges["b"], self.queue, "")
        self.graph.link(self.binding)
        self.graph.link(Binding(self.exchanges["a"], self.exchanges["b"], ""))
        self.graph.set_alternate(self.exchanges["c"], "b")

    def generations(self):
        return {name: exchange.generation for name, exchange in self.exchanges.items()}


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
    before = world.generations()
    change(world)
    after = world.generations()
    assert "".join(name for name in NAMES if after[name] > before[name]) == stale


def test_who_lost_a_binding_is_told():
    world = World()
    assert world.graph.cut(world.queue) == [world.exchanges["b"]]
    assert world.graph.cut(world.queue) == []
    assert world.graph.remove(world.exchanges["b"]) == [world.exchanges["a"]]
    assert not world.graph.sources


def test_a_key_of_the_default_exchange_is_stale_for_those_it_is_the_alternate_of():
    world = World()
    world.graph.set_alternate(world.exchanges["d"], "")
    before = world.generations()
    world.graph.target_changed("q")
    assert [name for name in NAMES if world.generations()[name] > before[name]] == ["d"]
