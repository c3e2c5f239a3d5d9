"""The wall clock is set while the broker runs: deadlines on disk are those of the clock at their time."""

import pytest

from tests.router.harness import START
from tests.router.store.kept import Kept

HOUR = 3_600_000
TTL = 60_000

pytestmark = pytest.mark.parametrize("jump", [HOUR, -HOUR], ids=["forward", "back"])


def check_deadline(kept, name="q", count=1):
    """The messages are there for as long as they were to be, and no longer. Both clocks start anew."""
    queue = kept.node.vhost.queues[name]
    kept.node.at(TTL - 1000)
    kept.settle()
    assert len(queue.ready) == count
    kept.node.at(TTL + 1000)
    kept.settle()
    kept.node.at(TTL + 1000)
    assert len(queue.ready) == 0


def test_a_message_that_was_published_after_the_clock_was_set_keeps_its_deadline(quick_path, jump):
    kept = Kept(quick_path, wall_offset=2 * HOUR)
    kept.node.queue("q", durable=True)
    kept.settle()
    kept.node.broker.wall_offset += jump
    kept.publish("m", expiration=str(TTL))
    kept.crash()
    again = Kept(quick_path, wall_offset=2 * HOUR + jump)
    check_deadline(again)
    again.crash()


@pytest.mark.usefixtures("small")
def test_messages_that_moved_to_a_page_after_the_clock_was_set_keep_their_deadlines(quick_path, jump):
    kept = Kept(quick_path, wall_offset=2 * HOUR, budget=0, journal_size=1000)
    kept.node.queue("q", durable=True)
    kept.settle()
    kept.publish(*map(str, range(20)), expiration=str(TTL))
    kept.node.broker.wall_offset += jump
    kept.publish(*map(str, range(20, 40)), expiration=str(TTL))
    kept.crash()
    again = Kept(quick_path, wall_offset=2 * HOUR + jump)
    queue = again.node.vhost.queues["q"]
    assert queue.ready.runs
    late = [entry for entry in queue.ready if entry.position >= 20]
    assert late
    assert {entry.expires for entry in late} == {START + TTL}
    again.crash()


@pytest.mark.usefixtures("small")
def test_a_page_that_is_read_after_the_clock_was_set_says_the_same_deadlines(quick_path, jump):
    kept = Kept(quick_path, wall_offset=2 * HOUR, budget=0)
    queue = kept.node.queue("q", durable=True)
    kept.settle()
    kept.publish(*map(str, range(40)), expiration=str(TTL))
    assert queue.ready.runs
    kept.node.broker.wall_offset += jump
    for number in range(20):
        taken = kept.get()
        assert taken is not None
        assert taken[1].message.body.decode() == str(number)
        assert taken[1].expires == START + TTL
    check_deadline(kept, count=20)
    kept.crash()
