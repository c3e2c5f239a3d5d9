"""The arguments of queues as headers: those of AMQP, each from the header of its name."""

import pytest

from leveret.protocol.stomp.errors import StompError
from leveret.protocol.stomp.frames import Frame
from leveret.router.arguments.table import QUEUE_ARGUMENTS
from leveret.router.stomp.queues import queue_arguments

TEXTS = {int: "7", bool: "True", str: " text "}
VALUES = {int: 7, bool: True, str: "text"}
DECLARING = ("SUBSCRIBE", "SEND")


@pytest.mark.parametrize("command", DECLARING)
@pytest.mark.parametrize("name", QUEUE_ARGUMENTS)
def test_every_queue_argument_is_a_header_or_left_out_with_a_reason(command, name):
    kind = QUEUE_ARGUMENTS[name].kind
    found = queue_arguments(Frame(command, {name: TEXTS[kind]}))
    is_left_out = command == "SEND" and QUEUE_ARGUMENTS[name].not_in_send != ""
    assert found == ({} if is_left_out else {name: VALUES[kind]})


@pytest.mark.parametrize("name", [name for name, row in QUEUE_ARGUMENTS.items() if row.kind is not str])
def test_an_invalid_argument_is_refused_with_the_header_name(name):
    with pytest.raises(StompError) as refused:
        queue_arguments(Frame("SUBSCRIBE", {name: "wrong"}))
    assert f"'{name}' must be" in refused.value.detail


def test_a_named_consumer_takes_single_active_consumer_for_itself():
    headers = {"x-single-active-consumer": "true", "x-stream-consumer-name": "n"}
    assert queue_arguments(Frame("SUBSCRIBE", headers)) == {}


@pytest.mark.parametrize("requeue", ["false", "False", "FALSE"])
def test_nack_without_requeue_in_any_case_gives_the_message_up(world, connect, requeue):
    client = connect()
    client.subscribe(ack="client")
    client.publish("1")
    client.send("NACK", id=client.take("MESSAGE").headers["ack"], requeue=requeue)
    assert client.received() == []
    assert not len(world.vhost.queues["q"].ready)


def test_a_queue_with_deduplication_is_declared_and_drops_duplicates(connect):
    client = connect()
    client.subscribe(x_message_deduplication="true", x_cache_size="10", x_queue_version="2")
    for body in ("1", "2"):
        client.publish(body, "/amq/queue/q", x_deduplication_header="same")
    assert client.bodies() == ["1"]
