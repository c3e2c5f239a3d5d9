"""Regular expressions for permissions and policies."""

import re
import subprocess
import sys
from itertools import count
from time import thread_time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from leveret.router.values.patterns import ALLOWANCE, SLOW, PatternError, compile_pattern, is_quick


@pytest.mark.parametrize(
    ("pattern", "matching", "other"),
    [
        ("", ["", "a"], []),
        (".*", ["", "a", "a\nb"], []),
        ("^.*$", ["", "a"], []),
        ("^$", [""], ["a"]),
        ("b", ["b", "abc"], ["", "a"]),
        ("^amq\\.", ["amq.topic"], ["x.amq.topic", "amqx"]),
        ("^(a|b)$", ["a", "b"], ["ab", "c"]),
        ("(?i)^abc", ["ABCD"], ["xabc"]),
        ("^[[:alpha:]]+$", ["abc"], ["a1"]),
        ("^(?!amq\\.).*", ["a", "xamq.y"], ["amq.y"]),
        ("^(a+)-\\1$", ["aa-aa"], ["aa-a"]),
        ("^a++b$", ["aab"], ["b"]),
        ("^ü.$", ["üb"], ["ub"]),
        ("^a.$", ["ab", "aü"], ["a"]),
    ],
)
def test_pattern_is_searched_for(pattern, matching, other):
    matches = compile_pattern(pattern)
    assert [name for name in matching if not matches(name)] == []
    assert [name for name in other if matches(name)] == []


@pytest.mark.parametrize("pattern", ["a", "^(?!b)"])
def test_names_that_are_not_utf8_are_matched_as_well(pattern):
    assert compile_pattern(pattern)("a\udcff")


@pytest.mark.parametrize("pattern", ["a", "^(?!b)"])
def test_longer_than_a_short_string_never_matches(pattern):
    matches = compile_pattern(pattern)
    assert matches("a" * 255)
    assert not matches("a" * 256)
    assert not matches("a" + "ü" * 128)


@pytest.mark.parametrize("pattern", ["(", "a**", "[", "a\\", "(?<n"])
def test_invalid_pattern_is_refused_with_a_reason(pattern):
    with pytest.raises(PatternError, match=f"^regular expression '{re.escape(pattern)}' is invalid: "):
        compile_pattern(pattern)


@pytest.mark.parametrize(
    ("pattern", "matching", "other"),
    [
        ("^(?!amq\\.).*", ["a", "xamq.y", ""], ["amq.y", "amq."]),
        ("^(?!amq\\.|mqtt-)", ["a", "mqtt"], ["amq.y", "mqtt-1"]),
        ("^(?!a)(?!b).+$", ["c", "ca"], ["a", "b", "bc", ""]),
        ("^(?!(a|b)c).*d$", ["ad", "d"], ["acd", "bcd", "a"]),
        ("^(?![)a]x).", ["a", ")", "bx"], [")x", "ax", ""]),
        ("^(?!\\))a*$", ["a", ""], [")"]),
        ("^(?![]x]).", ["a"], ["]", "x"]),
        ("^(?!a$).*", ["ab", ""], ["a"]),
    ],
)
def test_what_must_not_come_first_takes_linear_time(pattern, matching, other):
    for linear in (True, False):
        matches = compile_pattern(pattern, linear=linear)
        assert [name for name in matching if not matches(name)] == []
        assert [name for name in other if matches(name)] == []


@pytest.mark.parametrize(
    "pattern",
    ["^(a+)-\\1$", "^(?=a)", "(?<!a)b", "^(?!a)b|c", "a(?!b)", "^(?!(?=a)b).*", "^(?!a)(?>b)"],
)
def test_what_takes_more_than_linear_time_is_refused_where_that_is_asked(pattern):
    compile_pattern(pattern)
    with pytest.raises(PatternError, match="only what RE2 can match is quick enough"):
        compile_pattern(pattern, linear=True)


def test_alternatives_behind_a_negation_are_alternatives_to_it():
    matches = compile_pattern("^(?!a)b|c")
    assert [name for name in ("b", "ab", "ac", "xc", "x") if matches(name)] == ["b", "ac", "xc"]


@given(st.text("ab)|", max_size=4), st.text("ab", max_size=6))
def test_negations_mean_what_backtracking_finds(unwanted, name):
    pattern = f"^(?!{re.escape(unwanted)}|ba)a*"
    assert compile_pattern(pattern)(name) == (re.search(pattern, name) is not None)


def test_a_pattern_that_takes_too_long_is_given_up():
    matches = compile_pattern("^(?=a)(a|aa)+$")
    assert matches("aa")
    with capture_logs() as logs:
        names = ["a" * 200 + "b" + str(number) for number in range(200)]
        assert not any(map(matches, names))
        assert 1 < len(logs) < len(names) // 2
        assert not matches("aa")  # though it does
    assert {line["event"] for line in logs} == {"pattern is too slow"}
    assert [line["result"] for line in logs[-2:]] == [
        "counted as no match",
        "the pattern matches nothing from now on",
    ]


def test_a_pattern_that_takes_almost_too_long_for_each_name_is_given_up(monkeypatch):
    matches = compile_pattern("^(?=a)a+$")
    clock = count(0, 2 * SLOW)
    monkeypatch.setattr("leveret.router.values.patterns.thread_time", lambda: next(clock))
    with capture_logs() as logs:
        found = [matches("a") for _ in range(1000)]
    allowed = found.count(True)
    assert allowed == pytest.approx(ALLOWANCE / (2 * SLOW), abs=1)
    assert not any(found[allowed:])
    assert [line["result"] for line in logs] == ["the pattern matches nothing from now on"]


def test_quick_names_never_use_up_the_allowance(monkeypatch):
    matches = compile_pattern("^(?=a)a+$")
    clock = count(0, SLOW / 2)
    monkeypatch.setattr("leveret.router.values.patterns.thread_time", lambda: next(clock))
    assert all(matches("a") for _ in range(1000))


@pytest.mark.parametrize(
    ("pattern", "name"), [("(a|b|c|d)?" * 1000, "abcd" * 63), ("(a|aa|aaa|.a){1,900}$", "a" * 255)]
)
def test_groups_and_states_of_a_pattern_have_a_bound(pattern, name):
    matches = compile_pattern(pattern)
    began = thread_time()
    matches(name)
    assert thread_time() - began < 0.025  # it was ten times that; most take 4 ms


@pytest.mark.parametrize(
    ("pattern", "quick"),
    [
        (".*", True),
        ("^shop\\.", True),
        ("^shop.orders$", True),
        ("^shop\\..*", True),
        ("^shop\\..*$", True),
        ("orders", True),
        ("", True),
        ("a.b", False),  # "a" followed by many dots has exponentially many states
        ("^a.*b", False),
        ("^team\\.[a-z]+\\.(events|commands)$", False),
        ("^(?!amq\\.).*", False),
        ("^(?=a)a", False),
        ("a{500}", False),
        ("a" * 500, False),
        ("^(?!a{500}).*", False),
    ],
)
def test_only_literal_patterns_are_quick(pattern, quick):
    assert is_quick(compile_pattern(pattern)) == quick


def test_a_pattern_has_an_end():
    with pytest.raises(PatternError, match="longer than 10000 characters"):
        compile_pattern("a" * 10_001)


def test_nested_quantifiers_take_linear_time():
    assert not compile_pattern("^(a+)+$")("a" * 254 + "b")


@given(prefix=st.text("ab.-", max_size=4), name=st.text("ab.-", max_size=8))
def test_literal_prefix(prefix, name):
    assert compile_pattern("^" + re.escape(prefix))(name) == name.startswith(prefix)


@pytest.mark.process
def test_common_patterns_do_not_load_re2():
    program = (
        "import sys, leveret.router.values.patterns as p; "
        "p.compile_pattern('.*'); p.compile_pattern('^$'); sys.exit('re2' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False, timeout=30).returncode == 0
