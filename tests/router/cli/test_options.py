"""Valid and invalid options of the commands that speak AMQP, without a broker."""

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from leveret.router.cli import main
from leveret.router.cli.failure import WrongUsage
from leveret.router.cli.properties import make_properties, parse_headers
from leveret.router.cli.terminal import parse_duration, printable, shown_duration

NOTHING = {"headers": (), "persistent": True, "priority": None, "expiration": None, "timestamp": None}


def leveret(*args, **environ):
    return CliRunner().invoke(main, args, prog_name="leveret", env=environ)


@pytest.mark.parametrize(
    ("text", "ms"), [("500ms", 500), ("1s", 1000), ("1.5s", 1500), ("5m", 300_000), ("2h", 7_200_000)]
)
def test_durations(text, ms):
    assert parse_duration(text) == ms


@pytest.mark.parametrize("text", ["", "5", "s", "-1s", "5 m", "1e3s", "400d", "9" * 400 + "s"])
def test_what_is_no_duration(text):
    with pytest.raises(ValueError, match="is not a duration"):
        parse_duration(text)


@given(st.integers(1, 10**10))
def test_a_shown_duration_is_the_same_one(ms):
    assert parse_duration(shown_duration(ms)) == ms


def test_a_header_is_text_unless_it_is_json():
    assert parse_headers(("a=5", "b:=5", "c==", "d:=null", 'e:={"base64": "/w=="}')) == {
        "a": "5",
        "b": 5,
        "c": "=",
        "d": None,
        "e": b"\xff",
    }


@pytest.mark.parametrize("text", ["a", "=x", ":=1", "a:=x", "a:=1e999", f"a:={2**64}", "n" * 256 + "=x"])
def test_what_is_no_header(text):
    with pytest.raises(WrongUsage, match="--header"):
        parse_headers((text,))


def test_an_expiration_is_in_ms_for_the_broker():
    assert make_properties(**NOTHING | {"expiration": "30s"}).expiration == "30000"
    assert make_properties(**NOTHING | {"expiration": "30"}).expiration == "30"


@pytest.mark.parametrize(
    "option",
    [("--expiration", "soon"), ("--timestamp", "soon"), ("--priority", "256"), ("--lines", "--json-lines")],
)
def test_wrong_options_are_wrong_usage(option):
    assert leveret("publish", "", "q", *option).exit_code == 2


def test_a_body_comes_from_one_place():
    result = leveret("publish", "", "q", "body", "--lines")
    assert (result.exit_code, result.stderr) == (
        2,
        "leveret: BODY cannot be combined with --file, --lines or --json-lines\n",
    )


def test_a_url_that_is_none_is_wrong_usage():
    result = leveret("get", "q", LEVERET_URL="http://h")
    assert result.exit_code == 2
    assert "an AMQP URL is amqp://" in result.stderr


def test_a_broker_that_is_not_there_is_said_with_what_to_try():
    result = leveret("get", "q", "--take", "--url", "amqp://u:hidden@127.0.0.1:1")
    assert result.exit_code == 1
    assert result.stderr.splitlines() == [
        "leveret: amqp://u@127.0.0.1:1/%2F: Connection refused",
        "leveret: is a broker running there? `leveret serve` starts one; "
        "--url or LEVERET_URL sets its address",
    ]


def test_a_misspelt_command_gets_a_suggestion():
    result = leveret("pubish")
    assert result.exit_code == 2
    assert "did you mean 'publish'?" in result.stderr


def test_what_a_terminal_would_obey_is_spelled_out():
    assert printable("ü\x1b[0m\n\udcff\u202e") == "ü\\x1b[0m\\n\\udcff\\u202e"
