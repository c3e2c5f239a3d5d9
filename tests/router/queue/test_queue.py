"""Limits, time and dead letters of one queue, through sessions of a broker with an injected clock."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leveret.protocol.errors import NotFound
from leveret.router.queue.dispatch import DRAIN
from leveret.router.queue.expiry import BUCKET
from leveret.router.queue.limits import EXPIRE
from leveret.router.turns.backlog import at_once
from tests.router.harness import START, Node


@pytest.fixture
def node():
    return Node()


@pytest.fixture
def client(node):
    return node.client()


def publish(client, *bodies, **properties):
    for body in bodies:
        client.publish(str(body), **properties)


def letters(node):
    """A queue that takes what becomes of messages; ``q`` must name the default exchange as dead-letter
    exchange.
    """
    node.queue("letters")
    return {"dead_letter_exchange": "", "dead_letter_routing_key": "letters"}


# -- limits ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "kept", "dead"),
    [
        ({"max_length": 2}, ["333", "4"], ["1", "22"]),
        ({"max_length": 0}, [], ["1", "22", "333", "4"]),
        ({"max_length_bytes": 4}, ["333", "4"], ["1", "22"]),
        ({"max_length_bytes": 3}, ["4"], ["1", "22", "333"]),
        ({"max_length_bytes": 0}, [], ["1", "22", "333", "4"]),
        ({"max_length": 1, "overflow": "drop-head"}, ["4"], ["1", "22", "333"]),
        ({"max_length": 3, "max_length_bytes": 4}, ["333", "4"], ["1", "22"]),
        ({"max_length": 2, "overflow": "reject-publish"}, ["1", "22"], []),
        ({"max_length": 0, "overflow": "reject-publish"}, [], []),
        ({"max_length_bytes": 3, "overflow": "reject-publish"}, ["1", "22"], []),
        ({"max_length_bytes": 2, "overflow": "reject-publish"}, ["1", "4"], []),
        ({"max_length": 2, "overflow": "reject-publish-dlx"}, ["1", "22"], ["333", "4"]),
        ({"max_length_bytes": 2, "overflow": "reject-publish-dlx"}, ["1", "4"], ["22", "333"]),
    ],
)
def test_what_a_full_queue_keeps_and_what_goes_to_the_dead_letters(node, client, arguments, kept, dead):
    queue = node.queue(**arguments, **letters(node))
    publish(client, 1, 22, 333, 4)
    node.settle()
    assert node.contents() == kept
    assert node.contents("letters") == dead
    assert queue.bytes == sum(map(len, kept))


def test_bodies_without_a_byte_fit_a_limit_of_no_bytes(node, client):
    node.queue(max_length_bytes=0)
    publish(client, "", "")
    assert node.contents() == ["", ""]


def test_a_waiting_consumer_takes_what_a_limit_of_none_would_drop(node, client):
    node.queue(max_length=0)
    client.consume()
    publish(client, 1, 2, 3)
    assert client.take() == ["1", "2", "3"]


def test_a_consumer_that_is_full_does_not_keep_messages_from_being_dropped(node, client):
    node.queue(max_length=1)
    client.consume(prefetch=1)
    publish(client, 1, 2, 3)
    assert client.take() == ["1"]
    assert node.contents() == ["3"]


def test_a_waiting_consumer_makes_room_before_a_publish_is_refused(node, client):
    node.queue(max_length=1, overflow="reject-publish")
    client.consume()
    publish(client, 1, 2, 3)
    assert client.take() == ["1", "2", "3"]


def test_an_expired_message_makes_room_before_a_publish_is_refused(node, client):
    node.queue(max_length=1, overflow="reject-publish")
    publish(client, 1, expiration="50")
    node.broker.now += 51
    publish(client, 2)
    assert node.contents() == ["2"]


def test_requeueing_into_a_full_queue_drops_the_head(node, client):
    node.queue(max_length=2, **letters(node))
    publish(client, 1)
    client.session.get("q", no_ack=False)
    publish(client, 2, 3)
    client.session.nack(1, multiple=False, requeue=True)
    node.settle()
    assert node.contents() == ["2", "3"]
    assert node.contents("letters") == ["1"]


def test_requeueing_into_a_full_queue_that_refuses_drops_nothing(node, client):
    node.queue(max_length=1, overflow="reject-publish")
    publish(client, 1)
    client.session.get("q", no_ack=False)
    publish(client, 2)
    client.session.nack(1, multiple=False, requeue=True)
    assert node.contents() == ["1", "2"]


def test_the_head_that_is_dropped_is_the_oldest_of_the_highest_priority(node, client):
    node.queue(max_priority=10, max_length=2)
    for body, priority in (("low", 1), ("high", 5), ("mid", 3)):
        publish(client, body, priority=priority)
    assert node.contents() == ["mid", "low"]


def test_a_policy_shortens_a_queue_at_once_and_lets_it_grow_again(node, client):
    queue = node.queue()
    publish(client, *range(6))
    node.vhost.policies.put("p", "^q$", {"max-length": 2})
    node.vhost.apply_policies()
    assert node.contents() == ["4", "5"]
    assert queue.bytes == 2
    publish(client, 6)
    assert node.contents() == ["5", "6"]
    node.vhost.policies.remove("p")
    node.vhost.apply_policies()
    publish(client, 7)
    assert node.contents() == ["5", "6", "7"]


def test_a_policy_that_refuses_publishes_keeps_what_is_there(node, client):
    node.queue()
    publish(client, 1, 2, 3)
    node.vhost.policies.put("p", "^q$", {"max-length": 1, "overflow": "reject-publish"})
    node.vhost.apply_policies()
    publish(client, 4)
    assert node.contents() == ["1", "2", "3"]


def test_a_batch_over_the_limit_asks_for_one_delivery(node, client):
    queue = node.queue(max_length=1)
    publish(client, *range(50))
    assert list(node.broker.scheduler._touched) == [queue]


def test_purging_counts_ready_messages_and_dead_letters_none(node, client):
    queue = node.queue(message_ttl=50, **letters(node))
    publish(client, 1, 2, 3)
    client.session.get("q", no_ack=False)
    assert queue.purge() == 2
    assert (queue.bytes, queue.unacked) == (0, 1)
    node.at(1000)
    assert node.contents("letters") == []


# -- time --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ttl", "expiration", "gone_at"),
    [(100, None, 100), (None, "100", 100), (100, "40", 40), (40, "100", 40), (0, None, 0), (None, "0", 0)],
)
def test_a_message_expires_at_the_shorter_of_its_deadlines(node, client, ttl, expiration, gone_at):
    node.queue(**({} if ttl is None else {"message_ttl": ttl}), **letters(node))
    publish(client, "a", expiration=expiration)
    if gone_at:
        node.at(gone_at - 1)
        assert node.contents() == ["a"]
    node.at(gone_at)
    assert node.contents() == []
    assert node.contents("letters") == ["a"]


def test_a_short_message_expires_behind_a_long_one(node, client):
    node.queue(**letters(node))
    publish(client, "long", expiration="1000")
    publish(client, "short", expiration="100")
    publish(client, "for ever")
    node.at(100 + BUCKET)
    assert node.contents() == ["long", "for ever"]
    assert node.contents("letters") == ["short"]
    node.at(1000)
    assert node.contents() == ["for ever"]


def test_a_message_behind_one_that_expired_from_the_middle_still_expires(node, client):
    node.queue()
    publish(client, "for ever")
    publish(client, "a", expiration="50")
    node.at(100)
    publish(client, "b", expiration="50")
    node.at(200)
    assert node.contents() == ["for ever"]


@pytest.mark.parametrize("late", [1, 5, BUCKET - 1])
def test_a_message_past_its_deadline_is_not_delivered_though_still_there(node, client, late):
    node.queue(**letters(node))
    publish(client, "for ever")
    publish(client, "a", expiration="3")
    node.settle()
    node.broker.now += 3 + late  # no timer has been called
    client.consume()
    assert client.take() == ["for ever"]
    assert node.contents("letters") == ["a"]


def test_basic_get_passes_over_what_is_past_its_deadline(node, client):
    node.queue(**letters(node))
    publish(client, "a", expiration="3")
    publish(client, "b")
    node.broker.now += 4
    assert client.get() == "b"
    assert client.get() is None
    node.settle()
    assert node.contents("letters") == ["a"]


def test_a_ttl_of_0_is_delivered_to_a_waiting_consumer(node, client):
    node.queue(message_ttl=0)
    client.consume(prefetch=1)
    publish(client, "a", "b")
    assert client.take() == ["a"]
    assert node.contents() == []


@pytest.mark.parametrize("ahead", [{}, {"expiration": "1000"}])
def test_a_ttl_of_0_behind_others_is_never_delivered_later(node, client, ahead):
    node.queue()
    publish(client, "first", **ahead)
    publish(client, "a", expiration="0")
    node.settle()
    node.broker.now += 1
    client.consume()
    assert client.take() == ["first"]


def test_a_requeued_message_keeps_its_deadline(node, client):
    queue = node.queue(message_ttl=100, **letters(node))
    publish(client, "a")
    client.session.get("q", no_ack=False)
    node.at(50)
    assert not queue._expiring
    client.session.nack(1, multiple=False, requeue=True)
    node.at(99)
    assert node.contents() == ["a"]
    node.at(100 + BUCKET)
    assert node.contents() == []
    assert node.contents("letters") == ["a"]


def test_a_message_requeued_after_its_deadline_expires(node, client):
    node.queue(message_ttl=100, **letters(node))
    publish(client, "a")
    client.session.get("q", no_ack=False)
    node.at(500)
    client.session.nack(1, multiple=False, requeue=True)
    client.consume()
    assert client.take() == []
    node.at(500 + BUCKET)
    assert node.contents("letters") == ["a"]


def test_a_held_message_does_not_expire(node, client):
    queue = node.queue(message_ttl=100, **letters(node))
    publish(client, "a")
    client.session.get("q", no_ack=False)
    node.at(1000)
    assert queue.unacked == 1
    assert node.contents("letters") == []


def test_delivered_messages_leave_the_time_index(node, client):
    queue = node.queue()
    client.consume(no_ack=True)
    for expiration in ("100000", "5000", "70000", "1"):
        publish(client, "a", expiration=expiration)
    client.take()
    assert not queue.expiry._buckets
    assert not queue._expiring


@pytest.mark.slow
@pytest.mark.parametrize("mixed", [False, True])
def test_many_messages_that_expire_at_once_do_so_in_turns(node, client, mixed):
    node.queue(**letters(node))
    if mixed:
        publish(client, "for ever")
    count = 3 * EXPIRE
    publish(client, *range(count), expiration="50")
    node.settle()
    node.broker.now = START + 50 + BUCKET
    left = []
    while (due := node.broker.timers.next_deadline()) is not None and due <= node.broker.now:
        node.broker.on_timers()
        node.broker.scheduler.end_batch()
        left.append(len(node.vhost.queues["q"].ready) - mixed)
    node.settle()
    assert left == [2 * EXPIRE, EXPIRE, 0]
    assert node.contents("letters") == [str(number) for number in range(count)]


def test_a_consumer_does_not_wait_for_all_that_expired_before_others_have_their_turn(node, client):
    node.queue()
    publish(client, *range(5 * DRAIN), expiration="50")
    publish(client, "alive")
    node.settle()
    node.broker.now += 100
    client.consume()
    turns = 1
    while node.broker.scheduler.end_batch():
        turns += 1
    assert turns >= 3
    assert client.seen() == ["alive"]


def test_timers_do_not_pile_up_while_short_messages_pass_a_long_one(node, client):
    node.queue()
    publish(client, "long", expiration="3600000")
    for moment in range(0, 5000, 50):
        publish(client, "short", expiration="20")
        node.at(moment)
    assert len(node.broker.timers) <= 5


@pytest.mark.slow
def test_deleted_queues_are_not_kept_until_their_deadlines(node):
    for number in range(5000):
        node.vhost.delete_queue(node.queue(f"q{number}", expires=86_400_000))
    assert len(node.broker.timers) < 2000


@given(
    data=st.lists(
        st.one_of(
            st.tuples(st.just("publish"), st.one_of(st.none(), st.integers(0, 120))),
            st.tuples(st.just("wait"), st.integers(0, 60)),
            st.tuples(st.just("jump"), st.integers(0, 60)),  # time passes, but no timer is called
            st.tuples(st.just("get"), st.none()),
            st.tuples(st.just("requeue"), st.none()),
        ),
        max_size=40,
    ),
    ttl=st.one_of(st.none(), st.integers(0, 80)),
    priorities=st.booleans(),
)
@settings(deadline=None, max_examples=150)
def test_nothing_is_delivered_late_and_nothing_stays_after_its_deadline(data, ttl, priorities):
    node = Node()
    node.queue(
        **({} if ttl is None else {"message_ttl": ttl}),
        **({"max_priority": 2} if priorities else {}),
        **letters(node),
    )
    client = node.client()
    deadlines, held, published, taken = {}, [], 0, 0
    clock = 0
    for step, value in data:
        if step == "publish":
            own = {} if value is None else {"expiration": str(value)}
            publish(client, published, priority=published % 4, **own)
            ttls = [each for each in (ttl, value) if each is not None]
            deadlines[str(published)] = clock + min(ttls) if ttls else None
            published += 1
        elif step == "wait":
            clock += value
            node.at(clock)
        elif step == "jump":
            clock += value
            node.broker.now = START + clock
        elif step == "get":
            node.broker.now = START + clock
            found = client.session.get("q", no_ack=False)
            if found is not None:
                body = found[1].message.body.decode()
                assert deadlines[body] is None or deadlines[body] >= clock
                held.append((found[0], body))
                taken += 1
        elif step == "requeue" and held:
            client.session.nack(held.pop()[0], multiple=False, requeue=True)
    clock += BUCKET
    node.at(clock)
    waiting = node.contents()
    for body in waiting:
        assert deadlines[body] is None or deadlines[body] >= clock - BUCKET
    known = sorted([*waiting, *node.contents("letters"), *(body for _, body in held)])
    assert known == sorted(map(str, range(published)))
    node.at(clock + 200)
    queue = node.vhost.queues["q"]
    assert not queue.expiry._buckets
    assert queue.bytes == sum(map(len, node.contents()))


# -- quorum queues -----------------------------------------------------------------------------------------


def quorum(node, limit):
    return node.queue(queue_type="quorum", delivery_limit=limit, **letters(node))


@pytest.mark.parametrize("limit", [0, 1, 3])
def test_a_quorum_queue_gives_up_a_message_beyond_its_delivery_limit(node, client, limit):
    quorum(node, limit)
    publish(client, "a")
    client.consume()
    node.settle()
    returns = []
    while client.delivered:
        (_, tag, entry) = client.delivered.pop()
        returns.append(entry.returns)
        client.session.nack(tag, multiple=False, requeue=True)
        node.settle()
    assert returns == list(range(limit + 1))
    (letter,) = node.vhost.queues["letters"].ready
    assert letter.message.headers["x-death"][0]["reason"] == "delivery_limit"


def test_without_a_dead_letter_exchange_a_message_beyond_the_delivery_limit_is_dropped(node, client):
    queue = node.queue(queue_type="quorum", delivery_limit=0)
    publish(client, "a")
    client.session.get("q", no_ack=False)
    client.session.nack(1, multiple=False, requeue=True)
    node.settle()
    assert (len(queue.ready), queue.unacked) == (0, 0)


@pytest.mark.parametrize("how", ["nack", "recover", "close"])
def test_every_way_back_counts_against_the_delivery_limit(node, client, how):
    quorum(node, 0)
    publish(client, "a")
    client.session.get("q", no_ack=False)
    if how == "nack":
        client.session.nack(1, multiple=True, requeue=True)
    elif how == "recover":
        client.session.recover()
    else:
        client.session.close()
    node.settle()
    assert node.contents("letters") == ["a"]


def test_a_classic_queue_has_no_delivery_limit(node, client):
    node.queue()
    publish(client, "a")
    for tag in range(1, 100):
        client.session.get("q", no_ack=False)
        client.session.nack(tag, multiple=False, requeue=True)
    assert node.contents() == ["a"]


# -- queues that end ---------------------------------------------------------------------------------------

RENEW = {
    "get": lambda client: client.get(),
    "declare": lambda client: client.topology.declare_queue(
        "q", durable=False, exclusive=False, auto_delete=False, arguments={"x-expires": 1000}
    ),
    "passive declare": lambda client: client.topology.find_queue("q"),
    "consume and cancel": lambda client: (client.consume(), client.session.cancel("c")),
}
NO_USE = {
    "publish": lambda client: client.publish("a"),
    "bind": lambda client: at_once(client.topology.bind_queue_in_slices("q", "amq.direct", "k", {})),
    "purge": lambda client: client.topology.purge_queue("q"),
    "nothing": lambda client: None,
}


@pytest.mark.parametrize("use", RENEW.values(), ids=RENEW.keys())
def test_use_keeps_a_queue_from_expiring(node, client, use):
    node.queue(expires=1000)
    node.at(900)
    use(client)
    node.at(1899)
    assert "q" in node.vhost.queues
    node.at(1900)
    assert "q" not in node.vhost.queues


@pytest.mark.parametrize("what", NO_USE.values(), ids=NO_USE.keys())
def test_what_is_no_use_does_not_keep_a_queue_from_expiring(node, client, what):
    node.queue(expires=1000)
    node.at(900)
    what(client)
    node.at(1000)
    assert "q" not in node.vhost.queues


def test_a_queue_with_consumers_does_not_expire_and_then_takes_its_whole_time(node, client):
    node.queue(expires=1000)
    client.consume()
    node.at(5500)
    client.session.cancel("c")
    node.at(6499)
    assert "q" in node.vhost.queues
    node.at(6500)
    assert "q" not in node.vhost.queues


def test_a_policy_about_expiry_counts_from_when_it_is_set(node, client):
    node.queue()
    node.at(10_000)
    node.vhost.policies.put("p", ".*", {"expires": 1000})
    node.vhost.apply_policies()
    node.at(10_900)
    assert "q" in node.vhost.queues
    node.vhost.apply_policies()  # nothing changes for the queue
    node.at(11_000)
    assert "q" not in node.vhost.queues


def test_an_expired_queue_dead_letters_nothing(node, client):
    node.queue(expires=100, **letters(node))
    publish(client, "a")
    node.at(100)
    assert node.contents("letters") == []


def test_an_auto_delete_queue_goes_with_its_last_consumer(node, client):
    node.queue(auto_delete=True)
    client.consume(tag="a")
    client.consume(tag="b")
    client.session.cancel("a")
    assert "q" in node.vhost.queues
    client.session.cancel("b")
    assert "q" not in node.vhost.queues


def test_an_auto_delete_queue_that_had_no_consumer_stays(node, client):
    node.queue(auto_delete=True)
    publish(client, "a")
    client.get()
    client.session.close()
    node.at(1000)
    assert "q" in node.vhost.queues


def test_what_is_held_of_a_deleted_queue_can_still_be_settled(node, client):
    queue = node.queue()
    publish(client, "a", "b", "c")
    client.consume()
    node.settle()
    node.vhost.delete_queue(queue)
    assert client.ended == ["c"]
    client.session.ack(1, multiple=False)
    client.session.nack(2, multiple=False, requeue=True)
    client.session.close()
    node.settle()
    assert queue.unacked == 0
    with pytest.raises(NotFound):
        client.session.get("q", no_ack=True)
