"""A long selector is compiled in several turns, whichever way it comes in."""

import json
from collections.abc import Iterator
from math import inf

import pytest

from leveret.protocol.amqp import methods as m
from leveret.router.definitions import import_definitions, parse_definitions
from tests.router.amqp.world import World
from tests.router.management.api import Api
from tests.router.stomp.client import StompClient

SELECTOR = " OR ".join(f"h{number} = 'value'" for number in range(200))
ARGUMENTS = {"x-selector": SELECTOR}
STREAM = {"x-queue-type": "stream"}


@pytest.fixture
def world(monkeypatch):
    world = World()
    world.vhost.declare_queue("q", durable=True)
    world.vhost.declare_queue("s", durable=True, arguments=STREAM)
    return world


def turns(world: World) -> int:
    """Run turns of one slice each until no work is left; return their number."""
    count = 1
    while world.broker.scheduler.end_batch():
        count += 1
    return count


def one_slice_a_turn(world: World) -> None:
    world.broker.budget.clock = lambda: inf
    world.flush = lambda: None


def consume(queue: str) -> m.BasicConsume:
    return m.BasicConsume(queue, "c", arguments=ARGUMENTS)


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        (m.QueueBind("q", "amq.topic", "a", arguments=ARGUMENTS), m.QueueBindOk()),
        (m.ExchangeBind("amq.fanout", "amq.topic", "a", arguments=ARGUMENTS), m.ExchangeBindOk()),
        (consume("s"), m.BasicConsumeOk("c")),
    ],
    ids=["queue.bind", "exchange.bind", "basic.consume"],
)
def test_selector_of_an_amqp_method_takes_several_turns(world, method, answer):
    client = world.connect()
    client.call(m.BasicQos(0, 10, False))
    one_slice_a_turn(world)
    client.send(method)
    assert turns(world) > 5
    client.expect(answer)


@pytest.mark.parametrize(
    ("destination", "headers"),
    [
        ("/topic/a", {}),
        ("/exchange/amq.fanout", {}),
        ("/amq/queue/s", {"ack": "client", "prefetch_count": "9"}),
    ],
)
def test_selector_of_a_stomp_subscription_takes_several_turns(world, destination, headers):
    client = StompClient(world).open()
    one_slice_a_turn(world)
    client.send("SUBSCRIBE", destination=destination, id="1", receipt="done", x_selector=SELECTOR, **headers)
    assert client.received() == []
    assert turns(world) > 5
    assert client.receipts() == ["done"]


BINDING = {"source": "amq.topic", "vhost": "/", "destination": "q", "destination_type": "queue"}


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/bindings/%2F/e/amq.topic/q/q", {"routing_key": "a", "arguments": ARGUMENTS}),
        ("POST", "/bindings/%2F/e/amq.topic/e/amq.fanout", {"routing_key": "a", "arguments": ARGUMENTS}),
        ("GET", f"/queues/%2F/q/messages?selector={SELECTOR.replace(' ', '+').replace('=', '%3D')}", None),
        ("POST", "/queues/%2F/q/messages/delete", {"selector": SELECTOR}),
    ],
    ids=["bind a queue", "bind an exchange", "browse", "delete"],
)
def test_selector_of_a_request_takes_several_steps(method, path, body):
    api = Api()
    api.node.queue("q")
    told = api.ask(method, path, body)
    assert told.status < 300
    assert told.pauses > 5


def test_selector_in_definitions_takes_several_steps(world):
    entry = {**BINDING, "routing_key": "a", "arguments": ARGUMENTS}
    definitions = parse_definitions(json.dumps({"bindings": [entry]}).encode())
    steps: Iterator[None] = import_definitions(world.broker, definitions)
    assert sum(1 for _ in steps) > 5
    assert [each.selector.text for each in world.vhost.exchange("amq.topic").snapshot()] == [SELECTOR]


def test_consumer_of_a_stream_deleted_while_its_selector_is_compiled_is_refused(world):
    client = world.connect()
    client.call(m.BasicQos(0, 10, False))
    one_slice_a_turn(world)
    client.send(consume("s"))
    world.vhost.delete_queue(world.vhost.queues["s"])
    turns(world)
    assert client.take(m.ChannelClose).reply_code == 404


def test_connection_that_ends_while_its_selector_is_compiled_leaves_no_consumer(world):
    client = world.connect()
    client.call(m.BasicQos(0, 10, False))
    one_slice_a_turn(world)
    client.send(consume("s"))
    client.transport.connection.lost()
    turns(world)
    assert len(world.vhost.queues["s"].consumers) == 0
