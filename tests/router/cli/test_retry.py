"""Headers of a message between attempts, without a broker: ``died`` stands in for one."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leveret.protocol.amqp.message import Message
from leveret.protocol.amqp.properties import Properties, decode_properties
from leveret.router.cli.retry import ATTEMPT, ATTEMPTS, DEATHS, ERROR, ORIGIN, Backoff, DelayQueues, Origin
from leveret.router.vhost.death_headers import make_letter
from tests.protocol.amqp.strategies import PROPERTIES, typed

QUEUE = "jobs"
DELAYS = DelayQueues(QUEUE)


def message(exchange="orders", routing_key="new", body=b"body", **properties):
    return Message.build(exchange, routing_key, Properties(**properties), body)


def sent(raw, queue, body=b"body"):
    """The message that is in a queue once these properties were published to it."""
    return Message.build("", queue, decode_properties(raw, 0), body)


def died(waiting, queue, target=QUEUE):
    """What comes out of a delay queue."""
    return make_letter(waiting, queue, "expired", exchange="", own_key=target, wall=1_700_000_000)


def after(found, attempts):
    """The message, when so many attempts have failed."""
    for _ in range(attempts):
        queue = DELAYS.name(1000)
        found = died(sent(Origin.of(found, DELAYS).waiting("exit status 1"), queue), queue)
    return found


def test_waits_double_up_to_the_longest():
    assert [Backoff(1000, 300_000).delay(attempt) for attempt in (1, 2, 3, 9, 10, 1000)] == [
        1000, 2000, 4000, 256_000, 300_000, 300_000,
    ]  # fmt: skip
    assert Backoff(1000, 3000).delays(10) == [1000, 2000, 3000]
    assert Backoff(1000, 3000).delays(0) == []


def test_a_delay_queue_sends_its_messages_back_when_they_expire():
    made = DELAYS.declare(2000)
    assert (made.queue, made.durable, made.exclusive, made.auto_delete) == (
        "leveret.delay.jobs.2000", True, False, False,
    )  # fmt: skip
    assert made.arguments == {
        "x-message-ttl": 2000,
        "x-expires": 86_402_000,
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": "jobs",
    }


@given(st.text(max_size=255), st.integers(1, 86_400_000 * 365))
def test_a_delay_queue_has_a_name_that_the_broker_takes(queue, delay):
    assert len(DelayQueues(queue[:63]).name(delay).encode()) <= 255
    long = DelayQueues("ü" * 127)
    assert len(long.name(delay).encode()) <= 255
    assert long.name(delay) != DelayQueues("ü" * 126).name(delay)


@pytest.mark.parametrize("attempts", [1, 2, 5])
def test_attempts_are_counted_and_the_origin_is_known(attempts):
    came = Origin.of(after(message(), attempts), DELAYS)
    assert (came.attempts, came.exchange, came.routing_key) == (attempts, "orders", "new")
    assert came.headers == {}


def test_a_waiting_message_is_persistent_and_has_no_life_of_its_own():
    first = message(delivery_mode=1, expiration="5", user_id="ada", priority=3, correlation_id="c")
    waiting = decode_properties(Origin.of(first, DELAYS).waiting("exit status 7"), 0)
    assert (waiting.delivery_mode, waiting.expiration, waiting.user_id) == (2, None, None)
    assert (waiting.priority, waiting.correlation_id) == (3, "c")
    assert (waiting.headers[ATTEMPT], waiting.headers[ERROR]) == (1, "exit status 7")
    came = Origin.of(after(first, 3), DELAYS)
    assert (came.expiration, came.user_id) == ("5", "ada")


def test_headers_that_send_copies_do_so_once():
    first = message(headers={"CC": ["other"], "own": "x"})
    waiting = decode_properties(Origin.of(first, DELAYS).waiting("failed"), 0)
    assert "CC" not in waiting.headers
    assert Origin.of(after(first, 2), DELAYS).headers == {"CC": ["other"], "own": "x"}
    assert (
        "CC" not in decode_properties(Origin.of(after(first, 2), DELAYS).dead(QUEUE, "failed", 0), 0).headers
    )


def test_earlier_deaths_are_out_of_the_brokers_sight_while_a_message_waits():
    earlier = died(message(), QUEUE, target="elsewhere")
    first = earlier.rewritten("", QUEUE, earlier.raw_properties)
    assert Origin.of(first, DELAYS).attempts == 0
    waiting = decode_properties(Origin.of(first, DELAYS).waiting("failed"), 0)
    assert not waiting.headers.keys() & set(DEATHS)
    assert Origin.of(after(first, 2), DELAYS).headers == first.properties.headers


@given(PROPERTIES, st.integers(0, 3))
def test_nothing_that_a_message_came_with_is_lost(properties, attempts):
    reserved = {ATTEMPT, ORIGIN, ERROR, *DEATHS, "CC", "BCC"}
    headers = {name: value for name, value in (properties.headers or {}).items() if name not in reserved}
    first = Message.build("orders", "new", replace(properties, headers=headers), b"body")
    back = after(first, attempts)
    came = Origin.of(back, DELAYS)
    assert typed(came.headers) == typed(headers)
    assert (came.user_id, came.expiration) == (properties.user_id, properties.expiration)
    for name in ("content_type", "priority", "correlation_id", "reply_to", "message_id", "timestamp", "type"):
        assert getattr(back.properties, name) == getattr(properties, name)
    assert back.body == b"body"


def test_a_republished_message_starts_with_no_attempts():
    failed = after(message(), 2)
    assert Origin.of(died(failed, "some.queue"), DELAYS).attempts == 0
    headers = {name: value for name, value in failed.properties.headers.items() if name != "x-death"}
    assert Origin.of(message(headers=headers), DELAYS).attempts == 0


@pytest.mark.parametrize("attempts", [-5, "many", None, 2**70])
def test_headers_that_make_no_sense_do_no_harm(attempts):
    failed = after(message(), 1)
    headers = dict(failed.properties.headers) | {ATTEMPT: attempts if attempts != 2**70 else 2**62}
    assert Origin.of(message(headers=headers), DELAYS).attempts in (0, 2**62)
    assert Origin.of(message(headers=headers | {ORIGIN: "x"}), DELAYS).exchange == "orders"
    assert Origin.of(message(headers={"x-death": "x", ATTEMPT: 3}), DELAYS).attempts == 0


def test_a_dead_letter_says_where_it_came_from_as_a_brokers_does():
    first = message(expiration="60000", headers={"CC": ["other"]}, user_id="ada")
    dead = decode_properties(
        Origin.of(after(first, 2), DELAYS).dead(QUEUE, "exit status 3", 1_700_000_000), 0
    )
    assert dead.headers == {
        "x-death": [
            {
                "count": 1,
                "reason": "rejected",
                "queue": "jobs",
                "time": 1_700_000_000,
                "exchange": "orders",
                "routing-keys": ["new", "other"],
                "original-expiration": "60000",
            }
        ],
        "x-first-death-exchange": "orders",
        "x-first-death-queue": "jobs",
        "x-first-death-reason": "rejected",
        "x-last-death-exchange": "orders",
        "x-last-death-queue": "jobs",
        "x-last-death-reason": "rejected",
        ATTEMPTS: 3,
        ERROR: "exit status 3",
    }
    assert (dead.expiration, dead.user_id, dead.delivery_mode) == (None, None, 2)


def test_a_message_that_fails_for_good_again_counts_it():
    dead = sent(Origin.of(message(), DELAYS).dead(QUEUE, "failed", 1), "dead")
    again = decode_properties(Origin.of(after(dead, 1), DELAYS).dead(QUEUE, "failed", 2), 0)
    (death,) = again.headers["x-death"]
    assert (death["count"], death["time"]) == (2, 2)


def test_other_deaths_stay_behind_the_last_one():
    elsewhere = died(message(), "elsewhere", target="new")
    dead = decode_properties(Origin.of(after(elsewhere, 2), DELAYS).dead(QUEUE, "failed", 1), 0)
    assert [each["queue"] for each in dead.headers["x-death"]] == ["jobs", "elsewhere"]
    assert dead.headers["x-first-death-queue"] == "elsewhere"
    assert dead.headers["x-last-death-queue"] == "jobs"
