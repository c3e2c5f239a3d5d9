"""Exclusive queues are their connection's alone, whichever way an operation on one comes in."""

import ast
from pathlib import Path

import pytest

from leveret.protocol.amqp import methods as m
from leveret.router.management.api import rules
from leveret.router.stomp.commands import HANDLERS
from leveret.router.turns.backlog import at_once
from tests.router.amqp.client import Content, reply_class
from tests.router.amqp.world import World
from tests.router.exclusive import FRAMES, METHODS, OWN_REQUESTS, REQUESTS
from tests.router.management.api import Api, name
from tests.router.stomp.client import StompClient

RULES = rules()
LOCKED = "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue 'q' in vhost '/'. "
ALL_REQUESTS = {**REQUESTS, **OWN_REQUESTS}
NAMES_NO_EXCLUSIVE_QUEUE = {  # streams are never exclusive, and neither is what belongs to them
    pattern for pattern in RULES if pattern.startswith(("/streams/", "/super-streams/"))
}
NAMES_NO_QUEUE = {"ACK", "NACK", "BEGIN", "COMMIT", "ABORT"}


@pytest.fixture
def world():
    return World()


@pytest.fixture
def owner(world):
    client = world.connect()
    client.do(*SET_UP)
    return client


SET_UP = (
    m.QueueDeclare("q", exclusive=True),
    m.QueueBind("q", "amq.direct", "k"),
    METHODS["basic.publish"].item,
)


def state(vhost):
    """What others must not change."""
    queue = vhost.queues.get("q")
    bound = [len(exchange.bound_to(queue)) for exchange in vhost.exchanges.values() if exchange.name]
    return queue is not None, queue and (len(queue.ready), len(queue.consumers), bound)


@pytest.mark.parametrize("row", METHODS.values(), ids=METHODS)
def test_another_connection_is_refused(world, owner, row):
    vhost, other = world.broker.vhosts["/"], world.connect()
    before = state(vhost)
    other.send(row.item)
    if row.locked:
        refusal = other.take(m.ChannelClose)
        assert (refusal.reply_code, refusal.reply_text[: len(LOCKED)]) == (405, LOCKED)
        assert state(vhost) == before
    elif not isinstance(row.item, Content):
        other.take(reply_class(row.item))


@pytest.mark.parametrize("row", METHODS.values(), ids=METHODS)
def test_the_owner_is_not_refused(owner, row):
    owner.send(row.item)
    if row is METHODS["queue.declare with other properties"]:
        assert owner.take(m.ChannelClose).reply_code == 405  # it is exclusive, and stays so
    elif row is METHODS["queue.delete if empty"]:
        assert owner.take(m.ChannelClose).reply_code == 406
    elif isinstance(row.item, m.BasicGet):
        owner.take_content(m.BasicGetOk)
    elif isinstance(row.item, Content):
        owner.expect_silence()
    else:
        owner.take(reply_class(row.item))


@pytest.mark.parametrize("row", FRAMES.values(), ids=FRAMES)
def test_a_stomp_client_is_refused(world, owner, row):
    vhost, (command, headers) = world.broker.vhosts["/"], row.item
    client = StompClient(world).open()
    client.subscribe("/topic/k", id="mine", durable="true", auto_delete="false")
    before = state(vhost)
    client.send(command, **headers)
    if row.locked:
        message, detail = client.error()
        assert (message, detail[: len(LOCKED)]) == ("resource_locked", LOCKED)
        assert state(vhost) == before
    else:
        assert not client.outbox.closed


@pytest.mark.parametrize("row", ALL_REQUESTS.values(), ids=ALL_REQUESTS)
def test_an_administrator_is_refused(row):
    api = Api()
    owner = api.node.client(owner=object())
    owner.topology.declare_queue("q", durable=False, exclusive=True, auto_delete=False, arguments={})
    at_once(owner.topology.bind_queue_in_slices("q", "amq.direct", "k", {}))
    owner.publish("first")
    before = state(api.vhost)
    path = "".join(f"/{name(part)}" for part in row.item.path("/"))
    told = api.ask(row.item.method, path, row.item.body)
    if row.locked:
        assert told.status == 400
        assert "cannot obtain exclusive access to locked queue 'q'" in told.json["reason"]
        assert state(api.vhost) == before
    else:
        assert told.status < 300


# -- no operation without a row ------------------------------------------------------------------------------


def test_every_method_that_names_a_queue_has_a_row():
    rows = {type(row.item) for row in METHODS.values()}
    requests = [kind for kind in m.METHODS.values() if "Ok" not in kind.__name__]
    asked = {kind for kind in requests if "queue" in kind.__struct_fields__}
    assert asked - rows == set()


def test_every_request_that_names_a_queue_has_a_row():
    rows = {(row.item.method, row.item.pattern) for row in ALL_REQUESTS.values()}
    asked = {
        (method, pattern)
        for pattern, methods in RULES.items()
        if pattern.startswith("/queues/{vhost}/{name}") or "{destination}" in pattern
        for method in methods
    }
    assert asked - rows == set()


def test_every_other_request_names_no_queue_that_could_be_exclusive():
    """A new path with a queue in it comes here first."""
    of_queues = [pattern for pattern in RULES if "queue" in pattern or "stream" in pattern]
    known = {row.item.pattern for row in ALL_REQUESTS.values()} | NAMES_NO_EXCLUSIVE_QUEUE
    lists = {"/queues", "/queues/{vhost}", "/rebalance/queues"}
    assert set(of_queues) - known - lists == set()


def test_every_stomp_command_has_a_row():
    assert set(HANDLERS) - NAMES_NO_QUEUE - {row.item[0] for row in FRAMES.values()} == set()


MAY_LOOK = {  # functions that find a queue without asking whose it is, and why they may
    "router/stomp/commands.py:_is_stream": "reads its type, and streams are not exclusive",
}


def test_sessions_find_queues_by_the_gate_alone():
    """``vhost.queues`` may be counted and searched for a name; a queue comes from ``queue_for``."""
    root = Path(__file__).parents[2]
    found = set()
    for package in ("session", "amqp", "stomp"):
        for path in (root / "router" / package).glob("*.py"):
            for function in ast.walk(ast.parse(path.read_bytes())):
                if isinstance(function, ast.FunctionDef) and any(map(takes_a_queue, ast.walk(function))):
                    found.add(f"{path.relative_to(root)}:{function.name}")
    assert found == set(MAY_LOOK)


def takes_a_queue(node):
    """Whether this is ``vhost.queues[...]``, ``vhost.queues.get`` or ``vhost.queue(...)``."""
    if isinstance(node, ast.Subscript):
        return isinstance(node.value, ast.Attribute) and node.value.attr == "queues"
    if not isinstance(node, ast.Attribute):
        return False
    of = node.value.attr if isinstance(node.value, ast.Attribute) else ""
    return (node.attr, of) in {("get", "queues"), ("queue", "_vhost"), ("queue", "vhost")}
