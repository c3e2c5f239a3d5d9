"""The order in which a transaction takes effect."""

import pytest

from leveret.protocol.errors import PreconditionFailed
from leveret.router.session.transaction import SLICE, Transaction
from leveret.router.session.unacked import Unacked


class Log:
    """Does nothing and remembers what it was to do."""

    def __init__(self, *full):
        self.done = []
        self._full = full

    def distribute(self, message, queues):
        self.done.append((message, queues))
        return message not in self._full

    def distribute_widely(self, message, queues):
        yield
        return self.distribute(message, queues)

    def settle(self, verb, taken):
        self.done.append((verb, taken))


@pytest.fixture
def transaction():
    made = Transaction()
    made.settle("ack", [(1, "first")])
    made.publish("a", ("q",))
    made.settle("reject", [(3, "third"), (4, "fourth")])
    made.publish("b", ())
    made.settle("requeue", [(2, "second")])
    return made


DONE = [
    ("a", ("q",)),
    ("b", ()),
    ("ack", [(1, "first")]),
    ("reject", [(3, "third"), (4, "fourth")]),
    ("requeue", [(2, "second")]),
]


def test_a_commit_publishes_first_and_then_settles_in_order(transaction):
    log = Log()
    list(transaction.commit(log.distribute, log.distribute_widely, log.settle))
    assert log.done == DONE


@pytest.mark.parametrize("full", ["a", "b"])
def test_a_commit_that_is_refused_in_part_fails_when_all_is_done(transaction, full):
    log = Log(full)
    with pytest.raises(PreconditionFailed, match=r"^PRECONDITION_FAILED - partial tx completion$"):
        list(transaction.commit(log.distribute, log.distribute_widely, log.settle))
    assert log.done == DONE


def test_a_large_commit_is_done_in_slices():
    made, log = Transaction(), Log()
    for number in range(2 * SLICE):
        made.publish(number, ("q",))
    for tag in range(SLICE):
        made.settle("ack", [(tag, "held")])
    steps = list(made.commit(log.distribute, log.distribute_widely, log.settle))
    assert len(steps) == 5
    assert log.done[: 2 * SLICE] == [(number, ("q",)) for number in range(2 * SLICE)]
    assert len(log.done) == 3 * SLICE


def test_a_rollback_holds_again_what_was_settled_under_its_tags(transaction):
    unacked = Unacked()
    unacked.hold([(5, "fifth")])
    list(transaction.rollback(unacked))
    assert list(unacked) == [(1, "first"), (2, "second"), (3, "third"), (4, "fourth"), (5, "fifth")]
