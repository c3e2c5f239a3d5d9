"""Queue arguments: what is refused, what holds under a policy, what may not change. Texts are RabbitMQ
3.10's.
"""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leveret.protocol.amqp.table import Timestamp
from leveret.protocol.errors import PreconditionFailed
from leveret.router.arguments.checks import EXPIRY_MAX, parse_age
from leveret.router.arguments.queue import QueueArguments, merge_policy, parse_arguments

QUORUM = {"x-queue-type": "quorum"}
STREAM = {"x-queue-type": "stream"}


def parse(
    arguments: dict[str, Any], *, durable=True, exclusive=False, auto_delete=False, limit=20
) -> QueueArguments:
    return parse_arguments(
        arguments,
        vhost="/",
        queue="q",
        durable=durable,
        exclusive=exclusive,
        auto_delete=auto_delete,
        default_delivery_limit=limit,
    )


def refusal(arguments: dict[str, Any], **properties: bool) -> str:
    with pytest.raises(PreconditionFailed) as caught:
        parse(arguments, **properties)
    return str(caught.value).removeprefix("PRECONDITION_FAILED - ")


def test_no_arguments_say_nothing():
    assert parse({}) == QueueArguments()


def test_every_argument_of_a_classic_queue_is_taken():
    assert parse(
        {
            "x-queue-type": "classic",
            "x-message-ttl": 0,
            "x-expires": EXPIRY_MAX,
            "x-max-length": 0,
            "x-max-length-bytes": 1 << 40,
            "x-overflow": "reject-publish-dlx",
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": "k",
            "x-max-priority": 255,
            "x-single-active-consumer": True,
            "x-consumer-timeout": 60000,
            "x-queue-mode": "lazy",
            "x-queue-version": 2,
            "x-queue-master-locator": "min-masters",
            "x-something-else": [1],
        }
    ) == QueueArguments(
        message_ttl=0,
        expires=EXPIRY_MAX,
        max_length=0,
        max_length_bytes=1 << 40,
        overflow="reject-publish-dlx",
        dead_letter_exchange="",
        dead_letter_routing_key="k",
        max_priority=255,
        single_active_consumer=True,
        consumer_timeout=60000,
    )


@pytest.mark.parametrize(
    ("arguments", "limit", "given"),
    [
        ({}, 20, False),
        ({"x-delivery-limit": 3}, 3, True),
        ({"x-delivery-limit": 0}, 0, True),
        ({"x-delivery-limit": -1}, None, True),
    ],
)
def test_delivery_limit_of_a_quorum_queue(arguments, limit, given):
    parsed = parse({**QUORUM, **arguments})
    assert (parsed.delivery_limit, parsed.delivery_limit_given) == (limit, given)


def test_default_delivery_limit_may_be_none_and_is_not_for_classic_queues():
    assert parse(QUORUM, limit=-1).delivery_limit is None
    assert parse({}).delivery_limit is None


def test_quorum_queue_drops_from_the_head_instead_of_reject_publish_dlx():
    assert parse({**QUORUM, "x-overflow": "reject-publish-dlx"}).overflow == "drop-head"


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("a", "longstr"),
        (True, "bool"),
        ([1], "array"),
        ({"a": 1}, "table"),
        (None, "void"),
        (Decimal("1.5"), "decimal"),
        (Timestamp(1), "timestamp"),
        (b"a", "binary"),
        (1.5, "double"),
    ],
)
@pytest.mark.parametrize(
    "name",
    [
        "x-message-ttl",
        "x-expires",
        "x-max-length",
        "x-max-length-bytes",
        "x-max-priority",
        "x-queue-version",
        "x-consumer-timeout",
    ],
)
def test_what_must_be_an_integer(name, value, kind):
    assert (
        refusal({name: value})
        == f"invalid arg '{name}' for queue 'q' in vhost '/': \"expected integer, got {kind}\""
    )


@pytest.mark.parametrize(
    ("arguments", "name", "error"),
    [
        ({"x-message-ttl": -1}, "x-message-ttl", "{value_negative,-1}"),
        ({"x-message-ttl": 1 << 40}, "x-message-ttl", "{value_too_large,1099511627776}"),
        ({"x-message-ttl": EXPIRY_MAX + 1}, "x-message-ttl", "{value_too_large,315360000001}"),
        ({"x-expires": 0}, "x-expires", "{value_zero,0}"),
        ({"x-expires": -1}, "x-expires", "{value_negative,-1}"),
        ({"x-expires": 1 << 40}, "x-expires", "{value_too_large,1099511627776}"),
        ({"x-max-length": -1}, "x-max-length", "{value_negative,-1}"),
        ({"x-max-length-bytes": -2}, "x-max-length-bytes", "{value_negative,-2}"),
        ({"x-max-priority": 256}, "x-max-priority", "{max_value_exceeded,256}"),
        ({"x-max-priority": -1}, "x-max-priority", "{value_negative,-1}"),
        ({"x-overflow": "a"}, "x-overflow", "invalid_overflow"),
        ({"x-overflow": 5}, "x-overflow", "{unacceptable_type,signedint}"),
        ({"x-overflow": [1]}, "x-overflow", "{unacceptable_type,array}"),
        ({"x-dead-letter-routing-key": "a"}, "x-dead-letter-routing-key", "routing_key_but_no_dlx_defined"),
        ({"x-dead-letter-routing-key": 5}, "x-dead-letter-routing-key", "{unacceptable_type,signedint}"),
        ({"x-single-active-consumer": "a"}, "x-single-active-consumer", "{unacceptable_type,longstr}"),
        ({"x-single-active-consumer": 1 << 40}, "x-single-active-consumer", "{unacceptable_type,long}"),
        ({"x-queue-mode": "a"}, "x-queue-mode", "\"unsupported queue mode 'a'\""),
        ({"x-queue-mode": 5}, "x-queue-mode", "{unacceptable_type,signedint}"),
        ({"x-queue-version": 5}, "x-queue-version", "\"unsupported queue version '5'\""),
        ({"x-queue-type": "a"}, "x-queue-type", "\"unsupported queue type 'a'\""),
        ({"x-queue-type": ""}, "x-queue-type", "\"unsupported queue type ''\""),
        ({"x-queue-type": 5}, "x-queue-type", "{unacceptable_type,signedint}"),
        ({"x-queue-type": "a", "x-expires": 0}, "x-queue-type", "\"unsupported queue type 'a'\""),
        ({"x-message-ttl": -1, "x-expires": 0}, "x-expires", "{value_zero,0}"),
        ({**QUORUM, "x-dead-letter-strategy": "a"}, "x-dead-letter-strategy", "invalid_dlx_strategy"),
        ({**QUORUM, "x-dead-letter-strategy": 5}, "x-dead-letter-strategy", "{unacceptable_type,signedint}"),
        ({**QUORUM, "x-max-in-memory-length": -1}, "x-max-in-memory-length", "{value_negative,-1}"),
        ({**QUORUM, "x-quorum-initial-group-size": 0}, "x-quorum-initial-group-size", "{value_zero,0}"),
        ({"x-queue-master-locator": "balanced"}, "x-queue-master-locator", "invalid_queue_locator_arg"),
        (
            {**QUORUM, "x-queue-leader-locator": "min-masters"},
            "x-queue-leader-locator",
            "invalid_queue_locator_arg",
        ),
        ({**QUORUM, "x-queue-leader-locator": "a"}, "x-queue-leader-locator", "invalid_queue_locator_arg"),
        ({**QUORUM, "x-queue-leader-locator": 5}, "x-queue-leader-locator", "{unacceptable_type,signedint}"),
        ({**QUORUM, "x-expires": 0, "x-max-priority": 1}, "x-expires", "{value_zero,0}"),
        ({**QUORUM, "x-delivery-limit": "5"}, "x-delivery-limit", '"expected integer, got longstr"'),
        ({**STREAM, "x-max-age": 5}, "x-max-age", "{unacceptable_type,signedint}"),
        *(
            ({**STREAM, "x-max-age": age}, "x-max-age", "invalid_max_age")
            for age in ("", "h", "5", "0h", "1x", "1.5h", "-1h", "1hh", " 1h")
        ),
        ({**STREAM, "x-max-length-bytes": -1}, "x-max-length-bytes", "{value_negative,-1}"),
        (
            {**STREAM, "x-stream-max-segment-size-bytes": "a"},
            "x-stream-max-segment-size-bytes",
            '"expected integer, got longstr"',
        ),
        (
            {**STREAM, "x-stream-filter-size-bytes": 15},
            "x-stream-filter-size-bytes",
            "{value_out_of_range,15}",
        ),
        ({**STREAM, "x-initial-cluster-size": 0}, "x-initial-cluster-size", "{value_zero,0}"),
    ],
)
def test_refused_values(arguments, name, error):
    assert refusal(arguments) == f"invalid arg '{name}' for queue 'q' in vhost '/': {error}"


@pytest.mark.parametrize(
    ("arguments", "name", "queue_type"),
    [
        ({"x-delivery-limit": 5}, "x-delivery-limit", "classic"),
        ({"x-dead-letter-strategy": "at-least-once"}, "x-dead-letter-strategy", "classic"),
        ({"x-quorum-initial-group-size": 5}, "x-quorum-initial-group-size", "classic"),
        ({"x-queue-leader-locator": "a"}, "x-queue-leader-locator", "classic"),
        ({"x-max-in-memory-length": 5}, "x-max-in-memory-length", "classic"),
        ({"x-max-age": 5}, "x-max-age", "classic"),
        ({**QUORUM, "x-max-priority": "a"}, "x-max-priority", "quorum"),
        ({**QUORUM, "x-queue-mode": "lazy", "x-max-priority": 1}, "x-queue-mode", "quorum"),
        ({**QUORUM, "x-queue-master-locator": "min-masters"}, "x-queue-master-locator", "quorum"),
        ({**QUORUM, "x-initial-cluster-size": 1}, "x-initial-cluster-size", "quorum"),
        ({"x-stream-filter-size-bytes": 16}, "x-stream-filter-size-bytes", "classic"),
        *(
            ({**STREAM, name: value}, name, "stream")
            for name, value in (
                ("x-max-length", 5),
                ("x-message-ttl", 5),
                ("x-expires", 5000),
                ("x-max-priority", 5),
                ("x-dead-letter-exchange", ""),
                ("x-overflow", "drop-head"),
                ("x-single-active-consumer", True),
                ("x-delivery-limit", 3),
                ("x-queue-mode", "lazy"),
            )
        ),
    ],
)
def test_arguments_of_another_queue_type(arguments, name, queue_type):
    assert (
        refusal(arguments)
        == f"invalid arg '{name}' for queue 'q' in vhost '/' of queue type rabbit_{queue_type}_queue"
    )


def test_dead_letter_exchange_must_be_a_string():
    assert (
        refusal({"x-dead-letter-exchange": 5, "x-queue-type": "a"})
        == "invalid type 'signedint' for arg 'x-dead-letter-exchange' in queue 'q' in vhost '/'"
    )


@pytest.mark.parametrize(
    ("properties", "name"),
    [
        ({"durable": False}, "non-durable"),
        ({"exclusive": True}, "exclusive-owner"),
        ({"auto_delete": True}, "auto-delete"),
        ({"durable": False, "exclusive": True}, "exclusive-owner"),
        ({"auto_delete": True, "exclusive": True}, "auto-delete"),
    ],
)
@pytest.mark.parametrize("arguments", [QUORUM, STREAM])
def test_quorum_queues_and_streams_are_durable_shared_and_stay(arguments, properties, name):
    assert refusal(arguments, **properties) == f"invalid property '{name}' for queue 'q' in vhost '/'"


def test_files_of_a_stream_have_a_largest_size_and_it_is_looked_at_last():
    name = "x-stream-max-segment-size-bytes"
    assert parse({**STREAM, name: 3_000_000_000}).stream_segment_size == 3_000_000_000
    assert refusal({**STREAM, name: 3_000_000_001}) == f"Exceeded max value for {name}"
    assert "x-max-age" in refusal({**STREAM, name: 3_000_000_001, "x-max-age": "nope"})


@pytest.mark.parametrize(
    ("age", "ms"),
    [("1s", 1000), ("2m", 120_000), ("3h", 10_800_000), ("7D", 604_800_000), ("1M", 2_592_000_000),
     ("1Y", 31_536_000_000)],
)  # fmt: skip
def test_arguments_of_a_stream_are_parsed(age, ms):
    arguments = {**STREAM, "x-max-age": age, "x-max-length-bytes": 9, "x-stream-max-segment-size-bytes": 0}
    settings = parse({**arguments, "x-stream-filter-size-bytes": 32})
    assert (settings.max_age, settings.max_length_bytes) == (ms, 9)
    assert (settings.stream_segment_size, settings.stream_filter_size) == (0, 32)


# -- policies
# -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "policy", "attribute", "value"),
    [
        ({}, {"message-ttl": 5}, "message_ttl", 5),
        ({"x-message-ttl": 5}, {"message-ttl": 9}, "message_ttl", 5),
        ({"x-message-ttl": 9}, {"message-ttl": 5}, "message_ttl", 5),
        ({"x-message-ttl": 0}, {"message-ttl": 5}, "message_ttl", 0),
        ({"x-expires": 9}, {"expires": 5}, "expires", 5),
        ({"x-max-length": 9}, {"max-length": 0}, "max_length", 0),
        ({"x-max-length-bytes": 9}, {"max-length-bytes": 5}, "max_length_bytes", 5),
        ({"x-consumer-timeout": 9}, {"consumer-timeout": 5}, "consumer_timeout", 5),
        ({}, {"overflow": "reject-publish"}, "overflow", "reject-publish"),
        ({"x-overflow": "drop-head"}, {"overflow": "reject-publish"}, "overflow", "drop-head"),
        ({**QUORUM, "x-overflow": "drop-head"}, {"overflow": "reject-publish"}, "overflow", "reject-publish"),
        (QUORUM, {"overflow": "reject-publish-dlx"}, "overflow", "drop-head"),
        ({"x-dead-letter-exchange": ""}, {"dead-letter-exchange": "p"}, "dead_letter_exchange", ""),
        ({}, {"dead-letter-exchange": "p"}, "dead_letter_exchange", "p"),
        ({"x-dead-letter-exchange": "a"}, {"dead-letter-routing-key": "p"}, "dead_letter_routing_key", "p"),
        (QUORUM, {"delivery-limit": 50}, "delivery_limit", 50),
        (QUORUM, {"delivery-limit": -1}, "delivery_limit", None),
        ({**QUORUM, "x-delivery-limit": 9}, {"delivery-limit": 5}, "delivery_limit", 5),
        ({**QUORUM, "x-delivery-limit": 5}, {"delivery-limit": 9}, "delivery_limit", 5),
        ({**QUORUM, "x-delivery-limit": 5}, {"delivery-limit": -1}, "delivery_limit", 5),
        ({**QUORUM, "x-delivery-limit": -1}, {"delivery-limit": 9}, "delivery_limit", 9),
        ({}, {"delivery-limit": 9}, "delivery_limit", None),
        ({"x-max-priority": 3}, {"max-priority": 9, "alternate-exchange": "a"}, "max_priority", 3),
    ],
)
def test_effective_value_under_a_policy(arguments, policy, attribute, value):
    assert getattr(merge_policy(parse(arguments), policy), attribute) == value


@given(own=st.none() | st.integers(0, 100), policy=st.integers(0, 100))
def test_a_policy_never_raises_a_limit(own, policy):
    merged = merge_policy(QueueArguments(max_length=own), {"max-length": policy})
    assert merged.max_length is not None
    assert merged.max_length <= policy
    assert own is None or merged.max_length <= own


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("7D", 7 * 86_400_000),
        ("007D", 7 * 86_400_000),
        ("0000000000000007D", 7 * 86_400_000),
        ("1s", 1000),
        ("0" * 5000 + "7D", 7 * 86_400_000),
        ("1000000Y", 1_000_000 * 365 * 86_400_000),
        ("9" * 16 + "s", None),
        ("9" * 5000 + "Y", None),
        ("0D", None),
        ("", None),
        ("7", None),
        ("-7D", None),
        ("7d", None),
        (" 7D", None),
        ("7D ", None),
    ],
)
def test_ages_are_parsed_or_refused(text, ms):
    assert parse_age(text) == ms
