"""Whatever message a broker accepts, by any way in, comes out again by any way through.

Ways through: a restart, pages, a dead-letter exchange, moving and replaying by the API, in any order.
"""

import shutil
from collections import Counter

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from leveret.protocol.amqp import methods as m
from leveret.protocol.amqp.properties import Properties, encode_properties
from leveret.protocol.amqp.table import MAX_DEPTH, MAX_ENTRIES
from leveret.router.management.resources.message_browsing import DEATHS
from leveret.router.queue.paging import NextMessagePending
from tests.router.amqp.client import Content
from tests.router.store.test_accepted import Ground, _dead_letter_all, names, nested, publish, tables

WAYS = ["amqp", "http", "stomp", "once", "stream"]


def populate(ground):
    ground.populate()
    ground.vhost.declare_queue("other", durable=True)
    ground.vhost.declare_queue("s", durable=True, arguments={"x-queue-type": "stream"})
    once = ground.vhost.declare_exchange(
        "once", "fanout", durable=True, arguments={"x-message-deduplication": True}
    )
    ground.vhost.bind(once, ground.vhost.queue("q"), "")
    ground.kept.settle()


def send(ground, way, key, table, body):
    """Publish a message; return whether it was accepted."""
    properties = Properties(headers=table, delivery_mode=2, message_id=key)
    match way:
        case "once":
            return ground.amqp(Content(m.BasicPublish("once", key), body.encode(), properties))
        case "stream":
            return ground.amqp(Content(m.BasicPublish("", "s"), body.encode(), properties))
        case _:
            return publish(ground, way, key, table, body)


def contents(ground):
    """Every message there is, without what the broker itself has added."""
    found = Counter()
    session = ground.kept.client.session
    for name in ("q", "dead", "other"):
        tags = []
        while True:
            try:
                taken = session.get(name, no_ack=False)
            except NextMessagePending:
                ground.kept.read()
                continue
            if taken is None:
                break
            tags.append(taken[0])
            found[_identity(taken[1].message)] += 1
        if tags:
            session.nack(tags[-1], multiple=True, requeue=True)
        ground.kept.settle()
    client = ground.kept.node.client()
    client.consume("s", prefetch=100, arguments={"x-stream-offset": "first"})
    ground.kept.settle()
    found.update(_identity(entry.message) for _, _, entry in client.delivered)
    client.session.close()
    return found


def _identity(message):
    headers = {
        name: value for name, value in message.headers.items() if name not in (*DEATHS, "x-stream-offset")
    }
    return message.body, message.properties.message_id, encode_properties(Properties(headers=headers))


def call(ground, queue, what, **body):
    body |= {"all": True}
    told = ground.api.ask("POST", f"/queues/%2F/{queue}/messages/{what}", body)
    assert told.status == 200, told
    return ground


def restart(ground):
    ground.kept.stop()
    return Ground(ground.path)


def crash(ground):
    ground.kept.settle()
    ground.kept.crash()
    return Ground(ground.path)


def dead_letter(ground):
    _dead_letter_all(ground)
    return ground


def move(ground):
    return call(ground, "q", "move", exchange="amq.default", routing_key="other")


def move_back(ground):
    return call(ground, "other", "move", exchange="amq.default", routing_key="q")


def replay(ground):
    return call(ground, "dead", "replay")


THROUGH = [restart, crash, dead_letter, move, move_back, replay]
messages = st.tuples(st.sampled_from(WAYS), names, tables, names)
AT_THE_BOUNDS = [
    ("amqp", "k", nested(MAX_DEPTH), "deep"),
    ("once", "k", {"x-deduplication-header": "n" * 65_500}, "long"),
    ("once", "k", {"x-deduplication-header": "n" * 70_000}, "longer"),
    ("http", "k", nested(MAX_DEPTH), "deep by http"),
    ("amqp", "k", {"a": [1] * 20_000}, "wide"),
    ("stream", "n" * 255, nested(MAX_DEPTH), "deep in a stream"),
    ("amqp", "k", {"x-death": nested(MAX_DEPTH - 1)}, "forged death"),
    ("amqp", "k", {"a": [1] * (MAX_ENTRIES + 1)}, "too many"),
]


@pytest.mark.slow
@given(st.lists(messages, min_size=1, max_size=8), st.lists(st.sampled_from(THROUGH), max_size=4))
@example(AT_THE_BOUNDS, [dead_letter, restart, replay, move, crash])
@example(AT_THE_BOUNDS, [move, restart, move_back, dead_letter, crash])
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@pytest.mark.usefixtures("small")
def test_accepted_messages_come_out_of_every_way_through_as_they_went_in(quick_path, sent, through):
    path = quick_path / "data"
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir()
    ground = Ground(path)
    populate(ground)
    for way, key, table, body in sent:
        before = ground.state()
        accepted = send(ground, way, key, table, body)
        ground.kept.settle()
        if not accepted:
            assert ground.state() == before
    expected = contents(ground)
    for step in (*through, restart):
        ground = step(ground)
        ground.kept.settle()
        assert contents(ground) == expected, step.__name__
    ground.kept.stop()
