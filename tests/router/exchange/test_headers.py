"""The headers exchange: what counts, what is equal, what is refused."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leveret.protocol.amqp.table import Timestamp
from leveret.protocol.errors import PreconditionFailed
from leveret.router.exchange.headers import HeadersExchange, Pattern
from tests.router.exchange.helpers import bind, matched

VALUES: dict[str, Any] = {
    "int 1": 1,
    "float 1": 1.0,
    "timestamp 1": Timestamp(1),
    "true": True,
    "false": False,
    "int 0": 0,
    "string 1": "1",
    "binary 1": b"1",
    "decimal 1": Decimal("1"),
    "decimal 1.0": Decimal("1.0"),
    "string undefined": "undefined",
    "string true": "true",
    "empty string": "",
    "array int 1": [1],
    "array float 1": [1.0],
    "array string 1": ["1"],
    "array binary 1": [b"1"],
    "empty array": [],
    "empty table": {},
    "table a 1": {"a": 1},
    "table a true": {"a": True},
    "table a 1 b 2": {"a": 1, "b": 2},
    "table b 2 a 1": {"b": 2, "a": 1},
}
# What a RabbitMQ 3.10 node found equal; every other value is equal to itself alone.
EQUAL = [{"int 1", "float 1", "timestamp 1"}, {"string 1", "binary 1"}, {"empty array", "empty table"}]


@pytest.mark.parametrize("name", VALUES)
def test_values_are_equal_as_in_rabbitmq(name: str) -> None:
    exchange = HeadersExchange("x")
    for other, value in VALUES.items():
        bind(exchange, other, "", {"k": value})
    expected = next((group for group in EQUAL if name in group), {name})
    assert matched(exchange, "", {"k": VALUES[name]}) == sorted(expected)


@pytest.mark.parametrize("value", [*VALUES.values(), None])
def test_void_argument_asks_for_presence_alone(value: Any) -> None:
    exchange = HeadersExchange("x")
    bind(exchange, "q", "", {"k": None})
    assert matched(exchange, "", {"k": value}) == ["q"]
    assert matched(exchange, "", {"other": value}) == []


def test_void_header_is_equal_to_no_value() -> None:
    exchange = HeadersExchange("x")
    for name, value in VALUES.items():
        bind(exchange, name, "", {"k": value})
    assert matched(exchange, "", {"k": None}) == []


@pytest.mark.parametrize(
    ("arguments", "headers", "matches"),
    [
        ({}, {}, True),
        ({}, {"a": 1}, True),
        ({"x-match": "all"}, {}, True),
        ({"x-match": "any"}, {}, False),
        ({"x-match": "any"}, {"a": 1}, False),
        ({"x-match": "all-with-x"}, {}, True),
        ({"x-match": "any-with-x"}, {"a": 1}, False),
        ({"a": 1, "b": 2}, {"a": 1}, False),
        ({"a": 1, "b": 2}, {"a": 1, "b": 3}, False),
        ({"a": 1, "b": 2}, {"a": 1, "b": 2, "c": 3}, True),
        ({"x-match": "any", "a": 1, "b": 2}, {"b": 2}, True),
        ({"x-match": "any", "a": 1, "b": 2}, {"b": 3}, False),
        ({"x-match": "any", "a": 1, "b": 2}, {"a": 2, "b": 1}, False),
        ({"x-match": "any", "a": None, "b": 1}, {"a": 2}, True),
        ({"x-match": "any", "a": None, "b": 1}, {"b": 1}, True),
        ({"x-match": "any", "a": None, "b": 1}, {"b": 2}, False),
        ({"x-match": "all", "a": None, "b": 1}, {"a": 0, "b": 1}, True),
        ({"x-match": "all", "a": None, "b": 1}, {"b": 1}, False),
        ({"x-match": "all", "x-a": 1}, {}, True),
        ({"x-match": "all", "x-a": 1, "b": 1}, {"b": 1}, True),
        ({"x-a": 1, "b": 1}, {"b": 1}, True),
        ({"x-": 1}, {}, True),
        ({"x": 1}, {}, False),
        ({"X-a": 1}, {}, False),
        ({"x-match": "any", "x-a": 1}, {"x-a": 1}, False),
        ({"x-match": "any", "x-a": 1, "b": 1}, {"x-a": 1}, False),
        ({"x-match": "all-with-x", "x-a": 1}, {}, False),
        ({"x-match": "all-with-x", "x-a": 1}, {"x-a": 1}, True),
        ({"x-match": "any-with-x", "x-a": 1}, {"x-a": 1}, True),
        ({"x-match": "any-with-x", "x-a": 1, "b": 1}, {"b": 1}, True),
        ({"x-match": "all-with-x"}, {"x-match": "any"}, True),
        ({"x-match": "any-with-x"}, {"x-match": "any-with-x"}, False),
    ],
)
def test_match_modes(arguments: dict[str, Any], headers: dict[str, Any], matches: bool) -> None:
    exchange = HeadersExchange("x")
    exchange.check_binding("", arguments)
    bind(exchange, "q", "", arguments)
    assert bool(matched(exchange, "any.key", headers)) is matches


@pytest.mark.parametrize("mode", ["all-with-x", "any-with-x"])
def test_selector_is_no_header_even_where_x_arguments_count(mode: str) -> None:
    exchange = HeadersExchange("x")
    bind(exchange, "q", "", {"x-match": mode, "x-selector": "size > 5", "x-a": 1})
    assert matched(exchange, "", {"x-a": 1}) == ["q"]
    assert matched(exchange, "", {"x-selector": "size > 5"}) == []


scalars: st.SearchStrategy[Any] = st.sampled_from([0, 1, True, False, 1.0, "1", b"1", None, [1], {}])
tables = st.dictionaries(st.sampled_from(["a", "b", "x-c"]), scalars)


@given(tables, tables, st.sampled_from(["all", "any", "all-with-x", "any-with-x"]))
def test_modes_are_all_and_any_of_the_single_arguments(
    arguments: dict[str, Any], headers: dict[str, Any], mode: str
) -> None:
    def meets(given_arguments: dict[str, Any]) -> bool:
        exchange = HeadersExchange("x")
        bind(exchange, "q", "", given_arguments)
        return bool(matched(exchange, "", headers))

    counting = [name for name in arguments if mode.endswith("with-x") or not name.startswith("x-")]
    single = [meets({"x-match": "all-with-x", name: arguments[name]}) for name in counting]
    whole = meets({**arguments, "x-match": mode})
    assert whole is (all(single) if mode.startswith("all") else any(single))


modes = st.sampled_from(["all", "any", "all-with-x", "any-with-x"])


@given(st.lists(st.tuples(tables, modes, st.booleans()), max_size=12), tables)
def test_many_bindings_match_like_each_by_itself(
    bindings: list[tuple[dict[str, Any], str, bool]], headers: dict[str, Any]
) -> None:
    exchange, expected = HeadersExchange("x"), []
    for number, (arguments, mode, stays) in enumerate(bindings):
        alone = HeadersExchange("y")
        binding = bind(exchange, f"q{number}", "", {**arguments, "x-match": mode})
        bind(alone, f"q{number}", "", {**arguments, "x-match": mode})
        if stays:
            expected += matched(alone, "", headers)
        else:
            exchange.remove(binding)
    assert matched(exchange, "", headers) == sorted(expected)
    for binding in exchange.snapshot():
        exchange.remove(binding)
    assert (exchange._by_key, exchange._keys, exchange._always) == ({}, {}, {})


def test_a_message_is_compared_only_with_bindings_that_share_a_rare_header(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    exchange = HeadersExchange("x")
    for number in range(2000):
        bind(exchange, f"q{number}", "", {"type": "order", "format": "pdf", "customer": number})
    compared = []
    met_by = Pattern.met_by
    monkeypatch.setattr(
        Pattern, "met_by", lambda self, *arguments: compared.append(self) or met_by(self, *arguments)
    )
    assert matched(exchange, "", {"type": "order", "format": "pdf", "customer": 7}) == ["q7"]
    assert len(compared) <= 3


@pytest.mark.parametrize(
    ("mode", "text"),
    [
        ("foo", 'value <<"foo">>; expected all, any, all-with-x, or any-with-x'),
        ("", "value <<>>; expected all, any, all-with-x, or any-with-x"),
        ("ALL", 'value <<"ALL">>; expected all, any, all-with-x, or any-with-x'),
        (1, "type signedint (value 1); expected longstr"),
        (2**40, "type long (value 1099511627776); expected longstr"),
        (True, "type bool (value true); expected longstr"),
        (None, "type void (value undefined); expected longstr"),
        (b"all", 'type binary (value <<"all">>); expected longstr'),
        ([1, "a"], 'type array (value [{signedint,1},{longstr,<<"a">>}]); expected longstr'),
        ({}, "type table (value []); expected longstr"),
    ],
)
def test_invalid_mode_is_refused_with_rabbitmqs_text(mode: Any, text: str) -> None:
    with pytest.raises(PreconditionFailed) as refused:
        HeadersExchange("x").check_binding("", {"x-match": mode})
    assert str(refused.value) == f"PRECONDITION_FAILED - Invalid x-match field {text}"
