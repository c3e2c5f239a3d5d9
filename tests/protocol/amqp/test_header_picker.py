"""Chosen headers read from raw bytes, against the decoding of whole tables."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leveret.protocol.amqp.content_frames import FLAGS_OFFSET
from leveret.protocol.amqp.header_picker import STEPS, HeaderNames, is_small
from leveret.protocol.amqp.message import Message, headers_at
from leveret.protocol.amqp.properties import Properties, decode_properties, decode_without_headers
from leveret.router.turns.backlog import at_once
from tests.protocol.amqp.strategies import PROPERTIES, TABLES, VALUES


def build(properties: Properties) -> Message:
    return Message.build("x", "k", properties, b"body")


def picked(message: Message, *paths: tuple[str, ...], whole: bool = False) -> dict[str, Any]:
    """The headers of these paths, which both ways of picking must find."""
    names = HeaderNames()
    for path in paths:
        names.add(path, whole=whole)
    found = names.pick(message)
    assert repr(at_once(names.pick_in_slices(message))) == repr(found)
    return found


@given(PROPERTIES, st.data())
def test_picked_headers_are_those_of_the_decoded_table(properties: Properties, data: st.DataObject) -> None:
    message = build(properties)
    headers = decode_properties(message.raw_properties, 0).headers or {}
    names = data.draw(st.lists(st.sampled_from([*headers, "absent"]), unique=True))
    found = picked(message, *((name,) for name in names), whole=True)
    assert repr(found) == repr({name: value for name, value in headers.items() if name in names})


@given(PROPERTIES)
def test_other_properties_are_decoded_without_headers(properties: Properties) -> None:
    message = build(properties)
    expected = decode_properties(message.raw_properties, 0)
    expected.headers = None
    assert decode_without_headers(message.frames, FLAGS_OFFSET) == expected


@given(TABLES, VALUES)
def test_entry_of_a_nested_table_is_picked_alone(table: dict[str, Any], value: Any) -> None:
    inner = {**table, "wanted": value}
    found = picked(build(Properties(headers={"outer": inner, "other": inner})), ("outer", "wanted"))
    expected = {} if isinstance(value, dict) else [] if isinstance(value, list) else value
    assert repr(found) == repr({"outer": {"wanted": expected}})


@pytest.mark.parametrize("path", [("a",), ("a", "b"), ("a", "b", "c")])
def test_names_without_users_are_forgotten(path: tuple[str, ...]) -> None:
    names = HeaderNames()
    names.add(path)
    names.add(("a", "z"))
    names.remove(path)
    names.remove(("a", "z"))
    assert not names.children


def test_of_entries_with_one_name_the_first_counts() -> None:
    raw = build(Properties(headers={"a": 1, "b": 2, "c": 3}))
    raw.frames = raw.frames.replace(b"\x01b", b"\x01a")
    assert picked(raw, ("a",), ("c",)) == {"a": 1, "c": 3}


def test_message_without_headers_has_none_to_pick() -> None:
    assert headers_at(build(Properties(content_type="text/plain")).frames) == (0, 0)
    assert picked(build(Properties()), ("a",)) == {}


@pytest.mark.parametrize("nested", [False, True])
def test_many_headers_are_picked_in_several_slices(nested: bool) -> None:
    table: dict[str, Any] = {str(number): None for number in range(5 * STEPS)}
    message = build(Properties(headers={"t": table} if nested else table))
    assert not is_small(message)
    names = HeaderNames()
    names.add(("t", "absent") if nested else ("absent",))
    assert sum(1 for _ in names.pick_in_slices(message)) >= 5


def test_table_larger_than_any_argument_of_a_binding_equals_none() -> None:
    large = [None] * 2000
    found = picked(build(Properties(headers={"a": large})), ("a",), whole=True)
    assert found["a"] != large
    assert len(found["a"]) == 1


def test_frames_may_be_a_bytearray() -> None:
    message = build(Properties(headers={"a": "x", "b": b"y", "t": {"c": 1}}, type="z"))
    message.frames = bytearray(message.frames)
    found = picked(message, ("a",), ("b",), ("t", "c"))
    assert found == {"a": "x", "b": b"y", "t": {"c": 1}}
    assert type(found["b"]) is bytes
    assert decode_without_headers(message.frames, FLAGS_OFFSET).type == "z"
