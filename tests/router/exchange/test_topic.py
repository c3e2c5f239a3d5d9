"""The topic exchange: patterns, their trie and automaton, and the cache."""

from collections import Counter
from collections.abc import Callable
from itertools import product
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from leveret.router.exchange import topic, topic_automaton, topic_trie
from leveret.router.exchange.base import Binding
from leveret.router.exchange.topic import TopicExchange
from leveret.router.exchange.topic_automaton import BLOCK_BITS, KeyBlock
from leveret.router.exchange.topic_trie import STARS, Trie, TrieNode
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


def nodes(trie: Trie) -> list[TrieNode]:
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


@pytest.mark.slow
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps, st.sampled_from([8, 24, BLOCK_BITS]), st.sampled_from([0, 2, STARS]))
def test_matches_are_those_of_the_definition_whatever_was_added_and_removed(
    monkeypatch: pytest.MonkeyPatch, steps: list[tuple[str, str, int]], bits: int, stars: int
) -> None:
    monkeypatch.setattr(topic_automaton, "BLOCK_BITS", bits)
    monkeypatch.setattr(topic_trie, "STARS", stars)
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
    assert exchange._automaton.blocks == []
    assert exchange._automaton._places == {}


letters = st.sampled_from(["a", "b", "*", "#"])


@pytest.mark.slow
@settings(max_examples=300)
@given(
    st.lists(st.lists(letters, max_size=12), min_size=1, max_size=12),
    st.lists(st.lists(st.sampled_from("ab"), max_size=14), min_size=1, max_size=5),
)
def test_long_patterns_match_like_the_definition(patterns: list[list[str]], split: list[list[str]]) -> None:
    exchange = TopicExchange("x")
    bound = {key: bind(exchange, key, key) for key in {".".join(each) for each in patterns}}
    for key in split:
        expected = [binding for pattern, binding in bound.items() if naive(words(pattern), key)]
        assert Counter(exchange.match(".".join(key), message())) == Counter(expected)


def test_keys_that_collapse_to_one_pattern_stay_different_bindings() -> None:
    exchange = TopicExchange("x")
    one, two = bind(exchange, "q", "a.#"), bind(exchange, "q", "a.#.#")
    assert len(exchange.match("a", message())) == 2
    exchange.remove(two)
    assert list(exchange.match("a", message())) == [one]


def test_branch_is_pruned_up_to_what_is_still_used() -> None:
    exchange = TopicExchange("x")
    bind(exchange, "q", "a.b")
    longer = bind(exchange, "q", "a.b.*.c.#")
    bind(exchange, "q", "a.d")
    assert len(nodes(exchange._trie)) == 6
    exchange.remove(longer)
    assert len(nodes(exchange._trie)) == 4


class Visited(dict):  # type: ignore[type-arg]
    """A node's edges that count how often ``*`` or a word of the key is looked up there."""

    count = 0

    def __contains__(self, label: object) -> bool:
        Visited.count += 1
        return super().__contains__(label)


def visits(exchange: TopicExchange, key: str) -> int:
    """How many nodes of the trie a match looks at."""
    for node in nodes(exchange._trie):
        node.children = Visited(node.children)
    Visited.count = 0
    exchange.match(key, message())
    return Visited.count // 2


def test_nodes_off_the_path_are_not_visited() -> None:
    exchange = TopicExchange("x")
    for number in range(10_000):
        bind(exchange, f"q{number}", f"a.{number}.*")
    assert matched(exchange, "a.77.x") == ["q77"]
    assert visits(exchange, "a.78.x") <= 4


def test_bindings_that_could_all_match_visit_few_nodes_of_the_trie() -> None:
    exchange = TopicExchange("x")
    for number, choice in enumerate(product("a*", repeat=9)):
        bind(exchange, f"q{number}", ".".join([*choice, *"aaaaaaaa", "end"]))
    key = ["a"] * 20
    assert visits(exchange, ".".join(key)) <= 2**STARS * (len(key) + 1)


HOSTILE = {
    "many #": lambda number: ".".join(["#.a"] * 50) + f".{number}",
    "# behind each other": lambda number: ".".join(["#"] * 50) + f".{number}",
    "# and *": lambda number: ".".join(["#.*"] * 40) + f".{number}",
    "* anywhere": lambda number: ".".join("a*"[number >> bit & 1] for bit in range(10)) + ".*" * 90,
    "no word but the last": lambda number: ".#." * 60 + str(number),
}


@pytest.mark.parametrize("key", ["a." * 127, "." * 254], ids=["words", "dots"])
@pytest.mark.parametrize("pattern", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_match_takes_steps_in_proportion_to_blocks_of_bits(
    pattern: Callable[[int], str], key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    exchange = TopicExchange("x")
    for number in range(1000):
        bind(exchange, f"q{number}", pattern(number))
    steps = 0
    match = KeyBlock.match

    def counted(block: KeyBlock, split: list[str]) -> list[Any]:
        nonlocal steps
        steps += len(split)
        return match(block, split)

    monkeypatch.setattr(KeyBlock, "match", counted)
    assert visits(exchange, key) <= 2**STARS * len(words(key))
    bits = 1000 * 122
    assert steps <= len(words(key)) * (bits / BLOCK_BITS * 1.1 + 1)


def test_blocks_that_come_and_go_leave_few_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topic_automaton, "BLOCK_BITS", 64)
    exchange = TopicExchange("x")
    bound = [bind(exchange, f"q{number}", f"#.{number}") for number in range(2000)]
    for number, binding in enumerate(bound):
        if number % 20:
            exchange.remove(binding)
    blocks = exchange._automaton.blocks
    assert all(block.used * 4 >= block.size for block in blocks[:-1])
    assert len(blocks) <= 1 + 100 * 3 / (64 / 4)
    assert [matched(exchange, str(number)) for number in (20, 21, 1980)] == [["q20"], [], ["q1980"]]
    for binding in bound[::20]:
        exchange.remove(binding)
    assert exchange._automaton.blocks == []


def test_a_block_without_a_key_that_ends_like_the_routing_key_is_skipped() -> None:
    exchange = TopicExchange("x")
    for number in range(50):
        bind(exchange, f"q{number}", f"a.#.{number}")
    (block,) = exchange._automaton.blocks
    block.masks = Looked(block.masks)
    assert matched(exchange, "a.b.c.7") == ["q7"]
    assert (matched(exchange, "a.b.c.d"), matched(exchange, "")) == ([], [])
    assert Looked.words == ["7", "a", "b", "c", "7", "d"]


class Looked(dict):  # type: ignore[type-arg]
    """The masks of a block, which remember what was looked up."""

    words: ClassVar[list[object]] = []

    def __contains__(self, word: object) -> bool:
        Looked.words.append(word)
        return super().__contains__(word)

    def get(self, word: object, default: object = None) -> object:
        Looked.words.append(word)
        return super().get(word, default)


def test_a_key_larger_than_a_block_has_one_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topic_automaton, "BLOCK_BITS", 8)
    exchange = TopicExchange("x")
    for key in ("#.a", "#" + ".a.b" * 10, "#.b"):
        bind(exchange, key, key)
    assert matched(exchange, "x" + ".a.b" * 10) == ["#" + ".a.b" * 10, "#.b"]


def test_cached_answer_is_given_again_until_a_binding_changes() -> None:
    exchange = TopicExchange("x")
    first = bind(exchange, "q1", "#.*")
    answer = exchange.match("a.b", message())
    assert exchange.match("a.b", message()) is answer
    second = bind(exchange, "q2", "#")
    assert set(exchange.match("a.b", message())) == {first, second}
    exchange.remove(first)
    assert list(exchange.match("a.b", message())) == [second]


def test_cache_holds_no_more_than_its_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topic, "CACHE_ROOM", 50)
    exchange = TopicExchange("x")
    for number in range(9):
        bind(exchange, f"q{number}", "#.*")
    for number in range(100):
        assert len(exchange.match(f"k{number}", message())) == 9
        assert held(exchange) <= 50


def test_answer_too_large_for_the_cache_is_still_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topic, "CACHE_ROOM", 12)
    exchange = TopicExchange("x")
    for number in range(9):
        bind(exchange, f"q{number}", "#.*")
    assert len(exchange.match("k", message())) == 9
    assert held(exchange) == 0


def held(exchange: TopicExchange) -> int:
    cache: dict[str, tuple[Any, ...]] = exchange._cache
    return sum(topic.KEY_ROOM + len(answer) for answer in cache.values())
