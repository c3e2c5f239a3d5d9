"""Whose turn it is: through sessions, message by message."""

import sys

import pytest

from leveret.protocol.errors import AccessRefused, NotImplemented_
from leveret.router.queue.consumers import SLICE
from leveret.router.queue.delivery import DRAIN_BYTES
from leveret.router.queue.dispatch import DRAIN, ROUND
from tests.router.harness import Node, bodies


@pytest.fixture
def node():
    return Node()


def fill(node, *contents, queue="q"):
    publisher = node.client()
    for body in contents:
        publisher.publish(str(body), queue)


def held(client):
    return {tag: bodies([entry]) for _, tag, entry in client.delivered}


# -- round robin -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("consumers", [1, 2, 3, 7])
def test_consumers_take_turns_message_by_message(node, consumers):
    node.queue()
    clients = [node.client() for _ in range(consumers)]
    for client in clients:
        client.consume(no_ack=True)
    fill(node, *range(20))
    node.settle()
    for place, client in enumerate(clients):
        assert client.seen() == [str(number) for number in range(place, 20, consumers)]


def test_turns_go_on_where_they_ended_from_batch_to_batch(node):
    node.queue()
    clients = [node.client() for _ in range(3)]
    for client in clients:
        client.consume(no_ack=True)
    for body in range(7):
        fill(node, body)
        node.settle()
    fill(node, 7, 8, 9, 10)
    node.settle()
    expected = [["0", "3", "6", "9"], ["1", "4", "7", "10"], ["2", "5", "8"]]
    assert [client.seen() for client in clients] == expected


def test_turns_stay_fair_over_a_long_drain(node):
    node.queue()
    fill(node, *range(5000))
    clients = [node.client() for _ in range(5)]
    for client in clients:
        client.consume(no_ack=True)
    node.settle()
    for place, client in enumerate(clients):
        assert client.seen() == [str(number) for number in range(place, 5000, 5)]


def test_a_thousand_consumers_with_a_prefetch_of_one_share_a_drain(node):
    node.queue()
    clients = [node.client() for _ in range(1000)]
    for client in clients:
        client.consume(prefetch=1)
    fill(node, *range(2500))
    node.settle()
    assert [client.seen() for client in clients] == [[str(number)] for number in range(1000)]
    for client in clients:
        client.session.ack(1, multiple=False)
    node.settle()
    assert [len(client.seen()) for client in clients] == [2] * 1000


def test_a_drain_makes_way_for_others_and_goes_on(node):
    node.queue()
    fill(node, *range(3 * DRAIN))
    clients = [node.client() for _ in range(50)]
    for client in clients:
        client.consume(no_ack=True)
    delivered = [0]
    while delivered[-1] < 3 * DRAIN:
        node.broker.scheduler.end_batch()
        delivered.append(sum(len(client.delivered) for client in clients))
        assert 0 < delivered[-1] - delivered[-2] <= 2 * DRAIN
    assert len(delivered) > 2
    assert not node.contents()


def test_a_turn_serves_no_more_consumers_than_it_has_time_for(node):
    node.queue()
    clients = [node.client() for _ in range(5 * ROUND)]
    for client in clients:
        client.consume(no_ack=True)
    fill(node, *range(len(clients)))
    served = [0]
    while served[-1] < len(clients):
        node.broker.scheduler.end_batch()
        served.append(sum(bool(client.delivered) for client in clients))
        assert 0 < served[-1] - served[-2] <= 2 * ROUND


def test_a_drain_of_one_queue_does_not_keep_another_waiting(node):
    node.queue("big")
    node.queue("small")
    fill(node, *range(3 * DRAIN), queue="big")
    drain, light = node.client(), node.client()
    drain.consume("big", no_ack=True)
    light.consume("small", no_ack=True)
    fill(node, "hello", queue="small")
    assert node.broker.scheduler.end_batch()
    assert light.seen() == ["hello"]
    assert len(drain.seen()) == DRAIN


@pytest.mark.parametrize("arguments", [{}, {"max_priority": 5}])
@pytest.mark.parametrize("part", ["body", "headers"])
def test_large_messages_are_given_in_smaller_rounds(node, part, arguments):
    """Headers count as bodies do: all bytes wait in memory for a client that reads slowly."""
    node.queue(**arguments)
    text = "x" * (DRAIN_BYTES // 40)
    publisher = node.client()
    for _ in range(120):
        if part == "body":
            publisher.publish(text)
        else:
            publisher.publish("", headers={"large": text})
    node.settle()
    rounds = []
    client = node.client()
    deliver = client.write_deliveries

    def count(receiver, first, entries):
        rounds.append(len(entries))
        deliver(receiver, first, entries)

    client.write_deliveries = count
    client.consume(no_ack=True)
    node.settle()
    assert sum(rounds) == 120
    assert max(rounds) <= 41


# -- prefetch ----------------------------------------------------------------------------------------------


def test_a_consumer_gets_no_more_than_its_prefetch_until_it_settles(node):
    node.queue()
    fill(node, *range(10))
    client = node.client()
    client.consume(prefetch=3)
    assert client.take() == ["0", "1", "2"]
    client.session.ack(1, multiple=False)
    assert client.take() == ["3"]
    client.session.ack(4, multiple=True)
    assert client.take() == ["4", "5", "6"]
    client.session.nack(5, multiple=False, requeue=False)
    assert client.take() == ["7"]


def test_prefetch_does_not_limit_automatic_acknowledgement(node):
    node.queue()
    fill(node, *range(10))
    client = node.client()
    client.consume(prefetch=1, no_ack=True)
    assert len(client.take()) == 10


def test_a_changed_prefetch_is_for_consumers_to_come(node):
    node.queue()
    fill(node, *range(10))
    client = node.client()
    client.consume(tag="a", prefetch=1)
    client.session.set_prefetch(3, shared=False)
    client.consume(tag="b")
    node.settle()
    assert (len(client.seen("a")), len(client.seen("b"))) == (1, 3)


def test_the_shared_prefetch_spans_consumers_and_queues(node):
    node.queue("one")
    node.queue("two")
    fill(node, *range(5), queue="one")
    fill(node, *range(5), queue="two")
    client = node.client()
    client.session.set_prefetch(4, shared=True)
    for tag, queue in (("a", "one"), ("b", "one"), ("c", "two")):
        client.consume(queue, tag)
    assert len(client.take()) == 4
    client.session.ack(1, multiple=False)
    assert len(client.take()) == 1
    client.session.ack(0, multiple=True)
    assert len(client.take()) == 4


def test_consumers_that_share_a_prefetch_share_its_messages_in_turn(node):
    node.queue()
    client = node.client()
    client.session.set_prefetch(4, shared=True)
    for tag in "abc":
        client.consume(tag=tag)
    fill(node, *range(9))
    node.settle()
    assert {tag: client.seen(tag) for tag in "abc"} == {"a": ["0", "3"], "b": ["1"], "c": ["2"]}


def test_both_prefetches_hold_together(node):
    node.queue()
    fill(node, *range(20))
    client = node.client()
    client.session.set_prefetch(5, shared=True)
    client.consume(tag="a", prefetch=2)
    client.consume(tag="b", prefetch=4)
    node.settle()
    assert (len(client.seen("a")), len(client.seen("b"))) == (2, 3)


def test_a_shared_prefetch_that_is_used_up_stops_automatic_acknowledgement_too(node):
    node.queue("one")
    node.queue("two")
    client = node.client()
    client.session.set_prefetch(2, shared=True)
    client.consume("one", "a")
    client.consume("two", "b", no_ack=True)
    fill(node, 1, 2, queue="one")
    assert client.take() == ["1", "2"]
    fill(node, 3, 4, 5, queue="two")
    assert client.take() == []
    client.session.ack(1, multiple=False)
    assert client.take() == ["3", "4", "5"]


@pytest.mark.parametrize(("change", "more"), [(0, 7), (5, 2), (2, 0), (3, 0)])
def test_the_shared_prefetch_may_change_while_consuming(node, change, more):
    node.queue()
    fill(node, *range(10))
    client = node.client()
    client.session.set_prefetch(3, shared=True)
    client.consume()
    assert len(client.take()) == 3
    client.session.set_prefetch(change, shared=True)
    assert len(client.take()) == more


def test_basic_get_neither_obeys_the_shared_prefetch_nor_counts_against_it(node):
    node.queue()
    fill(node, *range(5))
    client = node.client()
    client.session.set_prefetch(1, shared=True)
    assert client.get(no_ack=False) == "0"
    assert client.get(no_ack=False) == "1"
    client.consume()
    assert client.take() == ["2"]
    client.session.ack(1, multiple=False)
    assert client.take() == []


def test_a_quorum_queue_refuses_consumers_under_a_shared_prefetch(node):
    node.queue(queue_type="quorum")
    client = node.client()
    client.session.set_prefetch(1, shared=True)
    with pytest.raises(NotImplemented_, match="queue 'q' in vhost '/' does not support global qos"):
        client.consume()


# -- priorities --------------------------------------------------------------------------------------------


def test_a_consumer_that_is_full_keeps_its_turn_until_a_message_comes_that_it_cannot_take(node):
    node.queue()
    first, second = node.client(), node.client()
    first.consume(prefetch=1)
    fill(node, 1)
    node.settle()
    second.consume(prefetch=1)
    first.session.nack(1, multiple=False, requeue=True)
    node.settle()
    assert first.seen() == ["1", "1"]
    fill(node, 2)
    node.settle()
    assert second.seen() == ["2"]


def test_the_highest_priority_takes_all_until_it_is_full(node):
    node.queue()
    low, high = node.client(), node.client()
    low.consume(prefetch=10, arguments={"x-priority": -1})
    high.consume(prefetch=2, arguments={"x-priority": 10})
    fill(node, *range(4))
    assert (high.take(), low.take()) == (["0", "1"], ["2", "3"])
    high.session.ack(1, multiple=False)
    fill(node, 4, 5)
    assert (high.take(), low.take()) == (["4"], ["5"])


def test_consumers_of_one_priority_take_turns(node):
    node.queue()
    clients = [node.client() for _ in range(3)]
    for client, priority in zip(clients, (5, 0, 5), strict=True):
        client.consume(no_ack=True, arguments={"x-priority": priority})
    fill(node, *range(4))
    node.settle()
    assert [client.seen() for client in clients] == [["0", "2"], [], ["1", "3"]]


def test_priorities_without_consumers_are_removed(node):
    queue = node.queue()
    client = node.client()
    for priority in range(1000):
        client.consume(arguments={"x-priority": priority})
        client.session.cancel("c")
    assert not queue.consumers._lines
    assert not queue.consumers._waiting


def test_many_consumers_are_each_served_before_any_is_served_twice(node):
    node.queue()
    clients = [node.client() for _ in range(2 * ROUND + 10)]
    for client in clients:
        client.consume(no_ack=True)
    fill(node, *range(2 * len(clients)))
    node.settle()
    bounds = len(clients), 2 * len(clients)
    first, second = zip(*(map(int, client.seen()) for client in clients), strict=True)
    assert (sorted(first), sorted(second)) == (list(range(bounds[0])), list(range(*bounds)))


@pytest.mark.parametrize("single", [False, True])
def test_consumers_that_leave_cost_no_look_at_the_others(node, single):
    """Counted in calls, for a bound in seconds would depend on the machine."""
    count = 2000
    node.queue(single_active_consumer=single)
    client = node.client()
    for number in range(count):
        client.consume(tag=str(number), arguments={"x-priority": number * 7919 % count})
    lines = 0

    def trace(frame, event, argument):
        nonlocal lines
        lines += 1
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        for number in range(count):
            client.session.cancel(str(number))
    finally:
        sys.settrace(before)
    assert lines < 150 * count


# -- single active consumer, exclusive ---------------------------------------------------------------------


def test_only_the_single_active_consumer_receives_and_the_next_takes_over(node):
    queue = node.queue(single_active_consumer=True)
    clients = [node.client() for _ in range(4)]
    for client, priority in zip(clients, (0, 0, 7, 7), strict=True):
        client.consume(arguments={"x-priority": priority})
    first, second, third, fourth = clients
    fill(node, 1, 2)
    assert first.take() == ["1", "2"]
    order = []
    for leaver in (first, third, fourth):
        leaver.session.cancel("c")
        order.append(clients.index(queue.consumers.active.sink.sink))
    assert order == [2, 3, 1]  # by priority, then by age
    fill(node, 3)
    assert second.take() == ["3"]
    assert [third.take(), fourth.take()] == [[], []]


def test_a_newcomer_of_higher_priority_does_not_take_over(node):
    node.queue(single_active_consumer=True)
    first, second = node.client(), node.client()
    first.consume()
    second.consume(arguments={"x-priority": 10})
    fill(node, 1)
    assert first.take() == ["1"]


def test_what_the_single_active_consumer_held_goes_to_the_next_when_its_session_ends(node):
    node.queue(single_active_consumer=True)
    first, second = node.client(), node.client()
    first.consume(prefetch=2)
    second.consume()
    fill(node, 1, 2, 3)
    assert first.take() == ["1", "2"]
    first.session.close()
    node.settle()
    assert second.seen() == ["1", "2", "3"]
    assert second.redelivered == [True, True, False]


def test_a_single_active_consumer_that_cancels_keeps_what_it_holds(node):
    node.queue(single_active_consumer=True)
    first, second = node.client(), node.client()
    first.consume(prefetch=1)
    second.consume()
    fill(node, 1, 2)
    assert first.take() == ["1"]
    first.session.cancel("c")
    assert second.take() == ["2"]
    first.session.ack(1, multiple=False)


@pytest.mark.parametrize(
    ("between", "order"),
    [(False, ["1", "2", "3", "4"]), (True, ["3", "4", "1", "2"])],
    ids=["in one batch", "in two batches"],
)
def test_messages_requeued_after_a_cancel_come_behind_those_the_successor_already_has(node, between, order):
    """RabbitMQ 3.10 does the same: the successor is active from the cancel on, so what is requeued later
    comes out of order. Who needs the order requeues before cancelling.
    """
    node.queue(single_active_consumer=True)
    first, second = node.client(), node.client()
    first.consume(prefetch=2)
    second.consume()
    fill(node, 1, 2)
    assert first.take() == ["1", "2"]
    fill(node, 3, 4)
    first.session.cancel("c")
    if between:
        node.settle()
    first.session.nack(2, multiple=True, requeue=True)
    node.settle()
    assert second.seen() == order


def test_a_full_single_active_consumer_does_not_let_others_in(node):
    node.queue(single_active_consumer=True)
    first, second = node.client(), node.client()
    first.consume(prefetch=1)
    second.consume()
    fill(node, 1, 2)
    assert (first.take(), second.take()) == (["1"], [])


@pytest.mark.parametrize(
    ("there", "arguments", "exclusive", "refused"),
    [
        (None, {}, True, False),
        (False, {}, True, True),
        (True, {}, False, True),
        (True, {}, True, True),
        (None, {"single_active_consumer": True}, True, True),
        (None, {"single_active_consumer": True}, False, False),
    ],
)
def test_an_exclusive_consumer_is_alone(node, there, arguments, exclusive, refused):
    node.queue(**arguments)
    if there is not None:
        node.client().consume(exclusive=there)
    client = node.client()
    if refused:
        with pytest.raises(AccessRefused, match="queue 'q' in vhost '/' in exclusive use"):
            client.consume(exclusive=exclusive)
    else:
        client.consume(exclusive=exclusive)


def test_an_exclusive_consumer_that_left_lets_others_in(node):
    node.queue()
    first, second = node.client(), node.client()
    first.consume(exclusive=True)
    first.session.cancel("c")
    second.consume()


# -- coming and going --------------------------------------------------------------------------------------


def test_a_cancelled_consumer_may_settle_what_it_holds(node):
    queue = node.queue()
    client = node.client()
    client.consume()
    fill(node, 1, 2)
    node.settle()
    client.session.cancel("c")
    fill(node, 3)
    assert client.take() == ["1", "2"]
    client.session.ack(1, multiple=False)
    client.session.nack(2, multiple=False, requeue=True)
    assert queue.unacked == 0
    assert node.contents() == ["2", "3"]


def test_a_consumer_whose_client_does_not_read_is_passed_over_and_comes_back(node):
    node.queue()
    slow, quick = node.client(), node.client()
    slow.consume()
    quick.consume()
    slow.room = False
    fill(node, *range(4))
    assert (slow.take(), quick.take()) == ([], ["0", "1", "2", "3"])
    slow.room = True
    slow.session.deliveries.wake()
    fill(node, *range(4, 8))
    assert (slow.take(), quick.take()) == (["5", "7"], ["4", "6"])


def test_messages_wait_while_no_client_reads(node):
    node.queue()
    client = node.client()
    client.consume()
    client.room = False
    fill(node, *range(2 * SLICE))
    assert client.take() == []
    client.room = True
    client.session.deliveries.wake()
    assert len(client.take()) == 2 * SLICE


def test_a_consumer_that_fills_its_client_in_the_middle_of_a_drain_stops(node):
    node.queue()
    fill(node, *range(4 * SLICE))
    client = node.client()
    deliver = client.write_deliveries

    def deliver_and_fill(receiver, first, entries):
        deliver(receiver, first, entries)
        client.room = False

    client.write_deliveries = deliver_and_fill
    client.consume()
    assert len(client.take()) == SLICE
    assert len(node.contents()) == 3 * SLICE


def test_a_requeued_message_is_offered_again_before_later_ones(node):
    node.queue()
    fill(node, *range(5))
    client = node.client()
    client.consume(prefetch=2)
    assert client.take() == ["0", "1"]
    client.session.nack(1, multiple=False, requeue=True)
    assert client.take() == ["0"]


def test_an_error_while_delivering_leaves_the_other_consumers_in_line(node):
    node.queue()
    broken, sound = node.client(), node.client()
    broken.consume(no_ack=True)
    sound.consume(no_ack=True)

    def deliver(receiver, first, entries):
        raise RuntimeError("broken")

    broken.write_deliveries = deliver
    fill(node, 1)
    node.settle()
    fill(node, 2, 3)
    assert sound.take() == ["2", "3"]
