"""Messages of rows: properties, defaults, and rows that make no message."""

import json

import pytest

from leveret.protocol.errors import PreconditionFailed
from leveret.router.transactional_outbox.rows import make_message
from tests.router.transactional_outbox.rows import row

LIMITS = {"frame_max": 4096, "max_message_size": 100}


def properties(**given):
    return make_message(row(properties=json.dumps(given)), **LIMITS).properties


def test_a_row_with_defaults_is_persistent_and_has_the_row_as_its_message_id():
    plain = row("body", id=5)
    message = make_message(plain, **LIMITS)
    assert bytes(message.body) == b"body"
    assert message.properties.delivery_mode == 2
    assert message.properties.message_id == str(plain.message_id)
    assert message.traits.persistent


def test_properties_of_the_row_win():
    found = properties(
        delivery_mode=1, message_id="m", headers={"n": 1, "deep": {"list": [1, "x", None, True]}}, priority=3
    )
    assert (found.delivery_mode, found.message_id, found.priority) == (1, "m", 3)
    assert found.headers == {"n": 1, "deep": {"list": [1, "x", None, True]}}


@pytest.mark.parametrize(
    ("columns", "text"),
    [
        ({"properties": "[]"}, None),
        ({"properties": "[1]"}, "'properties' should be an object"),
        ({"properties": "3"}, "'properties' should be an object"),
        ({"properties": '{"headers": 1}'}, "'headers' should be an object"),
        ({"properties": '{"priority": "1"}'}, "'priority' should be a whole number"),
        (
            {"properties": '{"prioritaet": 1}'},
            "there is no property 'prioritaet'; the properties are content_",
        ),
        ({"properties": '{"headers": {"n": 18446744073709551616}}'}, "invalid header 'n'"),
        ({"properties": '{"type": "' + "x" * 256 + '"}'}, "less than 255 bytes"),
        ({"properties": json.dumps({"headers": {"long": "x" * 5000}})}, "put large values into the body"),
        ({"properties": None}, "put large values into the body"),
        ({"body": None, "size": 101}, "message size 101 is larger than configured max size 100"),
        ({"routing_key": "x" * 256}, "routing_key should be less than 255 bytes"),
        ({"exchange": "x" * 256}, "exchange should be less than 255 bytes"),
        ({"properties": "[" * 5000}, "cannot be decoded"),
    ],
)
def test_a_row_that_makes_no_message_is_refused_with_the_reason(columns, text):
    if text is None:
        make_message(row(**columns), **LIMITS)
        return
    with pytest.raises(PreconditionFailed) as caught:
        make_message(row(**columns), **LIMITS)
    assert text in str(caught.value)
