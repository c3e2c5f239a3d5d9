"""The firehose: copies of what is published and delivered, for who is bound to the trace exchange."""

import pytest

from leveret.protocol.amqp import table
from leveret.protocol.amqp.message import Message
from leveret.protocol.amqp.properties import Properties
from leveret.protocol.errors import NotFound
from leveret.router.session.transport import ConnectionEnds
from leveret.router.vhost.trace import TRACE
from tests.router.harness import Node

ENDS = ConnectionEnds(("10.0.0.1", 5), ("10.0.0.2", 5672))


class Connection:
    ends = ENDS


@pytest.fixture
def node():
    made = Node()
    made.queue("watch")
    made.vhost.bind(made.vhost.exchange(TRACE), made.vhost.queues["watch"], "#")
    made.vhost.firehose.switch(on=True)
    return made


@pytest.fixture
def client(node):
    return node.client(owner=Connection())


def seen(node):
    """The copies that have come to the watching queue: key, headers and body of each."""
    found = []
    while (entry := node.vhost.queues["watch"].get(node.broker.now, no_ack=True)) is not None:
        message = entry.message
        assert message.exchange == TRACE
        found.append((message.routing_key, message.headers, message.body))
    return found


def keys(node):
    return [key for key, _, _ in seen(node)]


def test_a_publish_is_copied_with_all_that_is_known_of_it(node, client):
    node.queue("q")
    headers = {"a": 1, "CC": ["q"], "BCC": ["other"]}
    client.publish("body", "q", headers=headers, delivery_mode=2, expiration="5")
    node.settle()
    assert seen(node) == [
        (
            "publish.",
            {
                "exchange_name": "",
                "routing_keys": ["q", "q", "other"],
                "properties": {"headers": {"a": 1, "CC": ["q"]}, "delivery_mode": 2, "expiration": "5"},
                "node": "leveret@localhost",
                "vhost": "/",
                "connection": "10.0.0.1:5 -> 10.0.0.2:5672",
                "channel": 1,
                "user": "alice",
                "routed_queues": ["q"],
            },
            b"body",
        )
    ]


def test_messages_that_are_alike_are_copied_each(node, client):
    node.queue("q")
    alike = [Message.build("", "q", Properties(), body) for body in (b"1", b"2", b"3")]
    client.session.publish_all(alike, 3)
    node.settle()
    assert [body for _, _, body in seen(node)] == [b"1", b"2", b"3"]


def test_a_delivery_is_copied_with_its_queue(node, client):
    node.queue("q")
    client.publish("body", "q", type="t")
    client.consume("q")
    node.settle()
    assert seen(node)[1] == (
        "deliver.q",
        {
            "exchange_name": "",
            "routing_keys": ["q"],
            "properties": {"type": "t"},
            "node": "leveret@localhost",
            "redelivered": 0,
            "vhost": "/",
            "connection": "10.0.0.1:5 -> 10.0.0.2:5672",
            "channel": 1,
            "user": "alice",
        },
        b"body",
    )


def test_a_copy_of_a_delivery_has_the_bcc_keys(node, client):
    node.queue("q")
    client.publish("body", "q", headers={"CC": ["c"], "BCC": ["hidden"]})
    client.consume("q")
    node.settle()
    (_, delivery, _) = seen(node)[1]
    assert delivery["routing_keys"] == ["q", "c", "hidden"]
    assert delivery["properties"] == {"headers": {"CC": ["c"]}}


FLAT = {f"header {number}": number for number in range(1000)} | {"text": "t", "none": None, "float": 1.5}


@pytest.mark.parametrize(
    "headers",
    [FLAT, FLAT | {"table": {"a": [1]}}, FLAT | {"CC": ["c"]}, FLAT | {"empty": {}}],
    ids=["flat", "nested", "CC", "an empty table"],
)
def test_large_headers_are_copied_as_they_are(node, client, headers):
    node.queue("q")
    client.publish("body", "q", headers=headers, type="t", priority=3)
    client.consume("q")
    node.settle()
    publish, delivery = seen(node)
    for _, copied, body in (publish, delivery):
        assert copied["properties"] == {"headers": headers, "type": "t", "priority": 3}
        assert copied["routing_keys"] == ["q", *headers.get("CC", ())]
        assert body == b"body"


def test_large_headers_without_nested_tables_are_not_decoded_for_a_copy(node, client, monkeypatch):
    node.queue("q")
    message = Message.build("", "q", Properties(headers=FLAT, type="t"), b"body")
    monkeypatch.setattr(table, "_table", lambda *_: pytest.fail("a table was decoded"))
    client.session.publish(message)
    client.consume("q")
    node.settle()
    monkeypatch.undo()
    assert [headers["properties"]["headers"] for _, headers, _ in seen(node)] == [FLAT, FLAT]


def test_a_message_that_is_asked_for_is_a_delivery_too(node, client):
    node.queue("q")
    client.publish("1", "q")
    tag, _, _ = client.session.get("q", no_ack=False)
    client.session.nack(tag, multiple=False, requeue=True)
    client.session.get("q", no_ack=True)
    assert client.session.get("q", no_ack=True) is None
    node.settle()
    assert [(key, headers.get("redelivered")) for key, headers, _ in seen(node)] == [
        ("publish.", None),
        ("deliver.q", 0),
        ("deliver.q", 1),
    ]


def test_an_unroutable_message_is_copied_and_returned_all_the_same(node, client):
    client.session.publish(mandatory("nowhere"))
    node.settle()
    ((_, headers, _),) = seen(node)
    assert headers["routed_queues"] == []
    assert [each.routing_key for each in client.back] == ["nowhere"]


def mandatory(key):
    return Message.build("", key, Properties(), b"", mandatory=True)


def test_what_is_refused_is_not_copied(node, client):
    with pytest.raises(NotFound):
        client.publish(exchange="none")
    node.settle()
    assert seen(node) == []


def test_a_message_of_a_transaction_is_copied_when_it_is_published(node, client):
    node.queue("q")
    client.session.select_transactions()
    client.publish("x", "q")
    client.session.rollback()
    node.settle()
    assert keys(node) == ["publish."]


def test_dead_letters_are_no_publishes(node, client):
    node.queue("dead")
    node.queue("q", dead_letter_exchange="", dead_letter_routing_key="dead")
    client.publish("x", "q")
    tag, _, _ = client.session.get("q", no_ack=False)
    client.session.nack(tag, multiple=False, requeue=False)
    client.consume("dead")
    node.settle()
    assert keys(node) == ["publish.", "deliver.q", "deliver.dead"]


def test_a_queue_that_watches_itself_sees_each_message_once(node, client):
    watch = node.vhost.queues["watch"]
    client.consume("watch")
    client.publish("x", "watch")
    node.settle()
    assert [(entry.message.exchange, entry.message.routing_key) for _, _, entry in client.delivered] == [
        ("", "watch"),
        (TRACE, "publish."),
        (TRACE, "deliver.watch"),
    ]
    assert watch.get(node.broker.now, no_ack=True) is None


def test_copies_go_by_their_key(node, client):
    node.queue("q")
    node.queue("only")
    node.vhost.bind(node.vhost.exchange(TRACE), node.vhost.queues["only"], "publish.amq.fanout")
    client.publish(exchange="amq.fanout")
    client.publish(key="q")
    client.consume("q")
    node.settle()
    assert len(node.vhost.queues["only"].ready) == 1
    assert keys(node) == ["publish.amq.fanout", "publish.", "deliver.q"]


def test_off_it_is_not_asked_and_on_it_is_at_once(node, client):
    node.queue("q")
    node.vhost.firehose.switch(on=False)
    client.publish("1", "q")
    node.settle()
    assert seen(node) == []
    assert client.session.incoming._resolve == client.session.incoming._publishing.resolve
    node.vhost.firehose.switch(on=True)
    client.publish("2", "q")
    later = node.client(owner=Connection())
    later.publish("3", "q")
    node.settle()
    assert [body for _, _, body in seen(node)] == [b"2", b"3"]


@pytest.mark.parametrize("until_unbound", [True, False])
def test_tracing_until_unbound_ends_with_the_last_binding(node, until_unbound):
    vhost, trace = node.vhost, node.vhost.exchange(TRACE)
    for queue in list(vhost.queues.values()):
        vhost.delete_queue(queue)
    vhost.firehose.switch(on=True, until_unbound=until_unbound)
    unbound, deleted = node.queue("unbound"), node.queue("deleted")
    vhost.bind(trace, unbound, "#")
    vhost.bind(trace, deleted, "#")
    vhost.unbind(trace, unbound, "#")
    assert vhost.firehose.on
    vhost.delete_queue(deleted)
    assert vhost.firehose.on is not until_unbound


def test_other_virtual_hosts_are_not_traced(node):
    other = node.broker.add_vhost("other")
    assert not other.firehose.on


def test_a_session_that_is_over_is_forgotten(node, client):
    client.session.close()
    node.vhost.firehose.switch(on=False)
    node.vhost.firehose.switch(on=True)
    assert client.session.deliveries.trace is None


def test_without_anyone_bound_nothing_is_made(node, client):
    node.vhost.unbind(node.vhost.exchange(TRACE), node.vhost.queues["watch"], "#")
    client.publish("x", "watch")
    assert not node.broker.scheduler._traces
    node.settle()
    assert len(node.vhost.queues["watch"].ready) == 1


def test_a_long_queue_name_is_cut_in_the_key(node, client):
    name = "n" * 255
    node.queue(name)
    client.publish("x", name)
    client.session.get(name, no_ack=True)
    node.settle()
    assert keys(node)[1] == "deliver." + name[:247]
