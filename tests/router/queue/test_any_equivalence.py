"""Declaring an exchange again. Texts are RabbitMQ 3.10's."""

# ruff: noqa: E501 - a refusal and its text stand on one line

import pytest

from leveret.protocol.amqp.table import Long
from leveret.protocol.errors import PreconditionFailed
from leveret.router.exchange.direct import DirectExchange
from leveret.router.exchange.equivalence import check_exchange_equivalence

SAME = {"kind": "direct", "durable": True, "auto_delete": False, "internal": False, "arguments": {}}

ONCE = {"x-message-deduplication": True}


def again(current: dict[str, object], **changes: object) -> None:
    exchange = DirectExchange("x", durable=True, arguments=current)
    check_exchange_equivalence(exchange, "/", **{**SAME, **changes})


@pytest.mark.parametrize(
    ("current", "changes", "name", "text"),
    [
        ({}, {"kind": "fanout", "durable": False}, "type", "received 'fanout' but current is 'direct'"),
        ({}, {"durable": False, "internal": True}, "durable", "received 'false' but current is 'true'"),
        ({}, {"auto_delete": True, "internal": True}, "auto_delete", "received 'true' but current is 'false'"),
        ({}, {"internal": True, "arguments": {"alternate-exchange": "a"}}, "internal", "received 'true' but current is 'false'"),
        ({}, {"arguments": {"alternate-exchange": "a"}}, "alternate-exchange", "received the value 'a' of type 'longstr' but current is none"),
        ({}, {"arguments": {"alternate-exchange": 5}}, "alternate-exchange", "received the value '5' of type 'signedint' but current is none"),
        ({"alternate-exchange": "a"}, {}, "alternate-exchange", "received none but current is the value 'a' of type 'longstr'"),
        ({"alternate-exchange": "a"}, {"arguments": {"alternate-exchange": "b"}}, "alternate-exchange", "received 'b' but current is 'a'"),
        ({}, {"arguments": ONCE}, "x-message-deduplication", "received the value 'true' of type 'bool' but current is none"),
        (ONCE, {}, "x-message-deduplication", "received none but current is the value 'true' of type 'bool'"),
        (ONCE, {"arguments": {"x-message-deduplication": False}}, "x-message-deduplication", "received 'false' but current is 'true'"),
        ({**ONCE, "x-cache-size": 5}, {"arguments": {**ONCE, "x-cache-size": 6}}, "x-cache-size", "received '6' but current is '5'"),
        (ONCE, {"arguments": {**ONCE, "x-cache-ttl": 6}}, "x-cache-ttl", "received the value '6' of type 'signedint' but current is none"),
        ({**ONCE, "x-deduplication-header": "a"}, {"arguments": {**ONCE, "x-deduplication-header": "b"}}, "x-deduplication-header", "received 'b' but current is 'a'"),
        ({}, {"arguments": {**ONCE, "alternate-exchange": "a"}}, "alternate-exchange", "received the value 'a' of type 'longstr' but current is none"),
    ],
)  # fmt: skip
def test_inequivalent_exchange(current, changes, name, text):
    with pytest.raises(PreconditionFailed) as caught:
        again(current, **changes)
    assert (
        str(caught.value)
        == f"PRECONDITION_FAILED - inequivalent arg '{name}' for exchange 'x' in vhost '/': {text}"
    )


@pytest.mark.parametrize(
    ("current", "received"),
    [
        ({}, {}),
        ({}, {"x-other": 1}),
        ({"alternate-exchange": ""}, {"alternate-exchange": ""}),
        ({**ONCE, "x-cache-size": 5}, {**ONCE, "x-cache-size": Long(5)}),
    ],
)
def test_equivalent_exchange(current, received):
    again(current, arguments=received)
