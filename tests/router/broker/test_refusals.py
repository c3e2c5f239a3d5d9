"""Log lines of refused clients, however many are refused."""

import pytest
import structlog

from leveret.router.broker.refusals import KINDS, PERIOD, Refusals
from leveret.router.turns.timers import Timers


class Clock:
    """Refusals with a clock that runs their timer."""

    def __init__(self):
        self.now = 0
        self.timers = Timers()
        self.refusals = Refusals(self.timers.schedule)

    def refuse(self, peer, event="connection refused", **fields):
        self.refusals.add(structlog.get_logger().bind(peer=peer), event, self.now, **fields)

    def pass_by(self, ms):
        self.now += ms
        self.timers.run(self.now)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def logged():
    with structlog.testing.capture_logs() as events:
        yield events


def test_the_first_refusal_is_logged_at_once_and_those_of_its_minute_as_one_line(clock, logged):
    for number in range(1000):
        clock.refuse(f"client{number}", reason="it timed out")
    assert logged == [
        {"event": "connection refused", "log_level": "warning", "peer": "client0", "reason": "it timed out"}
    ]
    clock.pass_by(PERIOD)
    assert logged[1:] == [logged[0] | {"peer": "client999", "count": 999}]


def test_after_a_minute_without_refusals_the_next_one_is_logged_at_once(clock, logged):
    clock.refuse("first", reason="it timed out")
    clock.pass_by(PERIOD)
    assert len(logged) == 1
    clock.refuse("second", reason="it timed out")
    assert [each["peer"] for each in logged] == ["first", "second"]
    assert clock.timers.next_deadline() == clock.now + PERIOD


def test_a_flood_that_goes_on_has_one_line_a_minute(clock, logged):
    for _ in range(5):
        for _ in range(100):
            clock.refuse("client", reason="it timed out")
        clock.pass_by(PERIOD)
    assert [each.get("count", 1) for each in logged] == [1, 99, 100, 100, 100, 100]


def test_each_kind_of_refusal_has_its_own_lines(clock, logged):
    for _ in range(3):
        clock.refuse("client", reason="it timed out")
        clock.refuse("client", event="TLS handshake failed", reason="it timed out")
        clock.refuse("client", error="a frame is malformed")
    clock.pass_by(PERIOD)
    assert len(logged) == 6
    assert [each["count"] for each in logged[3:]] == [2, 2, 2]


def test_clients_that_invent_reasons_share_a_line(clock, logged):
    for number in range(1000):
        clock.refuse("client", reason=f"unknown name {number}")
    clock.pass_by(PERIOD)
    assert len(logged) == KINDS + 2
    assert (logged[-1]["reason"], logged[-1]["count"]) == ("other reasons", 1000 - KINDS - 1)
