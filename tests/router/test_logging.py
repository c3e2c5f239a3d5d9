import io
import json
import logging

import msgspec
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from leveret.router.logging import PlainLines, configure
from leveret.router.settings import Log

pytestmark = pytest.mark.usefixtures("restored_logging")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def configured(stream: io.StringIO | None = None, **settings: str) -> io.StringIO:
    stream = io.StringIO() if stream is None else stream
    configure(Log(**settings), stream)
    return stream


def test_json_lines_hold_time_level_event_and_fields():
    stream = configured(format="json")
    structlog.get_logger().info("connection opened", peer="127.0.0.1:1", channels=2)
    line = json.loads(stream.getvalue())
    assert line.pop("timestamp").endswith("Z")
    assert line == {"event": "connection opened", "level": "info", "peer": "127.0.0.1:1", "channels": 2}


def test_json_takes_what_json_has_no_type_for():
    stream = configured(format="json")
    structlog.get_logger().info("odd", body=b"\xff", name="\udcff")
    assert json.loads(stream.getvalue())["body"] == repr(b"\xff")
    assert json.loads(stream.getvalue())["name"] == "Not UTF-8, base64 is: /w=="


def test_json_lines_hold_no_lone_surrogates():
    class Shown:
        def __repr__(self) -> str:
            return "\udcff"

    stream = configured(format="json")
    structlog.get_logger().info("odd", peer={"\udcff": ["\udcff", Shown()]}, exc_info=ValueError("\udcff"))
    msgspec.json.decode(stream.getvalue())
    assert "\\udc" not in stream.getvalue()


@pytest.mark.parametrize("format", ["console", "json"])
def test_a_traceback_is_logged_with_the_error(format):
    stream = configured(format=format)
    try:
        raise LookupError("lost")
    except LookupError:
        structlog.get_logger().exception("failed")
    assert "LookupError: lost" in stream.getvalue()


@pytest.mark.parametrize("format", ["console", "json"])
def test_each_event_is_one_line_whatever_clients_send(format):
    stream = configured(format=format)
    structlog.get_logger().info("declared", queue="a\nb\x1b[31m")
    assert stream.getvalue().count("\n") == 1
    assert "\x1b" not in stream.getvalue()


def test_less_severe_events_are_left_out():
    stream = configured(level="warning")
    log = structlog.get_logger()
    log.info("quiet")
    log.warning("loud")
    assert "quiet" not in stream.getvalue()
    assert "loud" in stream.getvalue()


def test_colours_only_on_a_terminal(monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    for stream, coloured in ((io.StringIO(), False), (Terminal(), True)):
        configured(stream)
        structlog.get_logger().info("started")
        assert ("\x1b[" in stream.getvalue()) is coloured


def test_no_color_turns_colours_off(monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    stream = configured(Terminal())
    structlog.get_logger().info("started")
    assert "\x1b[" not in stream.getvalue()


@pytest.mark.parametrize("format", ["console", "json"])
def test_credentials_are_blanked(format):
    stream = configured(format=format)
    structlog.get_logger().info("login", user="ada", password="271828")
    assert "ada" in stream.getvalue()
    assert "271828" not in stream.getvalue()


@pytest.mark.parametrize(("level", "name"), [(5, "debug"), (20, "info"), (35, "warning"), (99, "critical")])
def test_standard_library_logging_comes_out_the_same_way(level, name):
    stream = configured(format="json", level="debug")
    logging.getLogger().setLevel(1)
    logging.getLogger("trio").log(level, "hello %s", "world")
    line = json.loads(stream.getvalue())
    assert (line["event"], line["level"], line["logger"]) == ("hello world", name, "trio")


def test_standard_library_errors_keep_their_traceback():
    stream = configured(format="json")
    try:
        raise LookupError("lost")
    except LookupError:
        logging.getLogger("trio").exception("failed")
    assert "LookupError: lost" in json.loads(stream.getvalue())["exception"]


FIELDS = st.dictionaries(
    st.sampled_from(["peer", "logger", "logger_name", "user"]) | st.text(min_size=1, max_size=9),
    st.text(max_size=20) | st.integers() | st.none() | st.lists(st.text(max_size=3), max_size=2),
    max_size=5,
)


@given(st.text(max_size=40), st.sampled_from(["debug", "warning", "critical"]), FIELDS)
def test_plain_lines_are_those_of_the_console_renderer(event, level, fields):
    made = {**fields, "event": event, "level": level, "timestamp": "2026-11-30T09:00:00.000001Z"}
    renderer = structlog.dev.ConsoleRenderer(colors=False, repr_native_str=True, sort_keys=False)
    assert PlainLines(renderer)(None, "", dict(made)) == renderer(None, "", dict(made))
