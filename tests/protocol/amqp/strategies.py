"""Hypothesis strategies for everything that has a place on the wire, derived from the declarations."""

from dataclasses import fields
from decimal import Decimal

from hypothesis import strategies as st

from leveret.protocol.amqp.properties import Properties
from leveret.protocol.amqp.table import Timestamp


def escaped(limit):
    """Text of at most ``limit`` bytes; what is not UTF-8 stands in it as surrogate escapes."""
    texts = st.text(max_size=limit // 4)
    return texts | st.binary(max_size=limit).map(lambda raw: raw.decode("utf-8", "surrogateescape"))


SHORT_TEXT = st.text(max_size=255).filter(lambda text: len(text.encode()) <= 255)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.builds(
        lambda number, scale: Decimal(number).scaleb(-scale),
        st.integers(-(2**31), 2**31 - 1),
        st.integers(0, 255),
    ),
    st.integers(0, 2**64 - 1).map(Timestamp),
    escaped(300),
    st.binary(max_size=300),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(escaped(40), inner, max_size=4),
    max_leaves=12,
)
TABLES = st.dictionaries(escaped(255), VALUES, max_size=5)

BY_WIRE_TYPE = {
    "bit": st.booleans(),
    "octet": st.integers(0, 2**8 - 1),
    "short": st.integers(0, 2**16 - 1),
    "long": st.integers(0, 2**32 - 1),
    "longlong": st.integers(0, 2**64 - 1),
    "shortstr": SHORT_TEXT,
    "longstr": st.binary(max_size=300),
    "table": TABLES,
}


def wire_types(cls):
    """The settable fields of a method class and their wire types."""
    return {name: cls.__annotations__[name].__metadata__[0] for name in cls.__struct_fields__}


def methods(cls, **instead):
    """Instances of a method class; ``instead`` replaces the strategy of a wire type."""
    strategies = BY_WIRE_TYPE | instead
    fields = {name: strategies[wire] for name, wire in wire_types(cls).items()}
    return st.fixed_dictionaries(fields).map(lambda values: cls(**values))


OCTETS = st.integers(0, 255)
PROPERTIES = st.builds(
    Properties,
    **{each.name: st.none() | escaped(255) for each in fields(Properties)}
    | {
        "headers": st.none() | TABLES,
        "delivery_mode": st.none() | OCTETS,
        "priority": st.none() | OCTETS,
        "timestamp": st.none() | st.integers(0, 2**64 - 1),
    },
)


@st.composite
def damaged(draw, raws):
    """Valid bytes with one to three octets changed."""
    raw = bytearray(draw(raws))
    for _ in range(draw(st.integers(1, 3))):
        raw[draw(st.integers(0, len(raw) - 1))] = draw(OCTETS)
    return bytes(raw)


def typed(value):
    """A value with its types spelled out, for 1 == True == Timestamp(1) == 1.0 and -0.0 == 0.0."""
    if isinstance(value, dict):
        return {name: typed(item) for name, item in value.items()}
    if isinstance(value, list):
        return [typed(item) for item in value]
    return type(value), repr(value)
