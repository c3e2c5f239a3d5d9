"""Dropped messages are counted by reason and logged; expired queues are logged."""

import pytest
from structlog.testing import capture_logs

from leveret.router.session.reply_to import REPLY_TO
from leveret.router.vhost.death_headers import COPIES, COPIES_MAX
from leveret.router.vhost.drops import PERIOD, REASONS
from tests.router.harness import Node


@pytest.fixture
def node():
    return Node()


@pytest.fixture
def client(node):
    return node.client()


def counts(node):
    return {reason: count for reason, count in node.broker.drops.counts.items() if count}


def lines(logged, event="messages dropped"):
    return [{k: v for k, v in line.items() if k != "log_level"} for line in logged if line["event"] == event]


def dropped(**counts):
    return {"event": "messages dropped", "vhost": "/", "queue": "q", **counts}


def reject(client):
    tag, _, _ = client.session.get("q", no_ack=False)
    client.session.nack(tag, multiple=False, requeue=False)


def rejected(node, client):
    node.queue()
    client.publish()
    reject(client)


def expired(node, client):
    node.queue(message_ttl=0)
    client.publish()


def maxlen(node, client):
    node.queue(max_length=0)
    client.publish()


def delivery_limit(node, client):
    node.queue(queue_type="quorum", delivery_limit=0)
    client.publish()
    client.session.get("q", no_ack=False)
    client.session.nack(1, multiple=False, requeue=True)


def refused(node, client):
    node.queue(max_length=0, overflow="reject-publish")
    client.publish()


def dead_letter_exchange_missing(node, client):
    node.queue(message_ttl=0, dead_letter_exchange="missing")
    client.publish()


def dead_letter_unroutable(node, client):
    node.queue(message_ttl=0, dead_letter_exchange="amq.fanout")
    client.publish()


def dead_letter_cycle(node, client):
    node.queue(message_ttl=0, dead_letter_exchange="", dead_letter_routing_key="q")
    client.publish()


def dead_letter_multiplied(node, client):
    node.queue("a"), node.queue("b")
    for name in "ab":
        node.vhost.bind(node.vhost.exchange("amq.fanout"), node.vhost.queue(name), "")
    node.queue(message_ttl=0, dead_letter_exchange="amq.fanout")
    client.publish(headers={COPIES: COPIES_MAX})


def reply_unread(node, client):
    client.consume(REPLY_TO, no_ack=True)
    node.queue("rpc")
    client.publish(key="rpc", reply_to=REPLY_TO)
    client.room, client.full = False, True
    client.publish(key=client.session.get("rpc", no_ack=True)[1].message.properties.reply_to)


WAYS = [
    rejected,
    expired,
    maxlen,
    delivery_limit,
    refused,
    dead_letter_exchange_missing,
    dead_letter_unroutable,
    dead_letter_cycle,
    dead_letter_multiplied,
    reply_unread,
]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_a_dropped_message_is_counted_and_logged_with_its_reason(node, client, way):
    with capture_logs() as logged:
        way(node, client)
        node.at(1)
    assert counts(node) == {way.__name__: 1}
    where = {"queue": REPLY_TO} if way is reply_unread else {}
    assert lines(logged) == [dropped(**{way.__name__: 1}) | where]


def test_every_reason_is_reached():
    assert [way.__name__ for way in WAYS] == list(REASONS)


@pytest.mark.parametrize("reason", ["acknowledged", "purged", "deleted", "dead-lettered"])
def test_what_a_client_wants_to_be_gone_is_not_dropped(node, client, reason):
    node.queue("other")
    node.queue(dead_letter_exchange="", dead_letter_routing_key="other")
    client.publish()
    if reason == "acknowledged":
        client.get()
    elif reason == "purged":
        client.topology.purge_queue("q")
    elif reason == "deleted":
        client.topology.delete_queue("q", if_unused=False, if_empty=False)
    else:
        reject(client)
    with capture_logs() as logged:
        node.at(PERIOD)
    assert counts(node) == {}
    assert lines(logged) == []


def test_a_queue_is_logged_once_a_minute_with_all_that_it_has_dropped(node, client):
    node.queue(max_length=0)
    with capture_logs() as logged:
        for second in range(150):
            client.publish()
            node.at(1000 * second)
        node.at(10 * PERIOD)
    assert lines(logged) == [dropped(maxlen=1), dropped(maxlen=60), dropped(maxlen=60), dropped(maxlen=29)]
    assert node.broker.timers.next_deadline() is None


def test_queues_are_logged_each(node, client):
    for name in ("a", "b"):
        node.queue(name, max_length=0)
    with capture_logs() as logged:
        for name in ("a", "b", "a"):
            client.publish(key=name)
        node.at(PERIOD)
    assert [(line["queue"], line["maxlen"]) for line in lines(logged)] == [("a", 1), ("b", 1), ("a", 1)]


# -- queues --------------------------------------------------------------------------------------------------


ARGUMENT, POLICY, OPERATOR = "x-expires", "policy 'mine'", "operator policy 'theirs'"


@pytest.mark.parametrize(
    ("given", "set_by"),
    [
        ({ARGUMENT: 1000}, ARGUMENT),
        ({POLICY: 2000}, POLICY),
        ({OPERATOR: 3000}, OPERATOR),
        ({POLICY: 2000, OPERATOR: 3000}, POLICY),
        ({POLICY: 3000, OPERATOR: 2000}, OPERATOR),
        ({ARGUMENT: 1000, POLICY: 2000}, ARGUMENT),
        ({ARGUMENT: 2000, POLICY: 1000}, POLICY),
    ],
)
def test_a_queue_that_was_not_used_is_logged_when_it_goes(node, client, given, set_by):
    policies = node.vhost.policies
    if POLICY in given:
        policies.put("mine", "q", {"expires": given[POLICY]})
    if OPERATOR in given:
        policies.put("theirs", "q", {"expires": given[OPERATOR]}, operator=True, apply_to="queues")
    node.queue(**({"expires": given[ARGUMENT]} if ARGUMENT in given else {}))
    client.publish()
    client.publish()
    client.session.get("q", no_ack=False)
    with capture_logs() as logged:
        node.at(5000)
    assert "q" not in node.vhost.queues
    told = {"vhost": "/", "queue": "q", "messages": 2, "unused_ms": min(given.values()), "set_by": set_by}
    assert lines(logged, "queue expired") == [{"event": "queue expired", **told}]


def test_an_auto_delete_queue_is_not_logged_as_expired(node, client):
    node.queue(auto_delete=True, expires=1000)
    client.consume()
    client.session.cancel("c")
    with capture_logs() as logged:
        node.at(5000)
    assert lines(logged, "queue expired") == []
