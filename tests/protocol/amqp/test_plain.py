import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leveret.protocol.amqp.plain import body_of, plain_body, plain_properties, properties_of
from leveret.protocol.amqp.properties import Properties
from tests.protocol.amqp.strategies import PROPERTIES, typed

SPELLED = {"base64", "decimal", "timestamp"}


def ambiguous(value):
    """Whether a table looks like the spelling of another type."""
    if isinstance(value, dict):
        return (len(value) == 1 and value.keys() <= SPELLED) or any(map(ambiguous, value.values()))
    return isinstance(value, list) and any(map(ambiguous, value))


@given(PROPERTIES.filter(lambda each: not any(map(ambiguous, (each.headers or {}).values()))))
def test_properties_survive_json(properties):
    line = json.dumps(plain_properties(properties), ensure_ascii=False).encode("utf-8", "backslashreplace")
    back = properties_of(json.loads(line))
    if properties.headers is not None and ambiguous(properties.headers):
        return  # at the top they are headers, whatever they are called
    for name in Properties.__dataclass_fields__:
        assert typed(getattr(back, name)) == typed(getattr(properties, name))


@given(st.binary())
def test_bodies_survive_json(body):
    assert body_of(*plain_body(body)) == body


@pytest.mark.parametrize(
    ("plain", "said"),
    [
        ({"contenttype": "x"}, "unknown property 'contenttype'"),
        ({"priority": "5"}, "property priority: '5' is no int"),
        ({"delivery_mode": True}, "property delivery_mode: True is no int"),
        ({"headers": []}, r"property headers: \[\] is no dict"),
        ({"headers": {"d": {"decimal": "x"}}}, "'x' is no decimal number"),
        ({"headers": {"b": {"base64": "?"}}}, "base64"),
    ],
)
def test_what_was_never_printed_is_refused(plain, said):
    with pytest.raises(ValueError, match=said):
        properties_of(plain)


def test_an_unknown_encoding_of_a_body_is_refused():
    with pytest.raises(ValueError, match="'latin-1'"):
        body_of("x", "latin-1")
