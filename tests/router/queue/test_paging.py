"""Paging of a queue: moving messages out of memory, loading them, and their order."""

import pytest

from leveret.router.queue.paging import COST, READ_AHEAD, NextMessagePending
from tests.router.queue.paged import (
    ALL,
    FEW,
    HEAD,
    PAGE,
    Waiter,
    exhaust,
    fill,
    in_memory,
    names,
    page_out,
    publish,
)

# -- giving up memory -------------------------------------------------------------------------------------


def test_the_head_stays_in_memory(node, pager):
    queue = fill(node, pager, range(HEAD + 2 * PAGE))
    assert in_memory(node) == names(range(HEAD))
    assert len(queue.ready) == HEAD + 2 * PAGE
    assert [run.count for run in queue.ready.runs] == [PAGE, PAGE]


def test_what_is_published_behind_runs_stays_in_memory_until_more_is_given_up(node, pager, client):
    queue = fill(node, pager, range(HEAD + PAGE))
    publish(client, range(20, 20 + PAGE))
    assert in_memory(node) == names([*range(HEAD), *range(20, 20 + PAGE)])
    assert page_out(queue, pager) == PAGE
    assert in_memory(node) == names(range(HEAD))


def test_few_messages_are_not_worth_a_page(node, pager):
    queue = fill(node, pager, range(HEAD + FEW - 1))
    assert queue.ready.away == 0
    assert not queue.ready.runs
    assert in_memory(node) == names(range(HEAD + FEW - 1))


def test_no_more_is_given_up_than_was_asked_for_but_whole_pages(node, pager, client):
    queue = node.queue()
    publish(client, range(HEAD + 3 * PAGE))
    assert page_out(queue, pager, PAGE + 1) == 2 * PAGE
    assert queue.ready.away == 2 * PAGE


def test_a_run_is_in_memory_until_it_is_written_and_does_not_count_as_that(node, pager, client):
    queue = node.queue()
    publish(client, range(HEAD + PAGE))
    queue.paging.page_out(ALL)
    assert in_memory(node) == names(range(HEAD + PAGE))
    assert queue.ready.away == PAGE
    assert pager.weights["q"] == HEAD * (COST + 1)


def test_what_is_still_being_written_is_delivered_without_reading_it(node, pager, client):
    queue = node.queue()
    publish(client, range(HEAD + PAGE))
    queue.paging.page_out(ALL)
    client.consume(no_ack=True)
    assert client.take() == names(range(HEAD + PAGE))
    assert pager.reads == []


def test_a_queue_says_what_it_weighs_as_messages_come_and_go(node, pager, client):
    queue = node.queue()
    publish(client, ["12345"] * (HEAD + PAGE))
    assert pager.weights["q"] == (HEAD + PAGE) * (COST + 5)
    page_out(queue, pager)
    assert pager.weights["q"] == HEAD * (COST + 5)
    client.consume(no_ack=True)
    node.settle()
    assert pager.weights["q"] == 0
    pager.land_all(node)
    assert pager.weights["q"] == 0
    assert queue.bytes == 0


def test_messages_read_and_not_taken_weigh_again_and_go_to_their_old_page_no_more(node, pager, client):
    queue = fill(node, pager, range(HEAD + 2 * PAGE))
    client.consume(prefetch=HEAD + 1)
    node.settle()
    pager.land_all(node)
    left = [entry.message.size for entry in queue.ready]
    assert len(left) == 2 * PAGE - 1
    assert pager.weights["q"] == sum(COST + size for size in left)
    assert [run.page.live for run in pager.released] == [0], "transient messages leave their page with it"


# -- order ------------------------------------------------------------------------------------------------


def test_messages_leave_in_the_order_they_came_wherever_they_were(node, pager, client):
    fill(node, pager, range(HEAD + 3 * PAGE))
    publish(client, range(HEAD + 3 * PAGE, 30))
    client.consume(no_ack=True)
    node.settle()
    pager.land_all(node)
    assert client.seen() == names(range(30))


def test_pages_that_are_read_in_another_order_are_delivered_in_theirs(node, pager, client):
    fill(node, pager, range(HEAD + 2 * PAGE))
    client.consume(no_ack=True)
    node.settle()
    pager.reads.reverse()
    pager.land()
    node.settle()
    assert client.seen() == names(range(HEAD))
    pager.land_all(node)
    assert client.seen() == names(range(HEAD + 2 * PAGE))


def test_what_comes_back_stands_before_runs(node, pager, client):
    queue = fill(node, pager, range(HEAD + PAGE))
    client.consume(prefetch=HEAD)
    assert client.take() == names(range(HEAD))
    client.session.nack(HEAD, multiple=True, requeue=True)
    assert client.take() == names(range(HEAD))
    assert len(queue.ready) == PAGE


def test_a_lower_priority_does_not_overtake_a_run(node, pager, client):
    queue = node.queue(max_priority=2)
    publish(client, range(HEAD + PAGE), priority=1)
    page_out(queue, pager)
    publish(client, ["low"], priority=0)
    client.consume(no_ack=True)
    assert client.take() == names(range(HEAD))
    pager.land_all(node)
    assert client.take() == [*names(range(HEAD, HEAD + PAGE)), "low"]


def test_a_higher_priority_goes_before_a_run(node, pager, client):
    queue = node.queue(max_priority=2)
    publish(client, range(HEAD + PAGE), priority=1)
    page_out(queue, pager)
    client.consume(no_ack=True)
    assert client.take() == names(range(HEAD))
    publish(client, ["high"], priority=2)
    assert client.take() == ["high"]
    pager.land_all(node)
    assert client.take() == names(range(HEAD, HEAD + PAGE))


def test_the_lowest_priority_gives_up_memory_first(node, pager, client):
    queue = node.queue(max_priority=2)
    for priority in (2, 0, 1):
        publish(client, [priority] * (HEAD + PAGE), priority=priority)
    assert page_out(queue, pager, 1) == PAGE
    assert in_memory(node) == ["2"] * (HEAD + PAGE) + ["1"] * (HEAD + PAGE) + ["0"] * HEAD


# -- consumers and basic.get ------------------------------------------------------------------------------


def test_a_consumer_waits_for_what_is_read_and_then_is_served(node, pager, client):
    fill(node, pager, range(HEAD + PAGE))
    client.consume(no_ack=True)
    assert client.take() == names(range(HEAD))
    assert len(pager.reads) == 1
    pager.land()
    assert client.take() == names(range(HEAD, HEAD + PAGE))


def test_so_many_runs_are_read_before_their_turn(node, pager, client):
    queue = fill(node, pager, range(HEAD + 6 * PAGE))
    runs = list(queue.ready.runs)
    client.consume(prefetch=HEAD + 1)
    node.settle()
    assert [run for _, run in pager.reads] == runs[: 1 + READ_AHEAD]
    pager.land(1 + READ_AHEAD)
    node.settle()
    assert pager.reads == []
    assert len(client.delivered) == HEAD + 1
    for number in range(1, 3):  # each time that a run is used up, one more
        client.session.ack(client.tags()[-1], multiple=True)
        node.settle()
        assert [run for _, run in pager.reads] == [runs[READ_AHEAD + number]]
        pager.land()
        node.settle()
    assert len(client.delivered) == 3 * (HEAD + 1)


def test_nothing_is_read_before_its_turn_without_a_consumer(node, pager, client):
    fill(node, pager, range(HEAD + PAGE))
    for _ in range(HEAD):
        assert client.get() is not None
    assert pager.reads == []


def test_several_consumers_take_turns_over_what_was_read(node, pager):
    fill(node, pager, range(HEAD + PAGE))
    clients = [node.client(), node.client()]
    for client in clients:
        client.consume(prefetch=2)
    node.settle()
    for client in clients:
        client.session.ack(client.tags()[-1], multiple=True)
    pager.land_all(node)
    seen = [client.seen() for client in clients]
    assert sorted(int(body) for bodies in seen for body in bodies) == list(range(HEAD + PAGE))[:7]
    assert all(bodies == sorted(bodies, key=int) for bodies in seen)
    assert abs(len(seen[0]) - len(seen[1])) <= 1


def test_get_raises_while_the_next_message_is_read_from_disk(node, pager, client):
    queue = fill(node, pager, range(HEAD + PAGE))
    for _ in range(HEAD):
        client.get()
    with pytest.raises(NextMessagePending) as caught:
        client.get()
    assert caught.value.queue is queue
    pager.land()
    assert client.get() == str(HEAD)


def test_a_waiting_client_continues_when_the_page_was_read(node, pager, client):
    queue = fill(node, pager, range(HEAD + PAGE))
    exhaust(client)
    waiter = Waiter(node.broker, queue)
    node.settle()
    assert waiter.went_on == 0
    pager.land()
    node.settle()
    assert waiter.went_on == 1


@pytest.mark.parametrize("end", ["purge", "delete"])
def test_a_waiting_client_continues_when_the_messages_are_gone(node, pager, client, end):
    queue = fill(node, pager, range(HEAD + PAGE))
    exhaust(client)
    waiter = Waiter(node.broker, queue)
    if end == "purge":
        queue.purge()
    else:
        node.vhost.delete_queue(queue)
    node.settle()
    assert waiter.went_on == 1


def test_a_waiting_client_continues_when_a_message_is_requeued(node, pager, client):
    queue = fill(node, pager, range(HEAD + PAGE))
    client.session.get("q", no_ack=False)
    exhaust(client)
    waiter = Waiter(node.broker, queue)
    client.session.nack(1, multiple=False, requeue=True)
    node.settle()
    assert waiter.went_on == 1
    assert client.get() == "0"
