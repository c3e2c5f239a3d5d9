"""JSON of what clients sent: no lone surrogate, whatever the bytes were."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from leveret.protocol.json_text import dump_json, encode_json, representable, restored

TEXT = st.one_of(
    st.binary().map(lambda data: data.decode("utf-8", "surrogateescape")),
    st.text(st.characters(codec=None, categories=["Cs", "L", "Cc"])),
)
VALUES = st.recursive(
    TEXT | st.integers(-(2**63), 2**63 - 1) | st.booleans() | st.none() | st.floats(-1e9, 1e9),
    lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner) | st.tuples(inner, inner),
)  # fmt: skip


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", ""),
        ("grüße\0\U0001f600", "grüße\0\U0001f600"),
        ("\udcff\udcfe", "Not UTF-8, base64 is: //4="),
        ("\udcff" * 200, "Not UTF-8, base64 is: " + "\n".join(["/" * 76] * 3 + ["/" * 38 + "8="])),
    ],
)
def test_text_has_the_form_of_rabbitmq(text, shown):
    """As ``POST /api/queues/.../get`` of RabbitMQ 3.10 shows such a header."""
    assert representable(text) == shown
    assert representable({text: [text]}) == {shown: [shown]}


@pytest.mark.slow
@given(VALUES)
def test_json_is_strict(value):
    for text in (encode_json(value), dump_json(value).encode(), dump_json(value, indent=2).encode()):
        assert msgspec.json.decode(text) == json.loads(text)


BYTES = st.binary().map(lambda data: data.decode("utf-8", "surrogateescape"))


@pytest.mark.slow
@given(st.recursive(BYTES | st.integers(), lambda inner: st.lists(inner) | st.dictionaries(BYTES, inner)))
def test_bytes_can_be_restored(value):
    assert restored(json.loads(dump_json(value))) == value


@pytest.mark.parametrize(
    "text", ["Not UTF-8, base64 is: ", "Not UTF-8, base64 is: !", "Not UTF-8, base64 is: YWJj", "Not UTF-8"]
)
def test_text_that_only_looks_like_shown_bytes_stays(text):
    assert restored(text) == text
