"""Regular expressions for permissions and policies."""

import re
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.patterns import PatternError, compile_pattern


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


def test_nested_quantifiers_take_linear_time():
    assert not compile_pattern("^(a+)+$")("a" * 254 + "b")


@given(prefix=st.text("ab.-", max_size=4), name=st.text("ab.-", max_size=8))
def test_literal_prefix(prefix, name):
    assert compile_pattern("^" + re.escape(prefix))(name) == name.startswith(prefix)


def test_common_patterns_do_not_load_re2():
    program = (
        "import sys, router.patterns as p; "
        "p.compile_pattern('.*'); p.compile_pattern('^$'); sys.exit('re2' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False, timeout=30).returncode == 0
