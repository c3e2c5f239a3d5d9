"""Queues declared again: which differences are refused. Texts are RabbitMQ 3.10's."""

# ruff: noqa: E501 - a refusal and its text stand on one line

from dataclasses import dataclass, field
from typing import Any

import pytest

from leveret.protocol.errors import AmqpError, PreconditionFailed, ResourceLocked
from leveret.router.arguments.queue import QueueArguments, parse_arguments
from leveret.router.queue.equivalence import check_queue_equivalence

QUORUM = {"x-queue-type": "quorum"}


@dataclass
class Declared:
    arguments: dict[str, Any] = field(default_factory=dict)
    name: str = "q"
    vhost: str = "/"
    durable: bool = True
    auto_delete: bool = False
    owner: object | None = None

    @property
    def settings(self) -> QueueArguments:
        return parse_arguments(
            self.arguments,
            vhost="/",
            queue="q",
            durable=True,
            exclusive=False,
            auto_delete=False,
            default_delivery_limit=20,
        )


def again(queue: Declared, arguments: dict[str, Any], **properties: bool) -> None:
    check_queue_equivalence(
        queue,
        **{"durable": True, "exclusive": False, "auto_delete": False, **properties},
        arguments=arguments,
    )


@pytest.mark.parametrize(
    ("current", "received", "name", "text"),
    [
        ({"x-message-ttl": 5}, {}, "x-message-ttl", "received none but current is the value '5' of type 'signedint'"),
        ({}, {"x-message-ttl": 5}, "x-message-ttl", "received the value '5' of type 'signedint' but current is none"),
        ({}, {"x-message-ttl": 1 << 32}, "x-message-ttl", "received the value '4294967296' of type 'long' but current is none"),
        ({"x-message-ttl": 5}, {"x-message-ttl": 6}, "x-message-ttl", "received '6' but current is '5'"),
        ({"x-message-ttl": 5}, {"x-message-ttl": -5}, "x-message-ttl", "received '-5' but current is '5'"),
        ({"x-message-ttl": 5}, {"x-message-ttl": "5"}, "x-message-ttl", "received '5' but current is '5'"),
        ({"x-message-ttl": 1}, {"x-message-ttl": True}, "x-message-ttl", "received 'true' but current is '1'"),
        ({}, {"x-message-ttl": "a"}, "x-message-ttl", "received the value 'a' of type 'longstr' but current is none"),
        ({"x-message-ttl": 5, "x-expires": 8}, {"x-message-ttl": 6, "x-expires": 9}, "x-expires", "received '9' but current is '8'"),
        ({"x-dead-letter-exchange": "a"}, {"x-dead-letter-exchange": "b"}, "x-dead-letter-exchange", "received 'b' but current is 'a'"),
        ({}, {"x-single-active-consumer": False}, "x-single-active-consumer", "received the value 'false' of type 'bool' but current is none"),
        ({"x-max-length": 5}, {"x-max-length": [1, {"a": "b"}]}, "x-max-length", """received '[{signedint,1},{table,[{<<"a">>,longstr,<<"b">>}]}]' but current is '5'"""),
        ({}, QUORUM, "x-queue-type", "received the value 'quorum' of type 'longstr' but current is none"),
        ({}, {**QUORUM, "x-max-priority": 1}, "x-max-priority", "received the value '1' of type 'signedint' but current is none"),
        (QUORUM, {}, "x-queue-type", "received none but current is the value 'quorum' of type 'longstr'"),
        (QUORUM, {"x-queue-type": "classic"}, "x-queue-type", "received 'classic' but current is 'quorum'"),
        ({**QUORUM, "x-delivery-limit": 5}, {**QUORUM, "x-delivery-limit": 6}, "x-delivery-limit", "received '6' but current is '5'"),
    ],
)  # fmt: skip
def test_inequivalent_arguments(current, received, name, text):
    with pytest.raises(PreconditionFailed) as caught:
        again(Declared(current), received)
    assert (
        str(caught.value)
        == f"PRECONDITION_FAILED - inequivalent arg '{name}' for queue 'q' in vhost '/': {text}"
    )


@pytest.mark.parametrize(
    ("current", "received"),
    [
        ({}, {}),
        ({}, {"x-queue-type": "classic"}),
        ({"x-queue-type": "classic"}, {}),
        (QUORUM, QUORUM),
        ({"x-unknown": 5}, {"x-unknown": []}),
        ({}, {"x-consumer-timeout": 6}),
        (QUORUM, {**QUORUM, "x-max-priority": 1}),
        ({"x-message-ttl": 5, "x-expires": 6}, {"x-expires": 6, "x-message-ttl": 5}),
    ],
)
def test_equivalent_arguments(current, received):
    again(Declared(current), received)


@pytest.mark.parametrize(
    ("properties", "error", "text"),
    [
        ({"durable": False}, PreconditionFailed, "inequivalent arg 'durable' for queue 'q' in vhost '/': received 'false' but current is 'true'"),
        ({"auto_delete": True}, PreconditionFailed, "inequivalent arg 'auto_delete' for queue 'q' in vhost '/': received 'true' but current is 'false'"),
        ({"durable": False, "auto_delete": True}, PreconditionFailed, "inequivalent arg 'durable' for"),
        ({"exclusive": True, "durable": False}, ResourceLocked, "cannot obtain exclusive access to locked queue 'q' in vhost '/'. It could be originally declared on another connection or the exclusive property value does not match that of the original declaration."),
    ],
)  # fmt: skip
def test_inequivalent_properties(properties, error, text):
    with pytest.raises(AmqpError) as caught:
        again(Declared(), {"x-message-ttl": 5}, **properties)
    assert type(caught.value) is error
    assert text in str(caught.value)


def test_owner_cannot_declare_its_exclusive_queue_as_shared():
    with pytest.raises(ResourceLocked):
        again(Declared(owner=object()), {})
    again(Declared(owner=object()), {}, exclusive=True)
