"""Message properties, against hand-made vectors and against pamqp."""

from dataclasses import fields
from datetime import UTC, datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pamqp import commands

from leveret.protocol.amqp import properties as props
from leveret.protocol.amqp.properties import (
    Properties,
    decode_properties,
    encode_properties,
    splice_properties,
)
from leveret.protocol.amqp.table import REMOVE
from leveret.protocol.errors import AmqpError, SyntaxError_
from tests.protocol.amqp.strategies import PROPERTIES, TABLES, damaged, typed

FULL = Properties(
    "text/plain",
    "gzip",
    {"k": 1},
    2,
    9,
    "cid",
    "reply",
    "1000",
    "mid",
    1_700_000_000,
    "kind",
    "guest",
    "app",
    "cluster",
)


def as_dict(properties):
    return {each.name: typed(getattr(properties, each.name)) for each in fields(Properties)}


def decode(raw):
    return as_dict(decode_properties(raw, 0))


@given(PROPERTIES)
def test_what_was_encoded_is_decoded(properties):
    assert decode(encode_properties(properties)) == as_dict(properties)


@pytest.mark.parametrize("name", [each.name for each in fields(Properties)])
def test_every_flag_constant_announces_its_property(name):
    one = Properties(**{name: getattr(FULL, name)})
    raw = encode_properties(one)
    assert int.from_bytes(raw[:2], "big") == getattr(props, name.upper())
    assert decode(raw) == as_dict(one)


def pamqp_properties(properties):
    values = {each.name: getattr(properties, each.name) for each in fields(Properties)}
    values["message_type"] = values.pop("type")
    del values["cluster_id"]
    if values["timestamp"] is not None:
        values["timestamp"] = datetime.fromtimestamp(values["timestamp"], UTC)
    return commands.Basic.Properties(**values)


# pamqp refuses delivery modes that mean nothing and a cluster id, leaves out empty strings and sorts tables.
SENSIBLE = st.builds(
    Properties,
    **{each.name: st.none() | st.text(min_size=1, max_size=20) for each in fields(Properties)}
    | {
        "headers": st.none()
        | st.dictionaries(st.text(max_size=5), st.booleans() | st.text(max_size=5), min_size=1, max_size=1),
        "delivery_mode": st.none() | st.sampled_from([1, 2]),
        "priority": st.none() | st.integers(0, 255),
        "timestamp": st.none() | st.integers(0, 2**31),
        "cluster_id": st.none(),
    },
)


@given(SENSIBLE)
def test_pamqp_encodes_the_same(properties):
    assert encode_properties(properties) == pamqp_properties(properties).marshal()


@given(PROPERTIES)
@example(FULL)
def test_truncated_properties_are_a_syntax_error(properties):
    raw = encode_properties(properties)
    for cut in range(len(raw)):
        with pytest.raises(SyntaxError_):
            decode_properties(raw[:cut], 0)


@given(PROPERTIES, st.binary(min_size=1, max_size=9))
def test_bytes_behind_the_list_are_a_syntax_error(properties, behind):
    with pytest.raises(SyntaxError_):
        decode_properties(encode_properties(properties) + behind, 0)


@given(damaged(PROPERTIES.map(encode_properties)))
def test_damaged_bytes_raise_nothing_but_amqp_errors(raw):
    try:
        properties = decode_properties(raw, 0)
    except AmqpError:
        return
    assert decode(encode_properties(properties)) == as_dict(properties)


@pytest.mark.parametrize("flags", [b"\x00\x01", b"\x00\x02", b"\x00\x03"])
def test_flags_without_a_property_are_ignored(flags):
    assert decode_properties(flags, 0) == Properties()


def test_no_second_word_of_flags_is_read():
    with pytest.raises(SyntaxError_):
        decode_properties(b"\x00\x01\x00\x00", 0)


@pytest.mark.parametrize(
    "properties",
    [
        Properties(app_id="x" * 256),
        Properties(priority=256),
        Properties(timestamp=-1),
        Properties(headers={"k": 2**63}),
    ],
)
def test_what_no_wire_type_can_hold_is_a_value_error(properties):
    with pytest.raises(ValueError, match=r"."):
        encode_properties(properties)


# -- splice_properties -------------------------------------------------------------------------------------


@pytest.mark.slow
@given(PROPERTIES, TABLES)
@example(FULL, {"k": REMOVE, "added": "x"})
def test_splice_equals_a_change(properties, headers):
    raw = encode_properties(properties)
    changed = Properties(**{each.name: getattr(properties, each.name) for each in fields(Properties)})
    changed.expiration, changed.user_id = None, "me"
    if headers:
        merged = (properties.headers or {}) | headers
        changed.headers = {name: value for name, value in merged.items() if value is not REMOVE}
    assert decode(splice_properties(raw, headers, expiration=REMOVE, user_id="me")) == as_dict(changed)


def test_splice_keeps_the_wire_types_of_other_headers():
    raw = b"\x20\x00" + b"\x00\x00\x00\x05\x01as\x00\x01"
    assert splice_properties(raw, {"b": True}) == b"\x20\x00" + b"\x00\x00\x00\x09\x01as\x00\x01\x01bt\x01"
