"""The topic exchange: patterns, their trie and its cache."""

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.exchange import topic
from router.exchange.base import Binding
from router.exchange.topic import Node, TopicExchange, Trie
from tests.router.exchange.helpers import Queue, bind, matched, message

# What a RabbitMQ 3.10 node answered: every pattern below was bound, each key published once.
PATTERNS = [
    "",
    ".",
    "#",
    "#.#",
    "*",
    "*.#",
    "#.*",
    "*.*",
    "a.",
    "a.#",
    ".a",
    "#.a",
    "*.a",
    "a.*",
    "..",
    "*.*.*",
]
PATTERNS += [
    "a..b",
    "a.*.b",
    "a.#.b",
    "#.#.a",
    "#.*.#",
    "a.#.#.b",
    "#.*.#.*.#",
    "**",
    "a#",
    "#.",
    "*.",
    ".#",
    "a.b",
]
ANSWERS = {
    "": ["", "#", "#.#"],
    ".": [".", "#", "#.#", "*.#", "#.*", "*.*", "#.*.#", "#.*.#.*.#", "#.", "*.", ".#"],
    "a": ["#", "#.#", "*", "*.#", "#.*", "a.#", "#.a", "#.#.a", "#.*.#"],
    ".a": ["#", "#.#", "*.#", "#.*", "*.*", ".a", "#.a", "*.a", "#.#.a", "#.*.#", "#.*.#.*.#", ".#"],
    "a.": ["#", "#.#", "*.#", "#.*", "*.*", "a.", "a.#", "a.*", "#.*.#", "#.*.#.*.#", "#.", "*."],
    "a.b": ["#", "#.#", "*.#", "#.*", "*.*", "a.#", "a.*", "a.#.b", "#.*.#", "a.#.#.b", "#.*.#.*.#", "a.b"],
    "a..b": [
        "#",
        "#.#",
        "*.#",
        "#.*",
        "a.#",
        "*.*.*",
        "a..b",
        "a.*.b",
        "a.#.b",
        "#.*.#",
        "a.#.#.b",
        "#.*.#.*.#",
    ],
    "..": ["#", "#.#", "*.#", "#.*", "..", "*.*.*", "#.*.#", "#.*.#.*.#", "#.", ".#"],
    "*": ["#", "#.#", "*", "*.#", "#.*", "#.*.#"],
    "#": ["#", "#.#", "*", "*.#", "#.*", "#.*.#"],
    "a.*": ["#", "#.#", "*.#", "#.*", "*.*", "a.#", "a.*", "#.*.#", "#.*.#.*.#"],
    "a.#": ["#", "#.#", "*.#", "#.*", "*.*", "a.#", "a.*", "#.*.#", "#.*.#.*.#"],
    "**": ["#", "#.#", "*", "*.#", "#.*", "#.*.#", "**"],
    "a#": ["#", "#.#", "*", "*.#", "#.*", "#.*.#", "a#"],
    "a.b.b": ["#", "#.#", "*.#", "#.*", "a.#", "*.*.*", "a.*.b", "a.#.b", "#.*.#", "a.#.#.b", "#.*.#.*.#"],
    "a.a": ["#", "#.#", "*.#", "#.*", "*.*", "a.#", "#.a", "*.a", "a.*", "#.#.a", "#.*.#", "#.*.#.*.#"],
}


def naive(pattern: list[str], key: list[str]) -> bool:
    """The definition, word by word and with no thought of speed."""
    if not pattern:
        return not key
    if pattern[0] == "#":
        return naive(pattern[1:], key) or (bool(key) and naive(pattern, key[1:]))
    return bool(key) and pattern[0] in ("*", key[0]) and naive(pattern[1:], key[1:])


def words(key: str) -> list[str]:
    return key.split(".") if key else []


def nodes(trie: Trie) -> list[Node]:
    found = [trie.root]
    for node in found:
        found += node.children.values()
    return found


@pytest.mark.parametrize("key", ANSWERS)
def test_patterns_match_as_in_rabbitmq(key: str) -> None:
    exchange = TopicExchange("x")
    for pattern in PATTERNS:
        bind(exchange, pattern, pattern)
    assert matched(exchange, key) == sorted(ANSWERS[key])


@pytest.mark.parametrize(
    ("pattern", "key", "matches"),
    [
        ("stock.*.nyse", "stock.usd.nyse", True),
        ("stock.*.nyse", "stock.nyse", False),
        ("stock.*.nyse", "stock.a.b.nyse", False),
        ("stock.#", "stock", True),
        ("stock.#", "stock.usd.nyse", True),
        ("stock.#", "stocks", False),
        ("#.nyse", "nyse", True),
        ("#.nyse", "nyse.x", False),
        ("#.a.#.a.#", "a", False),
        ("#.a.#.a.#", "a.a", True),
        ("#.a.#.a.#", "x.a.x.x.a.x", True),
        ("*.*", "a", False),
        ("ü.*", "ü.ß", True),
        ("A", "a", False),
    ],
)
def test_pattern(pattern: str, key: str, matches: bool) -> None:
    exchange = TopicExchange("x")
    bind(exchange, "q", pattern)
    assert bool(matched(exchange, key)) is matches


parts = st.sampled_from(["a", "b", "", "*", "#"])
keys = st.lists(parts, max_size=6).map(".".join)
steps = st.lists(
    st.tuples(st.sampled_from(["add", "remove", "publish"]), keys, st.integers(0, 3)), max_size=60
)


@settings(max_examples=300)
@given(steps)
def test_trie_matches_like_the_definition_whatever_was_added_and_removed(
    steps: list[tuple[str, str, int]],
) -> None:
    exchange = TopicExchange("x")
    bound: dict[tuple[str, str], Binding] = {}
    for step, key, number in steps:
        binding = Binding(exchange, Queue(f"q{number}"), key)
        place = (key, f"q{number}")
        if step == "add":
            assert exchange.add(binding) is (place not in bound)
            bound.setdefault(place, binding)
        elif step == "remove":
            assert exchange.remove(binding) is (bound.pop(place, None) is not None)
        else:
            expected = [found for (pattern, _), found in bound.items() if naive(words(pattern), words(key))]
            assert Counter(exchange.match(key, message())) == Counter(expected)
    for binding in bound.values():
        exchange.remove(binding)
    assert nodes(exchange._trie) == [exchange._trie.root], "branches were left behind"


def test_keys_that_collapse_to_one_pattern_stay_different_bindings() -> None:
    exchange = TopicExchange("x")
    one, two = bind(exchange, "q", "a.#"), bind(exchange, "q", "a.#.#")
    assert len(exchange.match("a", message())) == 2
    exchange.remove(two)
    assert exchange.match("a", message()) == (one,)


def test_branch_is_pruned_up_to_what_is_still_used() -> None:
    exchange = TopicExchange("x")
    bind(exchange, "q", "a.b")
    longer = bind(exchange, "q", "a.b.*.#.c")
    bind(exchange, "q", "a.d")
    assert len(nodes(exchange._trie)) == 7
    exchange.remove(longer)
    assert len(nodes(exchange._trie)) == 4


class Visited(dict):  # type: ignore[type-arg]
    """A node's edges that count how often ``#`` or a word of the key is looked up there."""

    count = 0

    def __contains__(self, label: object) -> bool:
        Visited.count += 1
        return super().__contains__(label)


@pytest.mark.parametrize("hashes", [1, 5, 20, 60])
@pytest.mark.parametrize("pattern", ["#.a", "a.#", "#.*", "#.*.a"])
def test_many_hashes_in_one_key_cost_no_more_than_nodes_times_words(pattern: str, hashes: int) -> None:
    trie = Trie()
    exchange = TopicExchange("x")
    trie.insert(Binding(exchange, Queue("q"), ".".join([pattern] * hashes) + ".end"))
    found = nodes(trie)
    for node in found:
        node.children = Visited(node.children)
    Visited.count = 0
    assert trie.match(".".join(["a"] * 100)) == ()
    looked_up_per_visit = 3
    assert Visited.count <= looked_up_per_visit * len(found) * 101


def test_nodes_off_the_path_are_not_visited() -> None:
    trie = Trie()
    exchange = TopicExchange("x")
    for number in range(10_000):
        trie.insert(Binding(exchange, Queue(f"q{number}"), f"a.{number}.*"))
    for node in nodes(trie):
        node.children = Visited(node.children)
    Visited.count = 0
    assert [binding.destination.name for binding in trie.match("a.77.x")] == ["q77"]
    assert Visited.count <= 3 * 4


def test_cached_answer_is_given_again_until_a_binding_changes() -> None:
    exchange = TopicExchange("x")
    first = bind(exchange, "q1", "a.*")
    answer = exchange.match("a.b", message())
    assert exchange.match("a.b", message()) is answer
    second = bind(exchange, "q2", "#")
    assert set(exchange.match("a.b", message())) == {first, second}
    exchange.remove(first)
    assert exchange.match("a.b", message()) == (second,)


def test_cache_holds_no_more_than_its_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topic, "CACHE_ROOM", 50)
    exchange = TopicExchange("x")
    for number in range(9):
        bind(exchange, f"q{number}", "#")
    for number in range(100):
        assert len(exchange.match(f"k{number}", message())) == 9
        assert held(exchange) <= 50


def test_answer_too_large_for_the_cache_is_still_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topic, "CACHE_ROOM", 5)
    exchange = TopicExchange("x")
    for number in range(9):
        bind(exchange, f"q{number}", "#")
    assert len(exchange.match("k", message())) == 9
    assert held(exchange) == 0


def held(exchange: TopicExchange) -> int:
    cache: dict[str, tuple[Any, ...]] = exchange._cache
    return sum(1 + len(answer) for answer in cache.values())
