"""Headers that are true or false, or a number."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leveret.protocol.stomp.errors import StompError
from leveret.protocol.stomp.values import INTEGER_MAX, find_number, parse_boolean, parse_number

BOOLEANS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}


@pytest.mark.parametrize(("text", "value"), BOOLEANS.items())
def test_booleans_are_parsed_in_any_case(text, value):
    assert parse_boolean("requeue", text) is value


@pytest.mark.parametrize("text", ["", " ", " true", "true ", "1", "0", "yes", "no", "None", "true,false"])
def test_an_invalid_boolean_is_refused_with_the_header_name(text):
    with pytest.raises(StompError) as refused:
        parse_boolean("requeue", text)
    assert str(refused.value) == "Invalid header"
    assert refused.value.detail == f"'requeue' must be true or false, not '{text}'\n"


NUMBERS = {"5": 5, " 5": 5, "5 ": 5, "+5": 5, "-5": -5, "0" * 30 + "5": 5, "0": 0, "-0": 0}


@pytest.mark.parametrize(("text", "value"), NUMBERS.items())
def test_numbers_are_parsed(text, value):
    assert parse_number("x-priority", text) == value


@pytest.mark.parametrize(
    "text", ["", " ", "five", "5.0", "5e0", "0x5", "\t5", "5\n", "5_0", "\u0665", "5 6", "+", "+-5", "+ 5"]
)
def test_an_invalid_number_is_refused_with_the_header_name(text):
    with pytest.raises(StompError) as refused:
        parse_number("x-priority", text)
    assert refused.value.detail == f"'x-priority' must be a whole number, not '{text}'\n"


@pytest.mark.parametrize("text", ["-1", "65536", "1" + "0" * 30])
def test_numbers_out_of_range_are_refused_with_the_range(text):
    with pytest.raises(StompError) as refused:
        parse_number("prefetch-count", text, 0, 65535)
    assert refused.value.detail == f"'prefetch-count' must be a number from 0 to 65535, not '{text}'\n"


def test_a_long_invalid_value_is_cut_in_the_error():
    with pytest.raises(StompError) as refused:
        parse_number("x-priority", "x" * 100_000)
    assert len(refused.value.detail) < 200


@given(st.integers(-INTEGER_MAX, INTEGER_MAX))
def test_every_number_of_64_bits_is_read(number):
    assert parse_number("x", f" {number} ") == number


@given(st.text(st.characters(codec="utf-8"), max_size=30))
def test_any_text_is_a_number_or_none(text):
    number = find_number(text)
    assert number is None or number == int(text)
