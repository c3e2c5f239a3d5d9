"""Publishing of rows in the core: their outcomes, and what a crash leaves of them."""

import pytest

from leveret.router.transactional_outbox.publisher import OutboxPublisher
from leveret.router.vhost.trace import TRACE
from tests.router.harness import Node
from tests.router.store.kept import Kept
from tests.router.transactional_outbox.rows import Outbox, row


@pytest.fixture
def node():
    node = Node()
    node.queue()
    return node


def bodies(node, queue="q"):
    client = node.client()
    return list(iter(lambda: client.get(queue), None))


def test_rows_are_published_in_order(node):
    outbox = Outbox(node.broker)
    outbox.publish(row("a"), row("b"), row("c"))
    node.settle()
    assert outbox.done == bodies(node) == ["a", "b", "c"]
    assert outbox.errors == []


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        ({"exchange": "missing"}, "404 NOT_FOUND - no exchange 'missing' in vhost '/'"),
        ({"virtual_host": "missing"}, "530 NOT_ALLOWED - vhost missing not found"),
        ({"key": "missing"}, "312 NO_ROUTE - no queue is bound to exchange '' for routing key 'missing'"),
        ({"properties": "[1]"}, "406 PRECONDITION_FAILED - invalid properties: 'properties' should be"),
        ({"body": None, "size": 1 << 40}, "406 PRECONDITION_FAILED - message size 1099511627776 is larger"),
        ({"properties": '{"expiration": "soon"}'}, "406 PRECONDITION_FAILED - invalid expiration 'soon'"),
        ({"properties": '{"user_id": "bob"}'}, "406 PRECONDITION_FAILED - user_id property set to 'bob' but"),
        ({"exchange": "amq.topic"}, "312 NO_ROUTE"),
        ({"exchange": "denied"}, "403 ACCESS_REFUSED"),
    ],
)
def test_a_bad_row_fails_with_its_error_and_others_are_published(node, bad, error):
    outbox = Outbox(node.broker)
    node.vhost.declare_exchange("denied", "direct")
    outbox.user.deny("write exchange denied")
    columns = {"body": "bad"} | bad
    outbox.publish(row("a"), row(**columns), row("b"))
    node.settle()
    assert outbox.done == bodies(node) == ["a", "b"]
    assert len(outbox.errors) == 1
    assert outbox.errors[0].startswith(error)
    assert outbox.temporary == [False]


def test_a_user_without_permissions_in_a_virtual_host_cannot_publish_there(node):
    outbox = Outbox(node.broker)
    outbox.user.barred = ("/",)
    outbox.publish(row())
    node.settle()
    assert outbox.errors == ["530 NOT_ALLOWED - access to vhost '/' refused for user 'alice'"]


def test_a_row_that_is_not_mandatory_is_dropped_without_a_queue(node):
    outbox = Outbox(node.broker)
    outbox.publish(row("a", "missing", mandatory=False))
    node.settle()
    assert outbox.done == ["a"]


def test_a_full_queue_fails_rows_for_a_while(node):
    node.queue("full", max_length=1, overflow="reject-publish")
    outbox = Outbox(node.broker)
    first, second = row("a", "full"), row("b", "full")
    outbox.publish(first, second)
    node.settle()
    assert outbox.done == ["a"]
    assert outbox.temporary == [True]
    assert "a queue refused the message, because it is full" in outbox.errors[0]
    assert bodies(node, "full") == ["a"]
    outbox.publish(second)  # as when it is retried
    node.settle()
    assert bodies(node, "full") == ["b"]


def test_a_row_that_is_read_again_is_recognized(node):
    outbox = Outbox(node.broker)
    again = row("a")
    for _ in range(2):
        outbox.publish(again)
        node.settle()
    assert outbox.done == ["a", "a"]
    assert bodies(node) == ["a"]
    assert outbox.publisher.recognized == 1


def test_a_new_virtual_host_of_the_same_name_is_used(node):
    outbox = Outbox(node.broker)
    outbox.publish(row("a"))
    node.settle()
    node.broker.forget_vhost(node.vhost)
    outbox.publish(row("b"))
    node.settle()
    node.vhost = node.broker.add_vhost("/")
    node.queue()
    outbox.publish(row("c"))
    node.settle()
    assert outbox.done == ["a", "c"]
    assert bodies(node) == ["c"]


def test_work_over_several_turns_publishes_each_row_once(node):
    """A clock that spends the budget at once: each row takes a turn, and a wide one takes several."""
    names = [f"wide{number}" for number in range(200)]
    wide = node.vhost.declare_exchange("wide", "fanout")
    for name in names:
        node.vhost.bind(wide, node.queue(name), "")
    node.settle()
    outbox = Outbox(node.broker)
    node.broker.budget.clock = lambda: 1.0
    node.broker.budget.begin(0.0)
    outbox.publish(row("a"), row("w", "", exchange="wide"), row("b"))
    assert outbox.results == []
    turns = 0
    while not outbox.results:
        turns += 1
        node.broker.budget.begin(0.0)
        node.broker.scheduler.end_batch(left_over=True)
    assert turns > 3
    assert outbox.done == ["a", "w", "b"]
    node.broker.budget.clock = None
    assert bodies(node) == ["a", "b"]
    assert all(bodies(node, name) == ["w"] for name in names)


def test_an_exception_of_the_broker_ends_the_batch_and_the_next_one_goes_on(node, monkeypatch):
    outbox = Outbox(node.broker)
    first, second = row("a"), row("b")
    with monkeypatch.context() as patch:
        publish_row = OutboxPublisher._publish_row

        def fail_at_second(self, row, batch):
            if row is second:
                raise RuntimeError("a fault")
            return publish_row(self, row, batch)

        patch.setattr(OutboxPublisher, "_publish_row", fail_at_second)
        outbox.publish(first, second)
    node.settle()
    assert [type(result) for result in outbox.results] == [RuntimeError]
    outbox.results.clear()
    outbox.publish(first, second)
    node.settle()
    assert outbox.done == ["a", "b"]
    assert bodies(node) == ["a", "b"]


def test_a_copy_for_the_firehose_names_the_outbox(node):
    node.vhost.bind(node.vhost.exchange(TRACE), node.queue("copies"), "publish.#")
    outbox = Outbox(node.broker)
    outbox.publish(row("before"))
    node.settle()
    node.vhost.firehose.switch(on=True)
    outbox.publish(row("a"))
    node.settle()
    taken = node.client().session.get("copies", no_ack=True)
    assert taken is not None
    assert taken[1].message.headers["connection"] == "outbox"


# -- with a store --------------------------------------------------------------------------------------------


def test_a_row_is_done_when_it_is_on_disk_and_not_before(quick_path):
    kept = Kept(quick_path)
    kept.node.queue(durable=True)
    kept.settle()
    outbox = Outbox(kept.node.broker)
    outbox.publish(row("a"))
    kept.node.settle()
    assert outbox.results == []
    kept.settle()
    assert outbox.done == ["a"]
    kept.crash()


@pytest.mark.parametrize("steps", range(4))
def test_a_crash_at_any_commit_publishes_each_row_once(quick_path, steps):
    """The rows are read again after the crash, as none was deleted."""
    rows = [row(str(number)) for number in range(6)]
    kept = Kept(quick_path)
    kept.node.queue(durable=True)
    kept.settle()
    outbox = Outbox(kept.node.broker)
    left = steps
    for start in range(0, 6, 2):
        outbox.publish(*rows[start : start + 2])
        kept.node.settle()
        while left and kept.step():
            left -= 1
        if len(outbox.results) * 2 != start + 2:
            break
    kept.crash()
    again = Kept(quick_path)
    outbox = Outbox(again.node.broker)
    outbox.publish(*rows)
    again.settle()
    assert sorted(outbox.done) == [str(number) for number in range(6)]
    assert sorted(iter(lambda: _get(again), None)) == [str(number) for number in range(6)]
    again.crash()


@pytest.mark.parametrize("turns", range(7))
def test_a_message_for_many_queues_is_in_each_of_them_once_after_a_crash_in_any_turn(quick_path, turns):
    """It is enqueued in several turns, each of which may be committed before the next one."""
    names = [f"wide{number}" for number in range(200)]
    kept = Kept(quick_path)
    wide = kept.node.vhost.declare_exchange("wide", "fanout", durable=True)
    for name in names:
        kept.node.vhost.bind(wide, kept.node.queue(name, durable=True), "")
    kept.settle()
    outbox, broker = Outbox(kept.node.broker), kept.node.broker
    rows = [row("w", "", exchange="wide"), row("x", "", exchange="wide")]
    broker.budget.clock = lambda: 1.0
    broker.budget.begin(0.0)
    outbox.publish(*rows)
    for _ in range(turns):
        broker.scheduler.end_batch(left_over=True)
        kept.step()
        broker.budget.begin(0.0)
    kept.crash()
    again = Kept(quick_path)
    outbox = Outbox(again.node.broker)
    outbox.publish(*rows)
    again.settle()
    assert outbox.done == ["w", "x"]
    for name in names:
        assert [again.get(name)[1].message.body, again.get(name)[1].message.body] == [b"w", b"x"]
        assert again.get(name) is None
    again.crash()


def _get(kept):
    taken = kept.get()
    return None if taken is None else taken[1].message.body.decode()


def test_a_recognized_row_waits_for_the_commit_of_its_message(quick_path):
    """After an exception of the broker a row may be read again before its message is on disk."""
    kept = Kept(quick_path)
    kept.node.queue(durable=True)
    kept.settle()
    outbox = Outbox(kept.node.broker)
    again = row("a")
    outbox.publish(again)
    outbox.publisher.close()
    kept.node.settle()
    outbox.publish(again)
    kept.node.settle()
    assert outbox.results == []
    kept.settle()
    assert outbox.done == ["a"]
    kept.crash()
