"""The direct and the fanout exchange."""

import pytest

from leveret.router.exchange.direct import DirectExchange
from leveret.router.exchange.fanout import FanoutExchange
from tests.router.exchange.helpers import bind, matched


@pytest.mark.parametrize(
    ("key", "names"),
    [("a", ["q1", "q2"]), ("b", ["q2"]), ("", ["q3"]), ("c", []), ("A", []), ("a.b", []), ("#", ["q4"])],
)
def test_direct_matches_equal_keys_only(key: str, names: list[str]) -> None:
    exchange = DirectExchange("x")
    for name, bound in [("q1", "a"), ("q2", "a"), ("q2", "b"), ("q3", ""), ("q4", "#")]:
        bind(exchange, name, bound)
    assert matched(exchange, key) == names


def test_direct_forgets_keys_without_bindings() -> None:
    exchange = DirectExchange("x")
    bindings = [bind(exchange, f"q{number}", f"k{number % 7}") for number in range(50)]
    for binding in bindings:
        exchange.remove(binding)
    assert not exchange._keyed


def test_bindings_that_differ_in_arguments_alone_all_match() -> None:
    exchange = DirectExchange("x")
    bind(exchange, "q", "a", {"n": 1})
    bind(exchange, "q", "a", {"n": 2})
    assert matched(exchange, "a") == ["q", "q"]


@pytest.mark.parametrize("key", ["", "a", "anything.at.all"])
def test_fanout_matches_every_binding_whatever_the_key(key: str) -> None:
    exchange = FanoutExchange("x")
    for name, bound in [("q1", "a"), ("q2", ""), ("q2", "b")]:
        bind(exchange, name, bound)
    assert matched(exchange, key) == ["q1", "q2", "q2"]
