"""Policies and operator policies that come to queues and exchanges that are there, and leave them again."""

import html
import time

import pytest

from conformance.access.conftest import Managed


def policy(definition, *, pattern="^q", priority=0, apply_to="all"):
    return {"pattern": pattern, "definition": definition, "priority": priority, "apply-to": apply_to}


@pytest.fixture
def channel(guest):
    channel = guest.channel()
    channel.confirm_delivery()
    return channel


def publish(channel, count, exchange="", key="q"):
    for number in range(count):
        channel.basic_publish(exchange, key, b"%d" % number)


def depth(channel, queue="q") -> int:
    return channel.queue_declare(queue, passive=True).method.message_count


def comes(count: int, channel, queue="q") -> None:
    """Wait until a queue has as many messages: RabbitMQ brings policies to queues a moment later."""
    deadline = time.monotonic() + 10
    while depth(channel, queue) != count:
        assert time.monotonic() < deadline, depth(channel, queue)
        time.sleep(0.05)


def settle(managed: Managed) -> None:
    """Wait until a policy is applied. RabbitMQ answers before that, leveret after it."""
    if managed.name == "rabbitmq":
        time.sleep(0.5)


def test_length_limit_holds_for_what_is_there(managed: Managed, vhost, channel):
    channel.queue_declare("q", arguments={"x-max-length": 8})
    publish(channel, 8)
    managed.do("PUT", "policies", vhost, "p", body=policy({"max-length": 5}))
    comes(5, channel)
    managed.do("PUT", "operator-policies", vhost, "o", body=policy({"max-length": 3}))
    comes(3, channel)
    managed.do("DELETE", "operator-policies", vhost, "o")
    settle(managed)
    publish(channel, 5)
    comes(5, channel)
    managed.do("DELETE", "policies", vhost, "p")
    settle(managed)
    publish(channel, 9)
    comes(8, channel)


@pytest.mark.parametrize(
    ("argument", "limits", "kept"),
    [
        (None, {"policies": 6, "operator-policies": None}, 6),
        (4, {"policies": 6, "operator-policies": None}, 4),
        (6, {"policies": 4, "operator-policies": None}, 4),
        (None, {"policies": 6, "operator-policies": 4}, 4),
        (None, {"policies": 4, "operator-policies": 6}, 4),
        (5, {"policies": None, "operator-policies": 4}, 4),
        (4, {"policies": None, "operator-policies": 6}, 4),
        (3, {"policies": 5, "operator-policies": 4}, 3),
    ],
)
def test_the_smallest_of_limits_holds(managed: Managed, channel, argument, limits, kept):
    vhost = channel.connection._impl.params.virtual_host
    for kind, limit in limits.items():
        if limit is not None:
            managed.do("PUT", kind, vhost, "p", body=policy({"max-length": limit}))
    settle(managed)
    channel.queue_declare("q", arguments={} if argument is None else {"x-max-length": argument})
    publish(channel, 9)
    comes(kept, channel)


def test_the_policy_of_the_highest_priority_holds_alone(managed: Managed, vhost, channel):
    channel.queue_declare("q")
    managed.do("PUT", "policies", vhost, "low", body=policy({"max-length": 2}, priority=1))
    managed.do("PUT", "policies", vhost, "high", body=policy({"message-ttl": 600_000}, priority=2))
    settle(managed)
    publish(channel, 4)
    assert depth(channel) == 4


def test_a_policy_for_exchanges_says_nothing_to_queues(managed: Managed, vhost, channel):
    channel.queue_declare("q")
    managed.do("PUT", "policies", vhost, "p", body=policy({"max-length": 2}, apply_to="exchanges"))
    settle(managed)
    publish(channel, 4)
    assert depth(channel) == 4


def test_look_ahead_in_a_pattern(managed: Managed, vhost, channel):
    for name in ("q", "amq-like"):
        channel.queue_declare(name)
    managed.do("PUT", "policies", vhost, "p", body=policy({"max-length": 1}, pattern="^(?!amq).*"))
    settle(managed)
    for name in ("q", "amq-like"):
        publish(channel, 3, key=name)
    comes(1, channel)
    assert depth(channel, "amq-like") == 3


def test_dead_letters_by_policy(managed: Managed, vhost, channel):
    channel.queue_declare("q")
    channel.queue_declare("dead")
    publish(channel, 2)
    definition = {"dead-letter-exchange": "", "dead-letter-routing-key": "dead", "max-length": 1}
    managed.do("PUT", "policies", vhost, "p", body=policy(definition))
    comes(1, channel)
    comes(1, channel, "dead")


def test_an_argument_wins_over_the_policys_dead_letter_exchange(managed: Managed, vhost, channel):
    arguments = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "own", "x-max-length": 1}
    channel.queue_declare("q", arguments=arguments)
    for name in ("own", "other"):
        channel.queue_declare(name)
    definition = {"dead-letter-exchange": "", "dead-letter-routing-key": "other"}
    managed.do("PUT", "policies", vhost, "p", body=policy(definition))
    settle(managed)
    publish(channel, 2)
    comes(1, channel, "own")
    assert depth(channel, "other") == 0


def test_alternate_exchange_by_policy(managed: Managed, vhost, channel):
    channel.exchange_declare("x", "direct")
    channel.queue_declare("q")
    channel.queue_bind("q", "amq.fanout")
    definition = {"alternate-exchange": "amq.fanout"}
    body = policy(definition, pattern="^x$", apply_to="exchanges")
    managed.do("PUT", "policies", vhost, "p", body=body)
    settle(managed)
    publish(channel, 1, exchange="x", key="nobody")
    comes(1, channel)
    managed.do("DELETE", "policies", vhost, "p")
    settle(managed)
    publish(channel, 1, exchange="x", key="nobody")
    assert depth(channel) == 1


@pytest.mark.parametrize(
    ("kind", "definition", "told"),
    [
        ("policies", {"odd": 1}, '[{<<"odd">>,1}] are not recognised policy settings'),
        ("policies", {"max-length": -1}, "-1 is not a valid maximum length"),
        ("policies", {"message-ttl": "x"}, '<<"x">> is not a valid message TTL'),
        ("policies", {"overflow": "x"}, '<<"x">> is not a valid overflow value'),
        ("policies", {}, "no policy provided"),
        ("operator-policies", {"dead-letter-exchange": "x"}, "are not recognised policy settings"),
    ],
)
def test_refused_policies(managed: Managed, vhost, kind, definition, told):
    status, answer = managed.call("PUT", kind, vhost, "p", body=policy(definition))
    assert status == 400
    assert told in html.unescape(answer["reason"])  # RabbitMQ escapes these, and only these
