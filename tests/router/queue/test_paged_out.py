"""Limits, purges, deadlines and damage of messages while they are on disk."""

import pytest
from msgspec.structs import replace

from leveret.protocol.errors import InternalError
from leveret.router.queue.expiry import BUCKET
from leveret.router.queue.paging import READ_AHEAD
from tests.router.queue.paged import (
    HEAD,
    PAGE,
    Waiter,
    exhaust,
    exhaust_and_land,
    fill,
    in_memory,
    names,
    page_out,
    positions,
    publish,
)

# -- what happens to messages on disk ---------------------------------------------------------------------


def test_beyond_the_length_limit_what_is_on_disk_is_dropped_from_the_head(node, pager, client):
    queue = node.queue(dead_letter_exchange="", dead_letter_routing_key="letters")
    node.queue("letters")
    publish(client, range(HEAD + 2 * PAGE))
    page_out(queue, pager)
    queue.configure(replace(queue.settings, max_length=PAGE + 1), node.broker.now)
    node.settle()
    assert node.contents("letters") == names(range(HEAD)), "the rest goes as soon as it was read"
    pager.land_all(node)
    assert node.contents("letters") == names(range(HEAD + PAGE - 1))
    assert len(queue.ready) == PAGE + 1
    publish(client, ["last"])
    assert len(queue.ready) == PAGE + 1
    exhaust_and_land(client, pager, [*names(range(HEAD + PAGE, HEAD + 2 * PAGE)), "last"])


def test_beyond_the_limit_of_bytes_what_is_on_disk_is_dropped_from_the_head(node, pager, client):
    queue = fill(node, pager, ["12345"] * (HEAD + 2 * PAGE))
    queue.configure(replace(queue.settings, max_length_bytes=12), node.broker.now)
    node.settle()
    pager.land_all(node)
    assert (len(queue.ready), queue.bytes) == (2, 10)


def test_purge_drops_what_is_on_disk_and_counts_it(node, pager, client):
    queue = fill(node, pager, range(HEAD + 2 * PAGE))
    assert queue.purge() == HEAD + 2 * PAGE
    node.settle()
    assert (len(queue.ready), queue.bytes, pager.weights["q"]) == (0, 0, 0)
    assert positions((queue, run) for run in pager.released) == [HEAD, HEAD + PAGE]
    assert client.get() is None


def test_what_is_read_after_a_purge_is_not_wanted(node, pager, client):
    queue = fill(node, pager, range(HEAD + PAGE))
    exhaust(client)
    queue.purge()
    publish(client, ["new"])
    pager.land()
    node.settle()
    assert (len(queue.ready), queue.bytes) == (1, 3)
    assert client.get() == "new"


def test_deleting_a_queue_lets_go_of_its_pages(node, pager, client):
    queue = fill(node, pager, range(HEAD + 2 * PAGE))
    exhaust(client)
    assert node.vhost.delete_queue(queue) == 2 * PAGE
    assert len(pager.released) == 2
    assert pager.weights["q"] == 0
    pager.land_all(node)
    assert "q" not in node.vhost.queues


# -- expiry -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("letters", [False, True])
@pytest.mark.parametrize("which", [0, 1, PAGE - 1])
def test_a_message_within_a_run_expires_on_time(node, pager, client, which, letters):
    arguments = {"dead_letter_exchange": "", "dead_letter_routing_key": "letters"} if letters else {}
    queue = node.queue(**arguments)
    node.queue("letters")
    short = HEAD + PAGE + which
    for number in range(HEAD + 6 * PAGE):
        publish(client, [number], **({"expiration": "100"} if number == short else {}))
    page_out(queue, pager)
    node.at(100 - 1)
    assert pager.reads == []
    node.at(100 + BUCKET)
    assert len(pager.reads) == 1
    pager.land_all(node)
    assert len(queue.ready) == HEAD + 6 * PAGE - 1
    assert node.contents("letters") == (names([short]) if letters else [])
    client.consume(no_ack=True)
    node.settle()
    pager.land_all(node)
    assert client.seen() == names(number for number in range(HEAD + 6 * PAGE) if number != short)


def test_what_was_read_to_expire_is_given_up_again_unless_its_turn_is_near(node, pager, client):
    queue = node.queue()
    for number in range(HEAD + 6 * PAGE):
        publish(client, [number], **({"expiration": "100"} if number % PAGE == 0 else {}))
    page_out(queue, pager)
    node.at(100 + BUCKET)
    pager.land_all(node)
    near = list(queue.ready.runs)[: 1 + READ_AHEAD]
    assert [run for run in queue.ready.runs if run.entries is not None] == near
    assert all(run.count == PAGE - 1 for run in queue.ready.runs)
    assert queue.ready.away == 3 * (PAGE - 1)


def test_a_run_of_which_everything_has_expired_is_gone(node, pager, client):
    queue = fill(node, pager, range(HEAD))
    publish(client, range(2 * PAGE), expiration="100")
    publish(client, range(PAGE), expiration="200")
    page_out(queue, pager)
    node.at(150)
    pager.land_all(node)
    assert len(queue.ready) == HEAD + PAGE
    assert [run.position for run in queue.ready.runs] == [HEAD + 2 * PAGE]
    assert len(pager.released) == 2
    node.at(250)
    pager.land_all(node)
    assert (len(queue.ready), queue.bytes) == (HEAD, HEAD)
    assert not queue.ready.runs


def test_with_one_ttl_for_all_everything_expires_wherever_it_stands(node, pager, client):
    queue = node.queue(message_ttl=100)
    publish(client, range(HEAD + 2 * PAGE))
    page_out(queue, pager)
    publish(client, range(PAGE))
    node.at(50)
    publish(client, ["later"])
    node.at(100 + BUCKET)
    pager.land_all(node)
    node.at(101 + BUCKET)
    assert in_memory(node) == ["later"]
    node.at(150 + BUCKET)
    assert (len(queue.ready), queue.bytes) == (0, 0)


# -- damage -----------------------------------------------------------------------------------------------


def damage(queue, pager):
    """What the store's pager does when a page cannot be read."""
    pager.reads.clear()
    for run in queue.ready.runs:
        run.reading = True
        queue.paging.unreadable(run, "segments/1 is damaged")


def test_a_queue_with_a_damaged_page_stands_still_and_skips_nothing(node, pager, client):
    queue = fill(node, pager, range(HEAD + 2 * PAGE))
    client.consume(no_ack=True)
    assert client.take() == names(range(HEAD))
    damage(queue, pager)
    publish(client, ["behind"])
    assert client.take() == []
    assert pager.reads == []
    assert len(queue.ready) == 2 * PAGE + 1


def test_get_from_a_queue_with_a_damaged_page_is_refused_with_the_reason(node, pager, client):
    queue = fill(node, pager, range(HEAD + PAGE))
    exhaust(client)
    waiter = Waiter(node.broker, queue)
    damage(queue, pager)
    node.settle()
    assert waiter.went_on == 1
    with pytest.raises(InternalError, match="segments/1 is damaged"):
        client.get()


def test_other_queues_go_on_beside_a_damaged_one(node, pager, client):
    damage(fill(node, pager, range(HEAD + PAGE)), pager)
    other = node.queue("other")
    publish(client, range(HEAD + PAGE), "other")
    page_out(other, pager)
    client.consume("other", no_ack=True)
    node.settle()
    pager.land_all(node)
    assert client.seen() == names(range(HEAD + PAGE))


def test_what_comes_back_to_a_damaged_queue_is_delivered_again(node, pager, client):
    queue = fill(node, pager, range(HEAD + PAGE))
    client.consume(prefetch=10)
    assert client.take() == names(range(HEAD))
    damage(queue, pager)
    client.session.nack(1, multiple=False, requeue=True)
    assert client.take() == ["0"]


def test_a_purge_ends_the_damage(node, pager, client):
    queue = fill(node, pager, range(HEAD + PAGE))
    exhaust(client)
    damage(queue, pager)
    assert queue.purge() == PAGE
    assert client.get() is None
    publish(client, range(HEAD + PAGE))
    page_out(queue, pager)
    client.consume(no_ack=True)
    node.settle()
    pager.land_all(node)
    assert client.seen() == names(range(HEAD + PAGE))
