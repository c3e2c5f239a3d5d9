"""LIKE patterns: against a table, against a plain definition, and in the worst case."""

import sys
from functools import cache
from types import FrameType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leveret.router.selector.like import compile_like


@pytest.mark.parametrize(
    ("pattern", "matching", "other"),
    [
        ("", [""], ["a", " "]),
        ("abc", ["abc"], ["", "ab", "abcd", "xabc", "ABC"]),
        ("%", ["", "a", "abc", "a\nb"], []),
        ("%%", ["", "a"], []),
        ("_", ["a", "%", "\n", "😀"], ["", "ab"]),
        ("__", ["ab"], ["a", "abc"]),
        ("%_", ["a", "ab"], [""]),
        ("_%", ["a", "ab"], [""]),
        ("_%_", ["ab", "abc"], ["", "a"]),
        ("%_%", ["a", "ab", "abc"], [""]),
        ("%__%_%", ["abc", "abcd"], ["", "ab"]),
        ("a%", ["a", "ab", "a%"], ["", "ba"]),
        ("%a", ["a", "ba", "aa"], ["", "ab"]),
        ("%a%", ["a", "bab", "aa"], ["", "b"]),
        ("a%a", ["aa", "aba", "aaa"], ["a", "ab", "ba"]),
        ("ab%ba", ["abba", "abxba"], ["aba", "ab", "ba"]),
        ("a%b%c", ["abc", "axbxc", "abbcc"], ["acb", "ab", "bc", "abcx"]),
        ("%ab%ab%", ["abab", "xabxabx"], ["ab", "aba", "abxa"]),
        ("%a_c%", ["abc", "xxaxcxx", "aacac", "aabc"], ["ac", "abbc", "a"]),
        ("%a_c", ["abc", "abcaxc"], ["abca", "ac"]),
        ("a_c%", ["abc", "abcd"], ["ac", "xabc"]),
        ("%a_%_c%", ["abbc", "abxc", "aaccc"], ["abc", "ac"]),
        ("1_3%", ["123", "1x34"], ["13", "1223"]),
        ("a.c", ["a.c"], ["abc"]),
        ("a*", ["a*"], ["aa", "a"]),
        ("[a-z]\\d", ["[a-z]\\d"], ["a1"]),
    ],
)
def test_patterns(pattern, matching, other):
    matches, _ = compile_like(pattern)
    assert [text for text in matching if not matches(text)] == []
    assert [text for text in other if matches(text)] == []


@pytest.mark.parametrize(
    ("pattern", "escape", "matching", "other"),
    [
        ("!%", "!", ["%"], ["", "a", "!%", "!"]),
        ("!_", "!", ["_"], ["a", "!_"]),
        ("!!", "!", ["!"], ["!!", "a"]),
        ("!!%", "!", ["!", "!a"], ["%", "a"]),
        ("!!!%", "!", ["!%"], ["!a", "!!%"]),
        ("a!%b%", "!", ["a%b", "a%bc"], ["axb"]),
        ("\\_%", "\\", ["_", "_a"], ["a"]),
        ("a%%b", "%", ["a%b"], ["ab", "axb", "a%%b"]),
        ("a%_b", "%", ["a_b"], ["axb"]),
        ("a__b", "_", ["a_b"], ["axyb", "a__b"]),
        ("a_%b", "_", ["a%b"], ["axb"]),
        ("a%b", "_", ["ab", "axb"], []),
        ("''%", "'", ["'", "'a"], ["a"]),
    ],
)
def test_escapes(pattern, escape, matching, other):
    matches, _ = compile_like(pattern, escape)
    assert [text for text in matching if not matches(text)] == []
    assert [text for text in other if matches(text)] == []


@pytest.mark.parametrize(
    ("pattern", "escape"), [("a", ""), ("a", "!!"), ("!", "!"), ("a!", "!"), ("!a", "!"), ("!!!", "!")]
)
def test_escapes_that_mean_nothing_are_refused(pattern, escape):
    with pytest.raises(ValueError, match=r"escape|ESCAPE"):
        compile_like(pattern, escape)


def like(pattern: str, text: str) -> bool:
    """LIKE as one would define it."""

    @cache
    def rest(at: int, position: int) -> bool:
        if at == len(pattern):
            return position == len(text)
        if pattern[at] == "%":
            return any(rest(at + 1, behind) for behind in range(position, len(text) + 1))
        return position < len(text) and pattern[at] in ("_", text[position]) and rest(at + 1, position + 1)

    return rest(0, 0)


@pytest.mark.slow
@settings(max_examples=500)
@given(st.text("ab%_", max_size=10), st.lists(st.text("ab", max_size=14), min_size=1, max_size=10))
def test_like_agrees_with_its_definition(pattern, texts):
    matches, _ = compile_like(pattern)
    for text in texts:
        assert matches(text) is like(pattern, text)


@pytest.mark.slow
@settings(max_examples=300)
@given(
    st.lists(st.sampled_from(["a", "ü", "€", "😀", "\udc80", "_", "%"]), max_size=10).map("".join),
    st.lists(st.text("aü€😀\udc80", max_size=14), min_size=1, max_size=5),
)
def test_like_agrees_with_its_definition_whatever_the_alphabet(pattern, texts):
    matches, _ = compile_like(pattern)
    for text in texts:
        assert matches(text) is like(pattern, text)


@given(st.text(), st.sampled_from("!\\%_a'"))
def test_an_escaped_text_matches_itself_alone(text, escape):
    escaped = "".join(escape + one if one in ("%", "_", escape) else one for one in text)
    matches, _ = compile_like(escaped, escape)
    assert matches(text)
    assert not matches(text + "x")
    assert not matches("x" + text)


def steps(pattern: str, text: str) -> int:
    """How many lines of Python run to match a text."""
    matches, _ = compile_like(pattern)
    count = 0

    def trace(_frame: FrameType, event: str, _argument: Any) -> Any:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        matches(text)
    finally:
        sys.settrace(before)
    return count


LONG = [
    "%a" * 500 + "%b",
    "%a_" * 300 + "b",
    "%_" * 500 + "b",
    "%" + "a_" * 300 + "b%",
    "%" + "a" * 900 + "_b%",
]


@pytest.mark.parametrize("ending", ["", "%"])
@pytest.mark.parametrize("pattern", LONG)
def test_steps_are_in_proportion_to_the_pattern_whatever_the_text(pattern, ending):
    for text in ("a" * 100, "a" * 50_000, "ä" * 50_000, "ab" * 50_000, "€" * 50_000):
        assert steps(pattern + ending, text) < 25 * len(pattern) + 100


@pytest.mark.parametrize(
    ("pattern", "cost"),
    [
        ("a_c", 0),
        ("a_%_c", 0),
        ("%abc%", 4),
        ("a_%b%_c", 4),
        ("%a_c%", 6),
        ("%a_c%d%_ef%", 16),
        ("%a_%%", 5),
    ],
)
def test_the_cost_counts_what_is_looked_for_between_two_percents(pattern, cost):
    assert compile_like(pattern)[1] == cost
