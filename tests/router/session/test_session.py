"""Publishing, settling, confirms, transactions and replies of one session."""

import pytest

from leveret.protocol.errors import AmqpError, NotAllowed, NotFound, NotImplemented_, PreconditionFailed
from leveret.router.broker.alarms import MEMORY
from leveret.router.session.reply_to import REPLY_TO
from tests.router.harness import AnyUser, Node, bodies, message


@pytest.fixture
def node():
    made = Node()
    made.queue()
    return made


@pytest.fixture
def client(node):
    return node.client()


def refused(kind, text):
    return pytest.raises(kind, match=f"^{kind.name} - {text}$")


# -- publish -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("properties", "text"),
    [
        ({"expiration": "abc"}, "invalid expiration 'abc': no_integer"),
        ({"headers": {"CC": "a"}}, 'invalid message: {unacceptable_type_in_header,"CC",longstr}'),
        ({"headers": {"BCC": 1}}, 'invalid message: {unacceptable_type_in_header,"BCC",signedint}'),
        ({"delivery_mode": 0}, "invalid message: {delivery_mode_unknown,0}"),
        ({"delivery_mode": 3}, "invalid message: {delivery_mode_unknown,3}"),
        ({"user_id": "bob"}, "user_id property set to 'bob' but authenticated user was 'alice'"),
        ({"user_id": ""}, "user_id property set to '' but authenticated user was 'alice'"),
        ({"reply_to": REPLY_TO}, "fast reply consumer does not exist"),
    ],
)
def test_properties_that_are_refused(node, client, properties, text):
    with pytest.raises(PreconditionFailed) as caught:
        client.publish("a", **properties)
    assert str(caught.value) == f"PRECONDITION_FAILED - {text}"
    assert node.contents() == []


@pytest.mark.parametrize(
    "properties",
    [{"user_id": "alice"}, {"delivery_mode": 1}, {"delivery_mode": 2}, {"reply_to": "q"}, {"headers": {}}],
)
def test_properties_that_are_taken(node, client, properties):
    client.publish("a", **properties)
    assert node.contents() == ["a"]


def test_an_impersonator_may_publish_in_anothers_name(node):
    node.client(AnyUser(tags=frozenset({"impersonator"}))).publish("a", user_id="bob")
    assert node.contents() == ["a"]


def test_an_immediate_publish_is_refused_before_its_exchange_is_looked_up(client):
    immediate = message("a", "q", "nope")
    immediate.bits = 2
    with refused(NotImplemented_, "immediate=true"):
        client.session.publish(immediate)


def test_an_exchange_that_is_not_there_is_not_found(client):
    with refused(NotFound, "no exchange 'nope' in vhost '/'"):
        client.publish("a", "q", "nope")


def test_copies_go_to_each_queue_once_and_bcc_is_removed(node, client):
    node.queue("r")
    client.publish("a", headers={"CC": ["r", "q"], "BCC": ["r"], "n": 1}, mandatory=True)
    for name in ("q", "r"):
        (entry,) = node.vhost.queues[name].ready
        assert entry.message.headers == {"CC": ["r", "q"], "n": 1}
        assert entry.message.routing_key == "q"


def test_a_returned_message_has_no_blind_copies_either(client):
    client.publish("a", key="nobody", headers={"BCC": ["nobody else"], "n": 1}, mandatory=True)
    (back,) = client.back
    assert back.headers == {"n": 1}
    assert back.body == b"a"


@pytest.mark.parametrize(("key", "mandatory", "back"), [("q", True, 0), ("no", False, 0), ("no", True, 1)])
def test_only_unroutable_mandatory_messages_come_back(client, key, mandatory, back):
    client.publish("a", key=key, mandatory=mandatory)
    assert len(client.back) == back


# -- confirms ----------------------------------------------------------------------------------------------


def test_nothing_is_confirmed_unless_asked_for(client):
    client.publish("a")
    assert client.session.verdicts() == []


def test_publishes_are_confirmed_whether_routed_or_not(node, client):
    client.session.select_confirms()
    client.session.select_confirms()
    client.publish("a")
    client.publish("b", key="nobody")
    assert client.session.verdicts() == [(2, True, True)]


def test_a_refusal_of_one_queue_refuses_the_publish(node, client):
    node.queue("full", max_length=1, overflow="reject-publish")
    client.session.select_confirms()
    client.publish("a", headers={"CC": ["full"]})
    client.publish("b", headers={"CC": ["full"]})
    client.publish("c")
    assert client.session.verdicts() == [(1, False, True), (2, False, False), (3, False, True)]
    assert node.contents() == ["a", "b", "c"]


def test_confirms_and_transactions_exclude_each_other(node):
    confirming, transacting = node.client().session, node.client().session
    confirming.select_confirms()
    transacting.select_transactions()
    with refused(PreconditionFailed, "cannot switch from confirm to tx mode"):
        confirming.select_transactions()
    with refused(PreconditionFailed, "cannot switch from tx to confirm mode"):
        transacting.select_confirms()


# -- settle ------------------------------------------------------------------------------------------------


def deliver(node, client, count, **options):
    for number in range(count):
        client.publish(str(number))
    client.consume(**options)
    node.settle()


SETTLE = {
    "ack": lambda session, tag, multiple: session.ack(tag, multiple=multiple),
    "nack": lambda session, tag, multiple: session.nack(tag, multiple=multiple, requeue=False),
    "requeue": lambda session, tag, multiple: session.nack(tag, multiple=multiple, requeue=True),
}


@pytest.mark.parametrize("settle", SETTLE.values(), ids=SETTLE.keys())
@pytest.mark.parametrize(
    ("tag", "multiple"), [(0, False), (4, False), (4, True), (2**63, False), (2**63, True)]
)
def test_tags_that_are_not_held_are_refused(node, client, settle, tag, multiple):
    deliver(node, client, 3)
    with refused(PreconditionFailed, f"unknown delivery tag {tag}"):
        settle(client.session, tag, multiple)
    assert node.vhost.queues["q"].unacked == 3


@pytest.mark.parametrize("settle", SETTLE.values(), ids=SETTLE.keys())
def test_a_message_is_settled_once(node, client, settle):
    deliver(node, client, 1, prefetch=1)
    client.session.cancel("c")
    settle(client.session, 1, False)
    with refused(PreconditionFailed, "unknown delivery tag 1"):
        settle(client.session, 1, False)


@pytest.mark.parametrize("settle", SETTLE.values(), ids=SETTLE.keys())
def test_tag_0_settles_all_there_are(node, client, settle):
    settle(client.session, 0, True)
    deliver(node, client, 3)
    client.session.cancel("c")
    settle(client.session, 0, True)
    assert node.vhost.queues["q"].unacked == 0


def test_what_was_delivered_settled_is_not_held(node, client):
    deliver(node, client, 2, no_ack=True)
    assert client.tags() == [1, 2]
    with refused(PreconditionFailed, "unknown delivery tag 1"):
        client.session.ack(1, multiple=False)


def test_tags_count_up_over_all_consumers_and_gets(node, client):
    deliver(node, client, 2)
    client.session.cancel("c")
    client.publish("x")
    assert client.session.get("q", no_ack=True)[0] == 3
    client.publish("y")
    assert client.session.get("q", no_ack=False)[0] == 4


def test_requeued_messages_go_back_to_where_they_were(node, client):
    deliver(node, client, 4)
    client.session.cancel("c")
    client.publish("4")
    for tag in (2, 4, 1):
        client.session.nack(tag, multiple=False, requeue=True)
    assert node.contents() == ["0", "1", "3", "4"]


def test_recovering_redelivers_everything_held(node, client):
    deliver(node, client, 3)
    client.session.ack(2, multiple=False)
    assert client.take() == ["0", "1", "2"]
    client.session.recover()
    node.settle()
    assert client.seen() == ["0", "2"]
    assert client.redelivered == [True, True]
    assert client.tags() == [4, 5]


def test_multiple_spans_queues(node, client):
    node.queue("r")
    for body, queue in (("a", "q"), ("b", "r"), ("c", "q")):
        client.publish(body, queue)
        client.get(queue, no_ack=False)
    client.session.nack(2, multiple=True, requeue=True)
    assert (node.contents("q"), node.contents("r")) == (["a"], ["b"])
    assert node.vhost.queues["q"].unacked == 1


# -- consume and get ---------------------------------------------------------------------------------------


def test_a_consumer_tag_is_used_once(client):
    client.consume()
    with refused(NotAllowed, "attempt to reuse consumer tag 'c'"):
        client.consume()
    client.session.cancel("c")
    client.consume()


def test_cancelling_an_unknown_tag_is_no_error(client):
    client.session.cancel("nobody")


@pytest.mark.parametrize("operation", ["consume", "get"])
def test_a_queue_that_is_not_there_is_not_found(client, operation):
    with refused(NotFound, "no queue 'nope' in vhost '/'"):
        getattr(client, operation)("nope")


@pytest.mark.parametrize("operation", ["consume", "get"])
def test_an_exclusive_queue_is_locked_for_others(node, operation):
    owner = object()
    node.vhost.declare_queue("mine", exclusive=True, owner=owner)
    getattr(node.client(owner=owner), operation)("mine")
    with pytest.raises(AmqpError, match=r"RESOURCE_LOCKED - cannot obtain .* locked queue 'mine'"):
        getattr(node.client(), operation)("mine")


def test_everyone_may_publish_to_an_exclusive_queue(node, client):
    owner = object()
    node.vhost.declare_queue("mine", exclusive=True, owner=owner)
    client.publish("a", "mine")
    assert node.contents("mine") == ["a"]


# -- the end -----------------------------------------------------------------------------------------------


def test_closing_requeues_in_order_and_sends_nothing(node, client):
    deliver(node, client, 5, prefetch=3)
    client.session.ack(2, multiple=False)
    client.session.close()
    client.session.close()
    assert node.contents() == ["0", "2", "3", "4"]
    assert node.vhost.queues["q"].unacked == 0
    assert client.ended == []
    other = node.client()
    other.consume()
    node.settle()
    assert other.redelivered == [True, True, False, False]


@pytest.mark.parametrize("prefetch", [0, 2])
def test_a_delivery_that_cannot_be_written_goes_to_another_consumer(node, client, prefetch):
    def deliver(receiver, first, entries):
        raise RuntimeError("broken")

    client.write_deliveries = deliver
    client.session.set_prefetch(prefetch, shared=True)
    for tag in ("c1", "c2", "c3"):  # all in the round of the delivery that fails
        client.consume(tag=tag)
    other, publisher = node.client(), node.client()
    other.consume()
    for number in range(8):
        publisher.publish(str(number))
    node.settle()
    assert [str(error) for error in client.crashed] == ["broken"]
    assert client.session.finished
    assert sorted(other.seen()) == [str(number) for number in range(8)]
    assert (node.contents(), node.vhost.queues["q"].unacked) == ([], 8)
    assert not publisher.crashed


def test_closing_requeues_messages_for_waiting_consumers(node, client):
    deliver(node, client, 2)
    other = node.client()
    other.consume()
    client.session.close()
    node.settle()
    assert other.seen() == ["0", "1"]


# -- transactions ------------------------------------------------------------------------------------------


@pytest.fixture
def transacting(client):
    client.session.select_transactions()
    client.session.select_transactions()
    return client


def test_publishes_of_a_transaction_wait_for_its_commit(node, transacting):
    transacting.publish("a")
    assert node.contents() == []
    transacting.session.commit()
    assert node.contents() == ["a"]
    transacting.session.commit()
    assert node.contents() == ["a"]


def test_publishes_of_a_transaction_are_forgotten_by_a_rollback(node, transacting):
    transacting.publish("a")
    transacting.session.rollback()
    transacting.session.commit()
    assert node.contents() == []


def test_mandatory_messages_come_back_at_the_commit_in_order(transacting):
    for body in ("a", "b"):
        transacting.publish(body, key="nobody", mandatory=True)
    assert transacting.back == []
    transacting.session.commit()
    assert bodies(transacting.back) == ["a", "b"]


def test_errors_of_a_transaction_come_at_once(transacting):
    with refused(NotFound, "no exchange 'nope' in vhost '/'"):
        transacting.publish("a", "q", "nope")
    with refused(PreconditionFailed, "unknown delivery tag 1"):
        transacting.session.ack(1, multiple=False)


@pytest.mark.parametrize("settle", SETTLE.values(), ids=SETTLE.keys())
def test_settlements_of_a_transaction_wait_for_its_commit(node, transacting, settle):
    transacting.publish("a")
    transacting.session.commit()
    transacting.get(no_ack=False)
    settle(transacting.session, 1, False)
    assert node.vhost.queues["q"].unacked == 1
    with refused(PreconditionFailed, "unknown delivery tag 1"):
        settle(transacting.session, 1, False)
    transacting.session.commit()
    assert node.vhost.queues["q"].unacked == 0


def test_a_rollback_gives_settled_messages_back_under_their_tags(node, transacting):
    deliver(node, transacting, 4)
    transacting.session.commit()
    node.settle()
    transacting.session.nack(3, multiple=False, requeue=True)
    transacting.session.ack(2, multiple=True)
    transacting.session.rollback()
    transacting.session.ack(4, multiple=True)
    transacting.session.commit()
    assert node.vhost.queues["q"].unacked == 0
    assert node.contents() == []


def test_a_prefetch_stays_used_up_until_the_commit(node, transacting):
    deliver(node, transacting, 3, prefetch=1)
    transacting.session.commit()
    assert transacting.take() == ["0"]
    transacting.session.ack(1, multiple=False)
    assert transacting.take() == []
    transacting.session.commit()
    assert transacting.take() == ["1"]


def test_closing_undoes_a_transaction(node, transacting):
    deliver(node, transacting, 2)
    transacting.session.commit()
    node.settle()
    transacting.publish("never")
    transacting.session.ack(1, multiple=False)
    transacting.session.close()
    node.settle()
    assert node.contents() == ["0", "1"]


def test_a_commit_that_a_full_queue_refuses_fails(node, transacting):
    node.queue("full", max_length=1, overflow="reject-publish")
    for body in ("a", "b"):
        transacting.publish(body, "full")
    with refused(PreconditionFailed, "partial tx completion"):
        transacting.session.commit()
    assert node.contents("full") == ["a"]


def test_an_atomic_block_takes_effect_as_a_whole(node, client):
    client.session.select_confirms()
    client.publish("1")
    client.consume()
    node.settle()

    def steps():
        client.publish("2")
        yield
        client.session.ack(client.tags()[0], multiple=False)
        yield
        node.settle()
        assert client.seen() == ["1"]

    client.session.do_atomically(steps())
    node.settle()
    assert client.seen() == ["1", "2"]
    assert [verdict.number for verdict in client.session.verdicts()] == [1]
    assert client.session.transaction is None


def test_an_atomic_block_that_fails_has_no_effect(node, client):
    client.publish("1")
    client.consume()
    node.settle()

    def steps():
        client.publish("2")
        client.session.ack(client.tags()[0], multiple=False)
        yield
        client.publish("3", exchange="nope")

    with pytest.raises(NotFound):
        client.session.do_atomically(steps())
    node.settle()
    assert client.seen() == ["1"]
    client.session.ack(client.tags()[0], multiple=False)


@pytest.mark.parametrize("operation", ["commit", "rollback"])
def test_a_session_that_is_not_transactional_has_nothing_to_end(client, operation):
    with refused(PreconditionFailed, "channel is not transactional"):
        getattr(client.session, operation)()


def test_a_queue_deleted_before_the_commit_gets_nothing(node, transacting):
    transacting.publish("a")
    node.vhost.delete_queue(node.vhost.queues["q"])
    node.queue()
    transacting.session.commit()
    assert node.contents() == []


# -- direct reply-to ---------------------------------------------------------------------------------------


def ask(node, asker):
    """Publish a request; return the name that answers go to."""
    asker.publish("request", reply_to=REPLY_TO)
    answerer = node.client()
    tag, entry, _ = answerer.session.get("q", no_ack=False)
    answerer.session.ack(tag, multiple=False)
    return entry.message.properties.reply_to


def test_a_reply_goes_directly_to_the_requester(node, client):
    client.consume(REPLY_TO, "replies", no_ack=True)
    name = ask(node, client)
    assert name.startswith(f"{REPLY_TO}.")
    node.client().publish("answer", name)
    ((tag, number, entry),) = client.delivered
    assert (tag, number, entry.message.body) == ("replies", 1, b"answer")
    assert (entry.message.exchange, entry.message.routing_key) == ("", name)


def test_every_session_has_a_name_of_its_own(node):
    names = set()
    for _ in range(3):
        client = node.client()
        client.consume(REPLY_TO, no_ack=True)
        names.add(ask(node, client))
    assert len(names) == 3


def test_reply_consumers_acknowledge_automatically_and_there_is_one(client):
    with refused(PreconditionFailed, "reply consumer cannot acknowledge"):
        client.consume(REPLY_TO)
    client.consume(REPLY_TO, no_ack=True, exclusive=True)
    with refused(PreconditionFailed, "reply consumer already set"):
        client.consume(REPLY_TO, "other", no_ack=True)


@pytest.mark.parametrize("end", ["cancel", "close"])
def test_a_reply_to_a_requester_that_has_gone_is_unroutable(node, client, end):
    client.consume(REPLY_TO, no_ack=True)
    name = ask(node, client)
    client.session.cancel("c") if end == "cancel" else client.session.close()
    other = node.client()
    other.publish("answer", name, mandatory=True)
    assert client.delivered == []
    assert bodies(other.back) == ["answer"]


def test_a_new_reply_consumer_has_a_new_name(node, client):
    client.consume(REPLY_TO, no_ack=True)
    old = ask(node, client)
    client.session.cancel("c")
    client.consume(REPLY_TO, no_ack=True)
    node.client().publish("late", old)
    node.client().publish("answer", ask(node, client))
    assert client.seen() == ["answer"]


def test_an_answer_committed_after_the_asker_has_gone_is_dropped(node, client):
    client.consume(REPLY_TO, no_ack=True)
    name = ask(node, client)
    other = node.client()
    other.session.select_transactions()
    other.publish("answer", name)
    client.session.close()
    other.session.commit()
    assert client.delivered == []


def test_reply_names_are_no_queues(node, client):
    client.consume(REPLY_TO, no_ack=True)
    name = ask(node, client)
    with pytest.raises(NotFound):
        node.client().get(name)


def test_properties_that_are_refused_once_are_refused_again(node, client):
    plain, bad = message("a", "q"), message("b", "q", delivery_mode=7)
    for each in (plain, bad, plain, bad):
        if each is plain:
            client.session.publish(each)
        else:
            with pytest.raises(PreconditionFailed):
                client.session.publish(each)
    assert node.contents() == ["a", "a"]


def test_replies_to_a_client_that_does_not_read_are_dropped_beyond_a_bound(node):
    asker, server = node.client(), node.client()
    asker.consume(REPLY_TO, no_ack=True)
    name = ask(node, asker)
    asker.room = False
    server.publish("late", name)
    assert asker.seen() == ["late"]  # it may only be busy
    asker.full = True
    server.publish("lost", name)
    server.session.publish_all([message("lost", name), message("lost too", name)], 12)
    assert node.broker.drops.counts["reply_unread"] == 3
    asker.room, asker.full = True, False
    server.publish("seen", name)
    assert asker.seen() == ["late", "seen"]


def test_while_an_alarm_is_raised_replies_to_a_client_that_does_not_read_are_dropped_at_once(node):
    asker, quick, server = node.client(), node.client(), node.client()
    for each in (asker, quick):
        each.consume(REPLY_TO, no_ack=True)
    asker.room = False
    name, other = ask(node, asker), ask(node, quick)
    node.broker.alarms.set(MEMORY, raised=True)
    server.publish("lost", name)
    server.publish("seen", other)
    assert (asker.seen(), quick.seen()) == ([], ["seen"])
    node.broker.alarms.set(MEMORY, raised=False)
    server.publish("again", name)
    assert asker.seen() == ["again"]
