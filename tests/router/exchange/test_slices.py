"""Matching in slices finds what matching at once does, whatever is bound and unbound between two slices."""

from random import Random

import pytest

from leveret.router.exchange import EXCHANGE_TYPES, headers, topic_automaton
from leveret.router.exchange.base import Binding
from leveret.router.turns.backlog import at_once
from tests.router.exchange.helpers import CHOOSING
from tests.router.harness import message


class Place:
    """A destination."""

    def __init__(self, name):
        self.name = name


def exchange_with(kind, count):
    """An exchange with bindings that all match, and these."""
    exchange = EXCHANGE_TYPES[kind]("x")
    bindings = []
    for number in range(count):
        key, arguments = f"#.{number}.#.end", {"x-match": "any", "a": 1, "n": number}
        bindings.append(Binding(exchange, Place(f"q{number}"), key, arguments))
        exchange.add(bindings[-1])
    return exchange, bindings


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    monkeypatch.setattr(topic_automaton, "BLOCK_BITS", 20)
    monkeypatch.setattr(headers, "COMPARED", 3)


COUNT = 40
KEY = ".".join([*map(str, range(COUNT)), "end"])


@pytest.mark.parametrize("kind", ["topic", "headers"])
@pytest.mark.parametrize("seed", range(20))
def test_what_stays_bound_is_found_and_what_was_never_bound_is_not(kind, seed):
    exchange, bindings = exchange_with(kind, COUNT)
    random = Random(seed)
    stay = set(random.sample(bindings, COUNT // 2))
    leave = [binding for binding in bindings if binding not in stay]
    search = exchange.search(KEY, message(headers={"a": 1}))
    found, slices = None, 0
    while found is None:
        try:
            next(search)
            slices += 1
        except StopIteration as end:
            found = end.value
        for binding in leave[:2]:
            exchange.remove(binding)
        del leave[:2]
    assert slices > 3
    assert len(found) == len(set(found))
    assert stay <= set(found) <= set(bindings)
    assert set(exchange.match(KEY, message(headers={"a": 1}))) == stay | set(leave)


@pytest.mark.parametrize("kind", [kind for kind in EXCHANGE_TYPES if kind not in CHOOSING])
def test_searching_to_the_end_is_matching(kind):
    exchange, _ = exchange_with(kind, 9)
    given = KEY, message(headers={"a": 1})
    assert list(at_once(exchange.search(*given))) == list(exchange.match(*given))


def test_a_match_during_which_a_binding_changed_is_not_kept():
    exchange, bindings = exchange_with("topic", COUNT)
    search = exchange.search(KEY, message())
    next(search)
    exchange.remove(bindings[-1])
    at_once(search)
    assert set(exchange.match(KEY, message())) == set(bindings[:-1])
