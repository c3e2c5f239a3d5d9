"""The exchanges that choose one destination: x-modulus-hash and x-random."""

from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leveret.router.exchange.base import Binding, Exchange
from leveret.router.exchange.modulus_hash import ModulusHashExchange
from leveret.router.exchange.random import RandomExchange
from tests.router.exchange.helpers import Queue, bind, matched, message

KEYS = [f"key.{number}" for number in range(3000)]


def made(cls: type[Exchange]) -> Exchange:
    exchange = cls("x")
    if isinstance(exchange, RandomExchange):
        exchange.random = Random(1)
    return exchange


def spread(exchange: Exchange) -> Counter[str]:
    return Counter(name for key in KEYS for name in matched(exchange, key))


@pytest.fixture(params=[ModulusHashExchange, RandomExchange])
def exchange(request: pytest.FixtureRequest) -> Exchange:
    return made(request.param)


def test_nothing_bound_matches_nothing(exchange: Exchange) -> None:
    assert list(exchange.match("a", message())) == []


def test_each_message_goes_to_one_binding_and_all_get_their_share(exchange: Exchange) -> None:
    for name in ("q1", "q2", "q3"):
        bind(exchange, name, "any key")
    counts = spread(exchange)
    assert sum(counts.values()) == len(KEYS)
    assert all(900 < counts[name] < 1100 for name in ("q1", "q2", "q3"))


def test_queue_bound_three_times_gets_three_shares(exchange: Exchange) -> None:
    for key in ("1", "2", "3"):
        bind(exchange, "q1", key)
    bind(exchange, "q2", "4")
    assert 2150 < spread(exchange)["q1"] < 2350


def test_modulus_hash_sends_one_key_one_way() -> None:
    exchange = ModulusHashExchange("x")
    for name in ("q1", "q2", "q3"):
        bind(exchange, name)
    assert all(matched(exchange, key) == matched(exchange, key) for key in KEYS)


def test_modulus_hash_does_not_depend_on_the_order_of_binding() -> None:
    one, two = ModulusHashExchange("x"), ModulusHashExchange("x")
    for name in ("q1", "q2", "q3"):
        bind(one, name)
    for name in ("q3", "q1", "q2"):
        bind(two, name)
    assert [matched(one, key) for key in KEYS] == [matched(two, key) for key in KEYS]


def test_random_follows_its_source_of_chance() -> None:
    one, two = made(RandomExchange), made(RandomExchange)
    for name in ("q1", "q2", "q3"):
        bind(one, name)
        bind(two, name)
    choices = [matched(one, "same") for _ in KEYS]
    assert choices == [matched(two, "same") for _ in KEYS]
    assert len(set(map(tuple, choices))) == 3


@given(st.lists(st.tuples(st.booleans(), st.sampled_from("abc"), st.sampled_from("xy")), max_size=30))
def test_modulus_hash_keeps_its_order_whatever_comes_and_goes(steps: list[tuple[bool, str, str]]) -> None:
    exchange, queues = ModulusHashExchange("x"), {name: Queue(name) for name in "abc"}
    for number, (add, name, key) in enumerate(steps):
        binding = Binding(exchange, queues[name], key, {"n": number % 2})
        exchange.add(binding) if add else exchange.remove(binding)
        expected = sorted(exchange.bindings.values(), key=lambda one: one.identity[:3])
        assert exchange._sorted == expected
