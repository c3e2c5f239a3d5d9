"""The recent-history exchange: what is kept, how much of it and in which order."""

from typing import Any

import pytest

from leveret.protocol.amqp.table import Long, Timestamp
from leveret.protocol.errors import PreconditionFailed
from leveret.router.exchange import recent_history
from leveret.router.exchange.recent_history import MAX_LENGTH, RecentHistoryExchange
from tests.router.exchange.helpers import bind, matched, message


def made(**arguments: Any) -> RecentHistoryExchange:
    return RecentHistoryExchange(
        "x", arguments={f"x-recent-history-{name}": arguments[name] for name in arguments}
    )


@pytest.mark.parametrize(("arguments", "kept"), [({}, 20), ({"length": 3}, 3), ({"length": Long(1)}, 1)])
def test_latest_messages_are_kept_oldest_first(arguments: dict[str, Any], kept: int) -> None:
    exchange = made(**arguments)
    messages = [message() for _ in range(30)]
    for each in messages:
        exchange.match("k", each)
    assert list(exchange.history()) == messages[-kept:]


def test_every_binding_matches() -> None:
    exchange = made()
    bind(exchange, "q1", "a")
    bind(exchange, "q2", "b")
    assert matched(exchange, "c") == ["q1", "q2"]


@pytest.mark.parametrize(("value", "kept"), [(True, 0), (False, 1), ("true", 1), (1, 1), (None, 1)])
def test_only_a_true_no_store_header_keeps_a_message_out(value: Any, kept: int) -> None:
    exchange = made()
    bind(exchange, "q")
    assert matched(exchange, "k", {"x-recent-history-no-store": value}) == ["q"]
    assert len(exchange.history()) == kept


def test_history_given_out_does_not_change_later() -> None:
    exchange = made()
    exchange.match("k", message())
    history = exchange.history()
    exchange.match("k", message())
    assert (len(history), len(exchange.history())) == (1, 2)


@pytest.mark.parametrize(
    ("length", "shown"),
    [
        (0, "0"),
        (-1, "-1"),
        ("5", '<<"5">>'),
        ("", "<<>>"),
        (b"5", '<<"5">>'),
        (None, "undefined"),
        (True, "true"),
        (False, "false"),
        (1.5, "1.5"),
        (Timestamp(5), "5"),
        ([1], "[{signedint,1}]"),
        ({}, "[]"),
    ],
)
def test_length_that_is_no_positive_integer_is_refused_with_rabbitmqs_text(length: Any, shown: str) -> None:
    with pytest.raises(PreconditionFailed) as refused:
        made(length=length)
    text = f"Invalid argument {shown}, 'x-recent-history-length' must be a positive integer"
    assert str(refused.value) == f"PRECONDITION_FAILED - {text}"


@pytest.mark.parametrize("length", [10**9, 2**63 - 1])
def test_history_is_bounded_in_number_whatever_the_length_says(length: int) -> None:
    exchange = made(length=length)
    messages = [message() for _ in range(MAX_LENGTH + 20)]
    for each in messages:
        exchange.match("k", each)
    assert list(exchange.history()) == messages[-MAX_LENGTH:]


def test_history_is_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recent_history, "MAX_BYTES", 1000)
    exchange = made(length=10)
    kept = []
    for size in (400, 400, 200, 300, 1010, 1000, 30):
        each = message()
        each.frames = each.frames.ljust(size)
        exchange.match("k", each)
        kept.append([len(one.frames) for one in exchange.history()])
    assert kept == [[400], [400, 400], [400, 400, 200], [400, 200, 300], [], [1000], [30]]
