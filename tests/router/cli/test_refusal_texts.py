"""Reasons of RabbitMQ and leveret in plain words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leveret.router.cli.refusal_texts import plain_reason


@pytest.mark.parametrize(
    ("reason", "plain"),
    [
        ("[{key_missing,exchange}]", "exchange is missing"),
        ("[{key_missing,ackmode},{key_missing,count}]", "ackmode is missing, count is missing"),
        (
            'Validation failed\n\n[{&lt;&lt;"nope"&gt;&gt;,1}] are not recognised policy settings\n',
            "'nope': 1 are not recognised policy settings",
        ),
        (
            'Validation failed\n\npattern should be regular expression but is invalid: {"missing )",2}\n',
            "pattern should be regular expression but is invalid: missing ): 2",
        ),
        (
            "invalid arg 'x-stream-offset' for queue 's': {invalid_stream_offset_arg,{longstr,<<\"0h\">>}}",
            "invalid arg 'x-stream-offset' for queue 's': '0h' is not an offset",
        ),
        (
            "invalid arg 'x-expires' for queue 'q' in vhost '/': {unacceptable_type,longstr}",
            "invalid arg 'x-expires' for queue 'q' in vhost '/': a value of the type longstr is not accepted",
        ),
        ("invalid arg 'x-max-length': {value_negative,-1}", "invalid arg 'x-max-length': -1 is less than 0"),
        ("no queue 'a{2,3}[x]' in vhost '/'", "no queue 'a{2,3}[x]' in vhost '/'"),
        ('<<"many">> is not a valid maximum length', "'many' is not a valid maximum length"),
        ("Not Found", "Not Found"),
        ("1 entry was refused:\nqueue 'q'", "1 entry was refused:\nqueue 'q'"),
    ],
)
def test_erlang_terms_become_plain_text(reason, plain):
    assert plain_reason(reason) == plain


@given(st.text())
def test_any_text_has_a_plain_form(text):
    assert isinstance(plain_reason(text), str)


@given(st.text("{}[],<>\"'ab1\\&;\n", max_size=60))
def test_malformed_terms_do_not_loop(text):
    assert "\n\n" not in plain_reason(text)
