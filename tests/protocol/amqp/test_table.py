"""Field tables, against hand-made vectors of RabbitMQ's types and against pamqp."""

from decimal import Decimal
from struct import pack

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pamqp import decode as pamqp_decode
from pamqp import encode as pamqp_encode

from leveret.protocol.amqp.table import (
    FEW,
    MAX_DEPTH,
    MAX_ENTRIES,
    REMOVE,
    Long,
    Timestamp,
    decode_table,
    encode_table,
    find_entries,
    splice_table,
)
from leveret.protocol.errors import AmqpError, SyntaxError_
from tests.protocol.amqp.strategies import TABLES, VALUES, damaged, escaped, typed


def block(content):
    return pack(">I", len(content)) + content


def decode(raw):
    table, end = decode_table(raw, 0)
    assert end == len(raw)
    return table


# What RabbitMQ's parser makes of each type character.
VECTORS = [
    (b"t\x00", False),
    (b"t\x01", True),
    (b"t\xff", True),
    (b"b\xff", -1),
    (b"B\xff", 255),
    (b"s\xff\xfe", -2),
    (b"u\xff\xfe", 65534),
    (b"I\xff\xff\xff\xfe", -2),
    (b"i\xff\xff\xff\xfe", 2**32 - 2),
    (b"l" + b"\xff" * 8, -1),
    (b"L" + b"\xff" * 8, -1),
    (b"f\x3f\xc0\x00\x00", 1.5),
    (b"d\x3f\xf8" + bytes(6), 1.5),
    (b"D\x02\x00\x00\x00\x96", Decimal("1.50")),
    (b"D\x00\xff\xff\xff\xff", Decimal(-1)),
    (b"T" + b"\xff" * 8, Timestamp(2**64 - 1)),
    (b"S\x00\x00\x00\x02\xc3\xbc", "ü"),
    (b"S\x00\x00\x00\x02\xff\xfe", "\udcff\udcfe"),
    (b"x\x00\x00\x00\x02\xff\xfe", b"\xff\xfe"),
    (b"V", None),
    (b"A\x00\x00\x00\x00", []),
    (b"A\x00\x00\x00\x03t\x01V", [True, None]),
    (b"F\x00\x00\x00\x00", {}),
    (b"F\x00\x00\x00\x04\x01kt\x01", {"k": True}),
]


@pytest.mark.parametrize(("wire", "value"), VECTORS)
def test_decodes_every_type_of_rabbitmq(wire, value):
    assert typed(decode(block(b"\x03key" + wire))) == typed({"key": value})


@pytest.mark.parametrize(
    ("value", "wire"),
    [
        (True, b"t\x01"),
        (2**31 - 1, b"I\x7f\xff\xff\xff"),
        (-(2**31), b"I\x80\x00\x00\x00"),
        (2**31, b"l\x00\x00\x00\x00\x80\x00\x00\x00"),
        (Long(1), b"l\x00\x00\x00\x00\x00\x00\x00\x01"),
        (1.5, b"d\x3f\xf8" + bytes(6)),
        ("ü", b"S\x00\x00\x00\x02\xc3\xbc"),
        (b"\xff", b"x\x00\x00\x00\x01\xff"),
        (Decimal("1.50"), b"D\x02\x00\x00\x00\x96"),
        (Decimal("2E+2"), b"D\x00\x00\x00\x00\xc8"),
        (Timestamp(1), b"T\x00\x00\x00\x00\x00\x00\x00\x01"),
        (None, b"V"),
        ([1], b"A\x00\x00\x00\x05I\x00\x00\x00\x01"),
        ({"k": True}, b"F\x00\x00\x00\x04\x01kt\x01"),
    ],
)
def test_encodes_every_type(value, wire):
    assert encode_table({"": value}) == block(b"\x00" + wire)


@pytest.mark.parametrize(
    "value",
    [
        2**63,
        -(2**63) - 1,
        Long(2**63),
        Timestamp(-1),
        float("nan"),
        float("-inf"),
        Decimal("NaN"),
        Decimal(2**31),
        Decimal("1E-256"),
        "\ud800",
        {"k" * 256: 1},
    ],
)
def test_what_no_type_can_hold_is_a_value_error(value):
    with pytest.raises(ValueError, match=r"."):
        encode_table({"key": value})


def test_what_has_no_type_is_a_type_error():
    with pytest.raises(TypeError, match="complex"):
        encode_table({"key": 1j})


@pytest.mark.slow
@given(TABLES)
def test_what_was_encoded_is_decoded(table):
    assert typed(decode(encode_table(table))) == typed(table)


@given(TABLES, st.binary(max_size=9), st.binary(max_size=9))
def test_nothing_around_a_table_is_read(table, before, behind):
    raw = encode_table(table)
    found, end = decode_table(before + raw + behind, len(before))
    assert typed(found) == typed(table)
    assert end == len(before) + len(raw)


PAMQP_VALUES = st.recursive(
    st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.text(max_size=20)
    | st.floats(allow_nan=False, width=32, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=20), inner, max_size=4),
    max_leaves=8,
)
PAMQP_TABLES = st.dictionaries(st.text(max_size=20), PAMQP_VALUES, max_size=5)


@pytest.mark.slow
@given(PAMQP_TABLES)
def test_decodes_what_pamqp_encodes(table):
    assert decode(pamqp_encode.field_table(table)) == table


@given(PAMQP_TABLES)
def test_pamqp_decodes_what_was_encoded(table):
    assert pamqp_decode.field_table(encode_table(table))[1] == table


def test_first_of_equal_names_counts():
    assert decode(block(b"\x01kt\x01\x01kt\x00")) == {"k": True}


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"\x05k", id="name runs past the table"),
        pytest.param(b"\x01k", id="no type"),
        pytest.param(b"\x01kz\x00", id="unknown type"),
        pytest.param(b"\x01kI\x00\x00\x00", id="number runs past the table"),
        pytest.param(b"\x01kS\x00\x00\x00\x02a", id="string runs past the table"),
        pytest.param(b"\x01kA\x00\x00\x00\x01t\x01", id="item runs past the array"),
        pytest.param(b"\x01kF\x00\x00\x00\x03\x01kt\x01", id="item runs past the inner table"),
        pytest.param(b"\x01kf\x7f\xc0\x00\x00", id="float NaN"),
        pytest.param(b"\x01kd\x7f\xf0" + bytes(6), id="double infinity"),
    ],
)
@pytest.mark.parametrize("behind", [b"", bytes(16)], ids=["alone", "with bytes behind"])
def test_malformed_table_is_a_syntax_error(content, behind):
    with pytest.raises(SyntaxError_):
        decode_table(block(content) + behind, 0)


@pytest.mark.slow
@given(TABLES)
def test_truncated_table_is_a_syntax_error(table):
    raw = encode_table(table)
    for cut in range(len(raw)):
        with pytest.raises(SyntaxError_):
            decode_table(raw[:cut], 0)


@given(damaged(TABLES.map(encode_table)))
def test_damaged_bytes_raise_nothing_but_amqp_errors(raw):
    try:
        table, _ = decode_table(raw, 0)
    except AmqpError:
        return
    assert typed(decode(encode_table(table))) == typed(table)


def test_depth_is_bounded():
    content = b""
    for _ in range(MAX_DEPTH - 1):
        content = b"\x01kF" + block(content)
    decode(block(content))
    with pytest.raises(SyntaxError_, match="deep"):
        decode(block(b"\x01kF" + block(content)))


def test_arrays_count_for_the_depth():
    content = b""
    for _ in range(MAX_DEPTH):
        content = b"A" + block(content)
    with pytest.raises(SyntaxError_, match="deep"):
        decode(block(b"\x01k" + content))


def test_count_of_entries_is_bounded():
    assert len(decode(block(b"\x01kA" + block(b"V" * MAX_ENTRIES)))["k"]) == MAX_ENTRIES
    with pytest.raises(SyntaxError_, match="more than"):
        decode(block(b"\x01kA" + block(b"V" * (MAX_ENTRIES + 1))))
    names = b"".join(b"\x03%bV" % number.to_bytes(3, "big") for number in range(MAX_ENTRIES + 1))
    decode(block(names[:-5]))
    with pytest.raises(SyntaxError_, match="more than"):
        decode(block(names))


# -- splice_table ------------------------------------------------------------------------------------------

MIXED = b"\x01as\x00\x01" + b"\x01bB\x02" + b"\x01cS\x00\x00\x00\x01c"


@pytest.mark.parametrize(
    ("replace", "content"),
    [
        ({}, MIXED),
        ({"b": True}, b"\x01as\x00\x01" + b"\x01bt\x01" + b"\x01cS\x00\x00\x00\x01c"),
        ({"d": None}, MIXED + b"\x01dV"),
        ({"a": REMOVE, "c": REMOVE}, b"\x01bB\x02"),
        ({"d": REMOVE}, MIXED),
    ],
)
def test_splice_copies_what_it_does_not_replace(replace, content):
    assert splice_table(block(MIXED), replace) == block(content)


def test_splice_leaves_no_second_entry_of_a_replaced_name():
    twice = block(b"\x01kt\x00\x01kt\x00")
    assert splice_table(twice, {"k": REMOVE}) == block(b"")
    assert splice_table(twice, {"k": True}) == block(b"\x01kt\x01")


@given(TABLES, st.dictionaries(escaped(20), VALUES | st.just(REMOVE), max_size=4))
def test_splice_equals_an_update(table, replace):
    spliced = decode(splice_table(encode_table(table), replace))
    expected = {name: value for name, value in (table | replace).items() if value is not REMOVE}
    assert typed(spliced) == typed(expected)


LONG_NAME, LONG_TEXT = "n" * 64, "v" * 128  # which the pattern for large tables does not know
LARGE_TABLES = st.dictionaries(
    st.one_of(escaped(20), st.sampled_from(("CC", LONG_NAME))),
    st.one_of(VALUES, st.sampled_from((LONG_TEXT, [LONG_TEXT], {"CC": None}, [], "CC\x02CC"))),
)


@given(
    LARGE_TABLES, st.sets(st.one_of(escaped(20), st.sampled_from(("CC", LONG_NAME))), max_size=4), st.data()
)
def test_entries_are_found_in_large_tables_as_in_small_ones(table, more, data):
    names = {*more, *data.draw(st.sets(st.sampled_from(sorted(table)) if table else st.nothing()))}
    raw = {name.encode("utf-8", "surrogateescape") for name in names}
    content = 2 * encode_table(table)[4:]  # with each name twice
    filler = b"\x00V" * FEW
    found = [
        (name, at - len(front), value - len(front), behind - len(front))
        for front in (b"", filler)
        for name, at, value, behind in find_entries(front + content, len(front), len(front + content), raw)
        if name
    ]
    large = [each for each in find_entries(content + filler, 0, len(content + filler), raw) if each[0]]
    half = len(found) // 2
    assert found[:half] == found[half:] == large
    expected = [name.encode("utf-8", "surrogateescape") for name in table if name in names and name]
    assert [name for name, *_ in large] == 2 * expected


@pytest.mark.slow
@given(TABLES)
def test_splice_of_a_truncated_table_is_a_syntax_error(table):
    raw = encode_table(table)
    for cut in range(len(raw)):
        with pytest.raises(SyntaxError_):
            splice_table(raw[:cut], {"k": 1})
