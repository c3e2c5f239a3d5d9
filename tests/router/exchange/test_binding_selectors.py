"""The index of the selectors of an exchange, against selectors that are evaluated one by one."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leveret.protocol.amqp.table import Timestamp
from leveret.router.exchange.base import Binding
from leveret.router.exchange.binding_selectors import STEPS
from leveret.router.exchange.fanout import FanoutExchange
from leveret.router.turns.backlog import at_once
from tests.router.exchange.helpers import Queue, message
from tests.router.selector.helpers import compile_selector

NAMES = ("a", "b", "c")
LITERALS = ("1", "1.0", "0", "'x'", "'y'", "TRUE", "FALSE")
PLACES = (*NAMES, "t.a", "properties.type", "-a")
VALUES: list[Any] = [1, 1.0, 0, "x", "y", True, False, None, b"x", [1], {"a": 1}, {"a": "x"}, Timestamp(1)]

ATOMS = st.one_of(
    st.builds(
        "{} {} {}".format, st.sampled_from(PLACES), st.sampled_from(["=", "<>"]), st.sampled_from(LITERALS)
    ),
    st.builds("{} = {}".format, st.sampled_from(LITERALS), st.sampled_from(PLACES[:-1])),
    st.builds(
        lambda name, inside, items: f"{name} {inside} ({', '.join(items)})",
        st.sampled_from(PLACES[:-1]),
        st.sampled_from(["IN", "NOT IN"]),
        st.lists(st.sampled_from(LITERALS), min_size=1, max_size=3),
    ),
    st.sampled_from(
        ["a", "NOT b", "a IS NULL", "b IS NOT NULL", "a LIKE 'x%'", "a > 0", "a BETWEEN 0 AND 1"]
    ),
)
SELECTORS = st.recursive(
    ATOMS,
    lambda inner: (
        st.builds("({} {} {})".format, inner, st.sampled_from(["AND", "OR"]), inner)
        | inner.map("NOT ({})".format)
    ),
    max_leaves=5,
)
HEADERS = st.dictionaries(st.sampled_from([*NAMES, "t"]), st.sampled_from(VALUES))


def bound(selectors: list[str]) -> tuple[FanoutExchange, list[Binding]]:
    exchange = FanoutExchange("x")
    bindings = []
    for number, text in enumerate(selectors):
        arguments = {"x-selector": text, "number": number}
        binding = Binding(exchange, Queue(str(number)), "", arguments, compile_selector(text))
        assert exchange.add(binding)
        bindings.append(binding)
    return exchange, bindings


def found(exchange: FanoutExchange, headers: dict[str, Any], **properties: Any) -> list[str]:
    sent = message(headers, **properties)
    return [each.name for each in at_once(exchange.selectors.destinations(exchange.snapshot(), sent))]


def evaluated(bindings: list[Binding], headers: dict[str, Any], **properties: Any) -> list[str]:
    """The destinations of the bindings whose selectors accept the whole decoded message."""
    sent = message(headers, **properties)
    decoded = sent.properties
    return [
        each.destination.name
        for each in bindings
        if each.selector is not None and each.selector.accepts(decoded.headers or {}, decoded)
    ]


@given(st.lists(SELECTORS, max_size=12), HEADERS, st.sampled_from([None, "x", "z"]), st.data())
def test_index_finds_what_evaluation_of_each_selector_finds(
    selectors: list[str], headers: dict[str, Any], kind: str | None, data: st.DataObject
) -> None:
    exchange, bindings = bound(selectors)
    assert found(exchange, headers, type=kind) == evaluated(bindings, headers, type=kind)
    for binding in list(bindings):
        if data.draw(st.booleans()):
            exchange.remove(binding)
            bindings.remove(binding)
    assert found(exchange, headers, type=kind) == evaluated(bindings, headers, type=kind)


@given(st.lists(SELECTORS, max_size=12))
def test_nothing_is_left_of_removed_bindings(selectors: list[str]) -> None:
    exchange, bindings = bound(selectors)
    for binding in bindings:
        exchange.remove(binding)
    index = exchange.selectors
    assert (index.cost, index._indexed, index._others, index._names.children) == (0, {}, {}, {})


def test_only_selectors_that_can_be_true_are_evaluated(monkeypatch: pytest.MonkeyPatch) -> None:
    exchange, bindings = bound([f"tenant = {number} AND size > 10" for number in range(100)])
    seen = []
    selector = type(bindings[0].selector)
    monkeypatch.setattr(selector, "accepts", lambda self, headers, properties: seen.append(self.text) or True)
    assert found(exchange, {"tenant": 7, "size": 5}) == ["7"]
    assert seen == ["tenant = 7 AND size > 10"]


def test_many_bindings_are_checked_in_several_slices() -> None:
    exchange, _ = bound([f"a <> {number}" for number in range(STEPS)])
    slices = exchange.selectors.destinations(exchange.snapshot(), message({"a": -1}))
    assert sum(1 for _ in slices) >= 3
