"""From a message to its queues."""

import pytest

from leveret.protocol.errors import NotImplemented_
from leveret.router.exchange.routing import QUICK
from leveret.router.session.publishing import Publishing
from leveret.router.session.reply_to import REPLY_TO
from tests.router.harness import AnyUser, Node, message


@pytest.fixture
def node():
    made = Node()
    made.queue("q")
    made.queue("r")
    return made


@pytest.fixture
def publishing(node):
    return Publishing(node.vhost, AnyUser())


def names(queues):
    return [queue.name for queue in queues]


@pytest.mark.parametrize("properties", [{}, {"priority": 3}, {"headers": {"n": 1}}, {"delivery_mode": 2}])
def test_a_message_stays_the_one_it_is(publishing, properties):
    published = message("a", "q", **properties)
    for _ in range(2):
        resolved, queues = publishing.resolve(published)
        assert resolved is published
        assert names(queues) == ["q"]


def test_a_message_without_a_queue_resolves_to_none(publishing):
    assert list(publishing.resolve(message("a", "nowhere"))[1]) == []


def test_another_is_made_where_properties_change_and_it_stays_mandatory(publishing):
    publishing.reply_to = f"{REPLY_TO}.secret"
    published = message("a", "q", mandatory=True, reply_to=REPLY_TO, headers={"BCC": ["r"]}, priority=3)
    resolved, queues = publishing.resolve(published)
    assert names(queues) == ["q", "r"]
    assert (resolved.properties.reply_to, resolved.headers) == (f"{REPLY_TO}.secret", {})
    assert (resolved.body, resolved.mandatory, resolved.properties.priority) == (b"a", True, 3)
    assert published.properties.reply_to == REPLY_TO


def test_immediate_is_refused_before_rights_are_asked_for(node):
    user = AnyUser()
    published = message("a", "q")
    published.bits = 2
    with pytest.raises(NotImplemented_):
        Publishing(node.vhost, user).resolve(published)
    assert user.asked == []


@pytest.mark.parametrize(
    "topology", ["one queue", "more queues than are routed quickly", "alternate exchange, no queue"]
)
def test_a_recent_history_exchange_keeps_each_message_once(node, publishing, topology):
    arguments = {"alternate-exchange": "amq.fanout"} if topology.startswith("alternate") else {}
    exchange = node.vhost.declare_exchange("h", "x-recent-history", arguments=arguments)
    bound = {"one queue": 1, "more queues than are routed quickly": QUICK + 1}.get(topology, 0)
    for number in range(bound):
        node.vhost.bind(exchange, node.queue(f"q{number}"), "")
    for body in "abc":
        _, queues = publishing.resolve(message(body, "key", exchange="h"))
        assert len(queues) == bound
    assert [each.body for each in exchange.history()] == [b"a", b"b", b"c"]
