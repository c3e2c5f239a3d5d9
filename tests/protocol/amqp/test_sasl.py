from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leveret.protocol.amqp.sasl import credentials
from leveret.protocol.amqp.table import encode_table
from leveret.protocol.errors import AmqpError, CommandInvalid, SyntaxError_

NAMES = st.text().filter(lambda text: "\0" not in text)


@given(NAMES, NAMES)
def test_plain(user, password):
    assert credentials("PLAIN", f"\0{user}\0{password}".encode()) == (user, password)


@given(st.text(), st.text())
def test_amqplain(user, password):
    response = encode_table({"LOGIN": user, "PASSWORD": password})[4:]
    assert credentials("AMQPLAIN", response) == (user, password)


def test_what_is_not_utf8_keeps_its_bytes():
    assert credentials("PLAIN", b"\0\xff\0\xfe") == ("\udcff", "\udcfe")


@pytest.mark.parametrize(
    ("mechanism", "response"),
    [
        ("PLAIN", b""),
        ("PLAIN", b"guest"),
        ("PLAIN", b"guest\0guest"),
        ("PLAIN", b"\0guest"),
        ("PLAIN", b"other\0guest\0guest"),
        ("PLAIN", b"\0guest\0guest\0"),
        ("AMQPLAIN", b""),
        ("AMQPLAIN", b"\5LOGIN"),
        ("AMQPLAIN", encode_table({"LOGIN": "guest"})[4:]),
        ("AMQPLAIN", encode_table({"LOGIN": "guest", "PASSWORD": 1})[4:]),
        ("AMQPLAIN", encode_table({"LOGIN": "guest", "PASSWORD": "guest"})),
    ],
)
def test_a_malformed_response_is_a_syntax_error(mechanism, response):
    with pytest.raises(SyntaxError_):
        credentials(mechanism, response)


@pytest.mark.parametrize("mechanism", ["", "plain", "EXTERNAL", "RABBIT-CR-DEMO"])
def test_other_mechanisms_are_unknown(mechanism):
    with pytest.raises(CommandInvalid, match="unknown authentication mechanism"):
        credentials(mechanism, b"\0guest\0guest")


@given(st.sampled_from(("PLAIN", "AMQPLAIN")), st.binary(max_size=60))
def test_no_response_makes_it_fail_otherwise(mechanism, response):
    with suppress(AmqpError):
        credentials(mechanism, response)
