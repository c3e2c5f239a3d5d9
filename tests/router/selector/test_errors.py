"""Invalid selectors: the texts and positions of their errors."""

import subprocess
import sys

import pytest

from leveret.router.selector import SelectorError
from leveret.router.selector.expression import MAX_DEPTH, MAX_OPERANDS
from leveret.router.selector.parser import MAX_LENGTH
from tests.router.selector.helpers import compile_selector, matches


def refused(selector: str) -> SelectorError:
    with pytest.raises(SelectorError) as caught:
        compile_selector(selector)
    return caught.value


@pytest.mark.parametrize(
    ("selector", "column", "message"),
    [
        ("", 1, "expected a name, a literal or '(', found the end"),
        ("   ", 4, "expected a name, a literal or '(', found the end"),
        ("a =", 4, "expected a name, a literal or '(', found the end"),
        ("a = 1 AND", 10, "expected a name, a literal or '(', found the end"),
        ("a = = 1", 5, "expected a name, a literal or '(', found '='"),
        ("a = NULL", 5, "expected a name, a literal or '(', found the keyword 'NULL'"),
        ("in = 3", 1, "expected a name, a literal or '(', found the keyword 'in'"),
        ("a OR\nOR b", 6, "expected a name, a literal or '(', found the keyword 'OR'"),
        ("()", 2, "expected a name, a literal or '(', found ')'"),
        ("a b", 3, "expected a comparison, AND, OR or the end, found 'b'"),
        ("a = 1 b", 7, "expected AND, OR or the end, found 'b'"),
        ("a = 'x' 'y'", 9, "expected AND, OR or the end, found 'y'"),
        ('a = 1 "b c"', 7, 'expected AND, OR or the end, found "b c"'),
        ("a = b = c", 7, "expected AND, OR or the end, found '='"),
        ("(a = 1", 7, "expected ')', found the end"),
        ("(a = 1 b", 8, "expected AND, OR or ')', found 'b'"),
        ("a = 1)", 6, "expected the end, found ')'"),
        ("a NOT = 1", 7, "expected BETWEEN, IN or LIKE, found '='"),
        ("a IS", 5, "expected NOT or NULL, found the end"),
        ("a IS NOT 1", 10, "expected NULL, found '1'"),
        ("a + 1 IS NULL", 7, "expected a comparison, AND, OR or the end, found the keyword 'IS'"),
        ("a BETWEEN 1", 12, "expected AND, found the end"),
        ("a IN 1", 6, "expected '(', found '1'"),
        ("a IN ()", 7, "expected a name, a literal or '(', found ')'"),
        ("a IN ('x' 'y')", 11, "expected ',' or ')', found 'y'"),
        ("a IN (b)", 7, "IN takes literals only"),
        ("a IN (1, 1 + 1)", 12, "expected ',' or ')', found '+'"),
        ("a LIKE b", 8, "expected a string literal, found 'b'"),
        ("a LIKE 'x' ESCAPE", 18, "expected a string literal, found the end"),
        ("a LIKE 'x' ESCAPE '!!'", 19, "ESCAPE takes a single character"),
        ("a LIKE 'x' ESCAPE ''", 19, "ESCAPE takes a single character"),
        ("a LIKE 'x!' ESCAPE '!'", 20, "the escape character must stand before %, _ or itself"),
        ("a LIKE '!x' ESCAPE '!'", 20, "the escape character must stand before %, _ or itself"),
        ("a == 1", 3, "expected '=', found '=='"),
        ("a != 1", 3, "expected '<>', found '!='"),
        ("a = 'x", 5, "this string is not closed: 'x"),
        ("a = 'x''", 5, "this string is not closed: 'x''"),
        ('"a = 1', 1, 'this quoted name is not closed: "a = 1'),
        ("a = 089", 5, "'089' is neither a name nor a number"),
        ("a = 1.2.3", 5, "'1.2.3' is neither a name nor a number"),
        ("a = 0x", 5, "'0x' is neither a name nor a number"),
        ("a = 5kg", 5, "'5kg' is neither a name nor a number"),
        ("a = .", 5, "unexpected character '.'"),
        ("a. = 1", 2, "unexpected character '.'"),
        ("a = 1;", 6, "unexpected character ';'"),
        ("a = \x00", 5, "unexpected character '\\x00'"),
        ("a = \udcff", 5, "unexpected character '\\udcff'"),
        ("a = '\n\udcff", 5, "this string is not closed: '??"),
        ("a = 9223372036854775809", 5, "an integer must fit into 64 bits"),
        ("a = 0x8000000000000001", 5, "an integer must fit into 64 bits"),
        ("a = -9223372036854775809", 6, "an integer must fit into 64 bits"),
        (f"a = {'9' * 4000}", 5, "an integer must fit into 64 bits"),
        ("a = 1e309", 5, "a number must fit into a double"),
        ("properties.prio = 1", 12, "there is no property 'prio'"),
        ("a = 1 AND properties.Type = 'x'", 22, "there is no property 'Type'"),
        ("properties.headers.a = 1", 12, "there is no property 'headers.a'"),
        ("properties.type.a = 1", 12, "there is no property 'type.a'"),
        (f"properties.{'x' * 500} = 1", 12, f"there is no property '{'x' * 24}...'"),
    ],
)
def test_message_and_column(selector, column, message):
    error = refused(selector)
    assert (error.message, error.column) == (message, column)
    assert str(error) == f"{message} at column {column}"


@pytest.mark.parametrize(
    ("selector", "column", "message"),
    [
        ("'x'", 1, "a selector takes a boolean, found a string"),
        ("a + 1", 1, "a selector takes a boolean, found a number"),
        ("properties.priority", 1, "a selector takes a boolean, found a number"),
        ("a AND 'x'", 7, "AND takes a boolean, found a string"),
        ("1 OR a", 1, "OR takes a boolean, found a number"),
        ("NOT -a", 5, "NOT takes a boolean, found a number"),
        ("a < 'x'", 5, "< takes a number, found a string"),
        ("TRUE >= a", 1, ">= takes a number, found a boolean"),
        ("a > (b = 1)", 6, "> takes a number, found a boolean"),
        ("properties.type < 5", 1, "< takes a number, found a string"),
        ("a + 'x' = 1", 5, "+ takes a number, found a string"),
        ("'x' - a = 1", 1, "- takes a number, found a string"),
        ("a = 2 * TRUE", 9, "* takes a number, found a boolean"),
        ("a = -'x'", 6, "- takes a number, found a string"),
        ("a = -TRUE", 6, "- takes a number, found a boolean"),
        ("a BETWEEN 'x' AND 'y'", 11, "BETWEEN takes a number, found a string"),
        ("5 LIKE '5'", 1, "LIKE takes a string, found a number"),
        ("properties.priority LIKE '5'", 1, "LIKE takes a string, found a number"),
    ],
)
def test_what_can_never_be_of_the_right_type_is_refused(selector, column, message):
    error = refused(selector)
    assert (error.message, error.column) == (message, column)


def test_a_message_shows_the_beginning_of_a_long_piece_only():
    error = refused(f"a {'ü' * 4000}")
    assert error.message == f"expected a comparison, AND, OR or the end, found '{'ü' * 24}...'"


def test_length():
    padded = "a = 1".ljust(MAX_LENGTH)
    assert matches(padded, {"a": 1})
    error = refused(padded + " ")
    assert (error.message, error.column) == ("a selector has at most 4096 characters", 4097)


def test_number_of_operands():
    items = ", ".join(["1"] * (MAX_OPERANDS - 1))
    assert matches(f"a IN ({items})", {"a": 1})
    assert matches("a OR " * (MAX_OPERANDS - 1) + "a", {"a": True})
    assert matches("a" + " + a" * (MAX_OPERANDS - 2) + " > 1", {"a": 1})
    for selector in (f"a IN ({items}, 1)", "a OR " * MAX_OPERANDS + "a", "a" + "+a" * MAX_OPERANDS + "=1"):
        assert refused(selector).message == "there are more than 500 names and literals"


# How to nest operators so many deep; each is TRUE of a = TRUE, n = 1, at an even depth.
DEPTHS = {
    "NOT": lambda depth: "NOT " * depth + "a",
    "signs": lambda depth: "0 <> " + "- " * (depth - 1) + "n",
    "sums": lambda depth: "0 < " + "(1 + " * (depth - 1) + "n" + ")" * (depth - 1),
    "AND in OR": lambda depth: "(b OR a AND " * (depth // 2) + "a" + ")" * (depth // 2),
    "comparisons": lambda depth: "(" * depth + "a" + " = TRUE)" * depth,
}


@pytest.mark.parametrize("nested", DEPTHS.values(), ids=DEPTHS)
def test_depth(nested):
    assert matches(nested(MAX_DEPTH), {"a": True, "n": 1})
    assert refused(nested(MAX_DEPTH + 2)).message == "operators are nested more than 64 deep"


def test_needless_parentheses_do_not_count():
    assert matches("(" * 2000 + "a" + ")" * 2000, {"a": True})
    assert matches("((((" * 500 + "a = 1" + "))))" * 500, {"a": 1})


@pytest.mark.parametrize(
    "piece",
    ["(", "NOT ", "-", "- ", "a AND ", "a.", "'", '"', "''", "a IN (", "1+", "a=", ")", "0x", "%", "1"],
)
def test_nothing_within_the_length_exhausts_the_stack(piece):
    refused((piece * MAX_LENGTH)[: MAX_LENGTH - 1] + "(")


@pytest.mark.process
def test_lark_waits_for_the_first_selector():
    script = (
        "import sys, leveret.router.selector as s; assert 'lark' not in sys.modules;"
        "next(s.compile_in_slices('a'), None); assert 'lark' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
