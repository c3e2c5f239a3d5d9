"""Which right each operation asks for: the table of RabbitMQ's page "Access Control"."""

import gc
import weakref

import pytest

from leveret.protocol.amqp import methods as m
from leveret.protocol.amqp.constants import BASIC, EXCHANGE, QUEUE
from leveret.protocol.errors import AccessRefused
from leveret.router.queue.queue import Queue
from leveret.router.turns.backlog import at_once
from tests.router.harness import AnyUser, Client, Node


@pytest.fixture
def node():
    made = Node()
    for name in ("x", "y"):
        made.vhost.declare_exchange(name, "fanout")
    made.vhost.declare_exchange("topic", "topic")
    made.queue()
    return made


def declare_exchange(client: Client, name: str = "new", **arguments: str) -> None:
    client.topology.declare_exchange(
        name,
        "fanout",
        durable=False,
        auto_delete=False,
        internal=False,
        arguments={key.replace("_", "-"): value for key, value in arguments.items()},
    )


def declare_queue(client: Client, name: str = "new", **arguments: str) -> Queue:
    return client.topology.declare_queue(
        name,
        durable=False,
        exclusive=False,
        auto_delete=False,
        arguments={f"x-{key.replace('_', '-')}": value for key, value in arguments.items()},
    )


OPERATIONS = {
    "exchange.declare": (declare_exchange, ["configure exchange new"]),
    "exchange.declare of one that is there": (
        lambda c: declare_exchange(c, "x"),
        ["configure exchange x"],
    ),
    "exchange.declare with alternate": (
        lambda c: declare_exchange(c, alternate_exchange="x"),
        ["configure exchange new", "read exchange new", "write exchange x"],
    ),
    "exchange.declare passive": (lambda c: c.topology.find_exchange("x"), []),
    "exchange.delete": (
        lambda c: c.topology.delete_exchange("x", if_unused=False),
        ["configure exchange x"],
    ),
    "exchange.bind": (
        lambda c: at_once(c.topology.bind_exchange_in_slices("y", "x", "", {})),
        ["write exchange y", "read exchange x"],
    ),
    "exchange.bind to a topic exchange": (
        lambda c: at_once(c.topology.bind_exchange_in_slices("y", "topic", "a.*", {})),
        ["write exchange y", "read exchange topic", "read topic topic a.*"],
    ),
    "exchange.unbind": (
        lambda c: c.topology.unbind_exchange("y", "x", "", {}),
        ["write exchange y", "read exchange x"],
    ),
    "queue.declare": (declare_queue, ["configure queue new"]),
    "queue.declare of one that is there": (lambda c: declare_queue(c, "q"), ["configure queue q"]),
    "queue.declare with dead letters": (
        lambda c: declare_queue(c, dead_letter_exchange="x"),
        ["configure queue new", "read queue new", "write exchange x"],
    ),
    "queue.declare with dead letters by default": (
        lambda c: declare_queue(c, dead_letter_exchange=""),
        ["configure queue new", "read queue new", "write exchange amq.default"],
    ),
    "queue.declare with dead letters of one that is there": (
        lambda c: declare_queue(c, "dead", dead_letter_exchange="x"),
        ["configure queue dead", "read queue dead", "write exchange x"],
    ),
    "queue.declare passive": (lambda c: c.topology.find_queue("q"), []),
    "queue.delete": (
        lambda c: c.topology.delete_queue("q", if_unused=False, if_empty=False),
        ["configure queue q"],
    ),
    "queue.purge": (lambda c: c.topology.purge_queue("q"), ["read queue q"]),
    "queue.bind": (
        lambda c: at_once(c.topology.bind_queue_in_slices("q", "x", "", {})),
        ["write queue q", "read exchange x"],
    ),
    "queue.bind to a topic exchange": (
        lambda c: at_once(c.topology.bind_queue_in_slices("q", "topic", "a.*", {})),
        ["write queue q", "read exchange topic", "read topic topic a.*"],
    ),
    "queue.unbind": (
        lambda c: c.topology.unbind_queue("q", "x", "", {}),
        ["write queue q", "read exchange x"],
    ),
    "basic.publish": (lambda c: c.publish("a", "k", "x"), ["write exchange x"]),
    "basic.publish by default": (lambda c: c.publish("a", "q"), ["write exchange amq.default"]),
    "basic.publish to a topic exchange": (
        lambda c: c.publish("a", "a.b", "topic"),
        ["write exchange topic", "write topic topic a.b"],
    ),
    "basic.consume": (lambda c: c.consume("q"), ["read queue q"]),
    "basic.get": (lambda c: c.get("q"), ["read queue q"]),
    "basic.cancel": (lambda c: c.session.cancel("c"), []),
}
EACH_RIGHT = [
    pytest.param(operation, asked, right, id=f"{name}: {right}")
    for name, (operation, asked) in OPERATIONS.items()
    for right in asked
]


@pytest.mark.parametrize(("operation", "asked"), OPERATIONS.values(), ids=OPERATIONS.keys())
def test_each_operation_asks_for_these_rights_in_this_order(node, operation, asked):
    client = node.client()
    operation(client)
    assert client.user.asked == asked


@pytest.mark.parametrize(("operation", "asked", "right"), EACH_RIGHT)
def test_without_one_of_them_nothing_is_done(node, operation, asked, right):
    client = node.client()
    client.user.deny(right)
    before = (set(node.vhost.queues), set(node.vhost.exchanges))
    with pytest.raises(AccessRefused):
        operation(client)
    assert client.user.asked == asked[: asked.index(right) + 1]
    assert (set(node.vhost.queues), set(node.vhost.exchanges)) == before
    assert not node.vhost.graph.sources
    assert not client.session.consumers


@pytest.mark.parametrize(
    ("operation", "right"),
    [
        (lambda c: c.publish("a", "k", "nope"), "write exchange nope"),
        (lambda c: c.consume("nope"), "read queue nope"),
        (lambda c: c.get("nope"), "read queue nope"),
        (lambda c: c.topology.purge_queue("nope"), "read queue nope"),
        (lambda c: at_once(c.topology.bind_queue_in_slices("nope", "nope", "", {})), "write queue nope"),
    ],
)
def test_a_user_without_permission_does_not_learn_what_exists(node, operation, right):
    client = node.client()
    client.user.deny(right)
    with pytest.raises(AccessRefused):
        operation(client)


def test_permission_to_publish_is_checked_until_the_route_has_a_plan(node):
    """A route has a plan from its second message on."""
    client = node.client()
    for _ in range(5):
        client.publish("a", "k", "x")
    assert client.user.asked == ["write exchange x"] * 2


def test_a_right_that_was_taken_back_counts_from_the_next_publish(node):
    client = node.client()
    client.publish("a", "q")
    client.user.deny("write exchange amq.default")
    with pytest.raises(AccessRefused):
        client.publish("b", "q")
    client.user.denied.clear()
    client.user.generation += 1
    client.publish("c", "q")
    assert node.contents() == ["a", "c"]


def test_a_right_of_one_session_is_none_of_anothers(node):
    node.client().publish("a", "q")
    stranger = node.client()
    stranger.user.deny("write exchange amq.default")
    with pytest.raises(AccessRefused):
        stranger.publish("b", "q")


def test_users_who_publish_in_turn_along_one_plan_are_each_checked(node):
    one, other = node.client(), node.client(AnyUser("bob"))
    for _ in range(2):
        one.publish("a", "q")
        other.publish("b", "q")
    other.user.deny("write exchange amq.default")
    one.publish("c", "q")
    with pytest.raises(AccessRefused):
        other.publish("d", "q")
    assert node.contents() == ["a", "b", "a", "b", "c"]


def test_a_session_does_not_keep_a_deleted_exchange_that_it_published_to(node):
    client = node.client()
    for number in range(50):
        client.publish("a", f"k{number}", "topic")
    exchange = weakref.ref(node.vhost.exchange("topic"))
    node.vhost.delete_exchange(node.vhost.exchange("topic"))
    gc.collect()
    assert exchange() is None


def test_an_internal_exchange_takes_no_publishes(node):
    node.vhost.declare_exchange("inner", "fanout", internal=True)
    client = node.client()
    with pytest.raises(AccessRefused, match="cannot publish to internal exchange 'inner' in vhost '/'"):
        client.publish("a", "k", "inner")


# -- no method without a row --------------------------------------------------------------------------------

NEEDS_NONE = {
    "basic.ack": "settles what the channel was given",
    "basic.nack": "settles what the channel was given",
    "basic.reject": "settles what the channel was given",
    "basic.recover": "requeues what the channel was given",
    "basic.recover-async": "requeues what the channel was given",
    "basic.qos": "is about the channel alone",
}


def test_every_method_has_a_row_or_a_reason():
    rows = {name.split(" ")[0] for name in OPERATIONS}
    of_clients = {
        method.NAME
        for method in m.METHODS.values()
        if method.CLASS_ID in (EXCHANGE, QUEUE, BASIC)
        and not method.NAME.endswith("-ok")
        and method.NAME not in ("basic.deliver", "basic.return", "basic.get-empty")
    }
    assert of_clients == rows | set(NEEDS_NONE)
