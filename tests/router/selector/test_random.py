"""Random selectors against an evaluator that shares nothing with the compiler, and random text.

Here a condition is a tree of tuples; truth is 2, UNKNOWN 1, falsehood 0, so that AND is min and OR is max.
"""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leveret.protocol.amqp.properties import Properties
from leveret.protocol.amqp.table import Timestamp
from leveret.router.selector import SelectorError
from leveret.router.selector.parser import MAX_LENGTH
from tests.router.selector.helpers import FALSE, TRUE, UNKNOWN, compile_selector, verdict

NAMES = ("a", "b", "c", "d")
VERDICTS = {2: TRUE, 1: UNKNOWN, 0: FALSE}

integers = st.integers(-3, 3) | st.integers(-(2**63), 2**63 - 1)
floats = st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from([0.0, 0.5, 1.0, -2.0])
strings = st.text("ab'%", max_size=3)
values = (
    st.none()
    | st.booleans()
    | integers
    | floats
    | strings
    | st.builds(Timestamp, st.integers(0, 3))
    | st.builds(Decimal, st.sampled_from(["1", "0.5", "-2.0"]))
    | st.sampled_from([b"a", [1], {"a": 1}])
)
messages = st.dictionaries(st.sampled_from(NAMES), values)

# -- trees ---------------------------------------------------------------------------------------------------

names = st.tuples(st.just("name"), st.sampled_from(NAMES))
numbers = st.tuples(
    st.just("literal"), integers.filter(lambda one: one >= 0) | floats.filter(lambda one: one >= 0)
)
arithmetic = st.recursive(
    names | numbers,
    lambda part: (
        st.tuples(st.just("arithmetic"), st.sampled_from("+-*/"), part, part)
        | st.tuples(st.just("sign"), st.sampled_from("+-"), part)
    ),
    max_leaves=5,
)
literals = st.tuples(st.just("literal"), strings | st.booleans()) | numbers
signed = literals | st.tuples(st.just("sign"), st.just("-"), numbers)
predicates = (
    st.tuples(st.just("compare"), st.sampled_from(["<", "<=", ">", ">="]), arithmetic, arithmetic)
    | st.tuples(
        st.just("compare"), st.sampled_from(["=", "<>"]), arithmetic | literals, arithmetic | literals
    )
    | st.tuples(st.just("between"), st.booleans(), arithmetic, arithmetic, arithmetic)
    | st.tuples(st.just("in"), st.booleans(), arithmetic | literals, st.lists(signed, min_size=1, max_size=4))
    | st.tuples(st.just("prefix"), st.booleans(), names, st.text("ab'", max_size=2))
    | st.tuples(st.just("null"), st.booleans(), names)
    | names
    | st.tuples(st.just("literal"), st.booleans())
)
conditions = st.recursive(
    predicates,
    lambda part: st.tuples(st.sampled_from(["AND", "OR"]), part, part) | st.tuples(st.just("NOT"), part),
    max_leaves=8,
)

# -- as text, with no parenthesis too many -------------------------------------------------------------------

OR, AND, NOT, PREDICATE, SUM, PRODUCT, SIGN, PRIMARY = range(8)


def written(tree: Any) -> tuple[str, int]:  # noqa: PLR0911, PLR0912  # an arm for each kind of tree
    """A tree as text, and how tightly its operator binds."""
    match tree:
        case ("name", name):
            return name, PRIMARY
        case ("literal", bool(value)):
            return str(value), PRIMARY
        case ("literal", str(value)):
            doubled = value.replace("'", "''")
            return f"'{doubled}'", PRIMARY
        case ("literal", value):
            return repr(value), PRIMARY
        case ("sign", sign, part):
            return f"{sign}{inside(part, SIGN)}", SIGN
        case ("arithmetic", symbol, left, right):
            level = SUM if symbol in "+-" else PRODUCT
            return f"{inside(left, level)} {symbol} {inside(right, level + 1)}", level
        case ("compare", symbol, left, right):
            return f"{inside(left, SUM)} {symbol} {inside(right, SUM)}", PREDICATE
        case ("between", positive, value, low, high):
            word = "BETWEEN" if positive else "NOT BETWEEN"
            return f"{inside(value, SUM)} {word} {inside(low, SUM)} AND {inside(high, SUM)}", PREDICATE
        case ("in", positive, value, items):
            word = "IN" if positive else "NOT IN"
            return f"{inside(value, SUM)} {word} ({', '.join(inside(one, SIGN) for one in items)})", PREDICATE
        case ("prefix", positive, value, text):
            word, doubled = "LIKE" if positive else "NOT LIKE", text.replace("'", "''")
            return f"{inside(value, SUM)} {word} '{doubled}%'", PREDICATE
        case ("null", positive, name):
            return f"{inside(name, SUM)} IS {'' if positive else 'NOT '}NULL", PREDICATE
        case ("NOT", part):
            return f"NOT {inside(part, NOT)}", NOT
        case ("AND", left, right):
            return f"{inside(left, AND)} AND {inside(right, NOT)}", AND
        case ("OR", left, right):
            return f"{inside(left, OR)} OR {inside(right, AND)}", OR
    raise AssertionError(tree)


def inside(tree: Any, level: int) -> str:
    text, own = written(tree)
    return text if own >= level else f"({text})"


# -- what it means -------------------------------------------------------------------------------------------


def truth(value: bool) -> int:
    return 2 if value else 0


def kind(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    return "number" if isinstance(value, int | float) else "string" if isinstance(value, str) else "other"


def value_of(tree: Any, headers: dict[str, Any]) -> Any:
    """A number, string, boolean or something else; None for NULL."""
    match tree:
        case ("name", name):
            value = headers.get(name)
            return float(value) if isinstance(value, Decimal) else value
        case ("literal", value):
            return value
        case ("sign", sign, part):
            return calculated("-" if sign == "-" else "+", 0, value_of(part, headers))
        case ("arithmetic", symbol, left, right):
            return calculated(symbol, value_of(left, headers), value_of(right, headers))
    raise AssertionError(tree)


def calculated(symbol: str, left: Any, right: Any) -> Any:
    if kind(left) != "number" or kind(right) != "number" or (symbol == "/" and right == 0):
        return None
    if symbol == "/" and isinstance(left, int) and isinstance(right, int):
        result: Any = (abs(left) - abs(left) % abs(right)) // abs(right)
        result = -result if (left < 0) != (right < 0) else result
    else:
        result = {
            "+": lambda: left + right,
            "-": lambda: left - right,
            "*": lambda: left * right,
            "/": lambda: left / right,
        }[symbol]()
    return None if isinstance(result, int) and not -(2**63) <= result < 2**63 else result


def compared(symbol: str, left: Any, right: Any) -> int:
    if left is None or right is None:
        return 1
    if kind(left) != kind(right) or kind(left) == "other":
        return 0
    if symbol in ("=", "<>"):
        return truth((left == right) is (symbol == "="))
    if kind(left) != "number":
        return 0
    return truth(
        (symbol[0] == "<" and left < right)
        or (symbol[0] == ">" and left > right)
        or (symbol.endswith("=") and left == right)
    )


def meaning(tree: Any, headers: dict[str, Any]) -> int:  # noqa: PLR0911  # likewise
    match tree:
        case ("AND", left, right):
            return min(meaning(left, headers), meaning(right, headers))
        case ("OR", left, right):
            return max(meaning(left, headers), meaning(right, headers))
        case ("NOT", part):
            return 2 - meaning(part, headers)
        case ("compare", symbol, left, right):
            return compared(symbol, value_of(left, headers), value_of(right, headers))
        case ("between", True, value, low, high):
            return meaning(("AND", ("compare", ">=", value, low), ("compare", "<=", value, high)), headers)
        case ("between", False, value, low, high):
            return meaning(("OR", ("compare", "<", value, low), ("compare", ">", value, high)), headers)
        case ("in", False, value, items):
            return 2 - meaning(("in", True, value, items), headers)
        case ("in", True, value, items):
            return max(meaning(("compare", "=", value, item), headers) for item in items)
        case ("prefix", False, value, text):
            return 2 - meaning(("prefix", True, value, text), headers)
        case ("prefix", True, value, text):
            found = value_of(value, headers)
            return 1 if found is None else truth(isinstance(found, str) and found.startswith(text))
        case ("null", positive, name):
            return truth((value_of(name, headers) is None) is positive)
        case _:
            found = value_of(tree, headers)
            return truth(found) if isinstance(found, bool) else 1


@pytest.mark.slow
@settings(max_examples=600)
@given(conditions, st.lists(messages, min_size=1, max_size=4))
def test_a_selector_means_what_its_parts_mean(tree, several):
    text, _level = written(tree)
    for headers in several:
        assert verdict(text, headers) is VERDICTS[meaning(tree, headers)]


PIECES = (
    *(
        "a",
        "b.c",
        '"x-y"',
        "properties.priority",
        "properties.type",
        "properties.x",
        "$",
        "1",
        "0x1F",
        "017",
        "089",
    ),
    *(
        "1.5",
        "7.",
        ".5",
        "1e3",
        "1e999",
        "'s'",
        "''",
        "'it''s'",
        "'",
        '"',
        "TRUE",
        "FALSE",
        "NULL",
        "AND",
        "or",
    ),
    *(
        "Not",
        "IN",
        "LIKE",
        "ESCAPE",
        "IS",
        "BETWEEN",
        "=",
        "<>",
        "<",
        ">=",
        "!=",
        "==",
        "+",
        "-",
        "*",
        "/",
        "%",
    ),
    *("(", ")", ",", ".", ";", "\n", "\x00", "😀", "\udcff"),
)


@pytest.mark.slow
@settings(max_examples=500)
@given(st.text(max_size=60) | st.lists(st.sampled_from(PIECES), max_size=25).map(" ".join), messages)
def test_any_text_is_a_selector_or_a_selector_error(text, headers):
    try:
        selector = compile_selector(text)
    except SelectorError as error:
        assert 1 <= error.column <= min(len(text), MAX_LENGTH) + 1  # noqa: PT017  # a property of any error
        assert len(str(error).encode()) < 200  # noqa: PT017
    else:
        assert selector.accepts(headers, Properties()) in (True, False)
