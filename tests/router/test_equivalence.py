"""Declaring an exchange again. Texts are RabbitMQ 3.10's."""

# ruff: noqa: E501 - a refusal and its text stand on one line

import pytest

from protocol.errors import PreconditionFailed
from router.equivalence import check_exchange_equivalence
from router.exchange.direct import DirectExchange

SAME = {"kind": "direct", "durable": True, "auto_delete": False, "internal": False, "arguments": {}}


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
    [({}, {}), ({}, {"x-other": 1}), ({"alternate-exchange": ""}, {"alternate-exchange": ""})],
)
def test_equivalent_exchange(current, received):
    again(current, arguments=received)
