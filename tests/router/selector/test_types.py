"""Three-valued logic, and what compares with what (JMS 2.0, section 3.8.1)."""

from decimal import Decimal

import pytest

from leveret.protocol.amqp.table import Timestamp
from tests.router.selector.helpers import FALSE, TRUE, UNKNOWN, verdict

WORDS = {TRUE: "TRUE", FALSE: "FALSE", UNKNOWN: "(missing = 1)"}


@pytest.mark.parametrize(
    ("left", "right", "both", "either"),
    [
        (TRUE, TRUE, TRUE, TRUE),
        (TRUE, FALSE, FALSE, TRUE),
        (TRUE, UNKNOWN, UNKNOWN, TRUE),
        (FALSE, TRUE, FALSE, TRUE),
        (FALSE, FALSE, FALSE, FALSE),
        (FALSE, UNKNOWN, FALSE, UNKNOWN),
        (UNKNOWN, TRUE, UNKNOWN, TRUE),
        (UNKNOWN, FALSE, FALSE, UNKNOWN),
        (UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN),
    ],
)
def test_truth_tables_of_and_and_or(left, right, both, either):
    assert verdict(f"{WORDS[left]} AND {WORDS[right]}") is both
    assert verdict(f"{WORDS[left]} OR {WORDS[right]}") is either
    headers = {name: value for name, value in (("a", left), ("b", right)) if value is not UNKNOWN}
    assert verdict("a AND b", headers) is both
    assert verdict("a OR b", headers) is either


@pytest.mark.parametrize(("value", "opposite"), [(TRUE, FALSE), (FALSE, TRUE), (UNKNOWN, UNKNOWN)])
def test_truth_table_of_not(value, opposite):
    assert verdict(f"NOT {WORDS[value]}") is opposite


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("TRUE AND missing AND FALSE", FALSE),
        ("FALSE OR missing OR TRUE", TRUE),
        ("TRUE AND missing AND TRUE", UNKNOWN),
        ("FALSE OR missing OR FALSE", UNKNOWN),
    ],
)
def test_longer_chains(condition, expected):
    assert verdict(condition) is expected


@pytest.mark.parametrize("value", ["yes", 1, 0, 1.0, [], {}, b"", None])
def test_a_header_that_is_no_boolean_is_an_unknown_condition(value):
    assert verdict("value", {"value": value}) is UNKNOWN
    assert verdict("value OR FALSE", {"value": value}) is UNKNOWN


VALUES = {
    "string": ["1", "true", ""],
    "number": [1, 0, 1.0, Decimal("1.0"), Timestamp(1)],
    "boolean": [True, False],
    "other": [b"1", [1], {"1": 1}],
}
PAIRS = [
    (one, other)
    for kind, ones in VALUES.items()
    for another, others in VALUES.items()
    for one in ones
    for other in others
    if kind != another or kind == "other"
]


@pytest.mark.parametrize(("one", "other"), PAIRS, ids=repr)
def test_values_that_are_not_alike_never_compare(one, other):
    for operator in ("=", "<>", "<", "<=", ">", ">="):
        assert verdict(f"a {operator} b", {"a": one, "b": other}) is FALSE


@pytest.mark.parametrize("operator", ["=", "<>", "<", "<=", ">", ">="])
@pytest.mark.parametrize("value", [1, "a", True, [1], None])
def test_nothing_compares_with_null(operator, value):
    assert verdict(f"a {operator} b", {"a": value}) is UNKNOWN
    assert verdict(f"b {operator} a", {"a": value}) is UNKNOWN


@pytest.mark.parametrize(("one", "other"), [("a", "b"), (True, False)])
def test_strings_and_booleans_have_no_order(one, other):
    for operator in ("<", "<=", ">", ">="):
        assert verdict(f"a {operator} b", {"a": one, "b": other}) is FALSE
        assert verdict(f"b {operator} a", {"a": one, "b": other}) is FALSE


@pytest.mark.parametrize(
    ("literal", "value", "expected"),
    [
        ("1", "1", FALSE),
        ("'1'", 1, FALSE),
        ("1", True, FALSE),
        ("0", False, FALSE),
        ("TRUE", 1, FALSE),
        ("TRUE", "TRUE", FALSE),
        ("'a'", b"a", FALSE),
        ("1", None, UNKNOWN),
    ],
)
def test_a_literal_and_a_header_that_are_not_alike(literal, value, expected):
    for condition in (f"a = {literal}", f"a <> {literal}", f"{literal} = a"):
        assert verdict(condition, {"a": value}) is expected


@pytest.mark.parametrize(
    ("condition", "value"),
    [
        ("a = 1", 1.0),
        ("a = 1.0", 1),
        ("a = 0.1", Decimal("0.1")),
        ("a > 1 AND a < 2", Decimal("1.5")),
        ("a + 1 = 2.5", Decimal("1.5")),
        ("a IN (0.1)", Decimal("0.1")),
        ("a = 1700000000", Timestamp(1700000000)),
        ("a - 1 = 1699999999", Timestamp(1700000000)),
        ("a BETWEEN 1 AND 3", Timestamp(2)),
        ("a > 9223372036854775807", Timestamp(2**64 - 1)),
        ("a <> a", float("nan")),
        ("a > 1e308", float("inf")),
    ],
)
def test_numbers_compare_whatever_their_type(condition, value):
    assert verdict(condition, {"a": value}) is TRUE


def test_integers_compare_exactly_with_floats():
    assert verdict("a = 9007199254740993", {"a": float(2**53)}) is FALSE


def test_nested_headers_follow_the_same_rules():
    assert verdict("a.b = 0.5", {"a": {"b": Decimal("0.5")}}) is TRUE
    assert verdict("a.b = TRUE", {"a": {"b": 1}}) is FALSE


def test_the_timestamp_property_is_a_number_and_expiration_a_string():
    assert verdict("properties.timestamp > 5", timestamp=Timestamp(6)) is TRUE
    assert verdict("properties.expiration = '5'", expiration="5") is TRUE
    assert verdict("properties.expiration = 5", expiration="5") is FALSE
