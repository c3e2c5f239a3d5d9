"""A whole broker core over a disk that fails, at any operation and for any time: its promises hold.

Publishers with confirms, consumers, dead letters, purges, paging, compaction and journal files that go, all
at sizes where a few messages make a page. Not behind ``Files``, and so never failing here, is the metadata:
SQLite writes that itself. ``test_writer`` has metadata fail, ``test_store_service`` whole jobs.
"""

import errno
from dataclasses import dataclass
from random import Random

import pytest

from leveret.protocol.amqp.message import Message
from leveret.router.broker.alarms import STORE
from leveret.router.queue.paging import NextMessagePending
from leveret.router.store.journal.recovery import recover
from leveret.router.store.offline.dump import queue_messages
from tests.router.store.failing import EVERYTHING, WRITING, FailingFiles
from tests.router.store.kept import RETRY, Kept

pytestmark = pytest.mark.usefixtures("small")

QUEUES = ("q", "prio", "dead")
ROUNDS = 25
STRETCH = 40  # operations that fail one after the other


@dataclass
class Published:
    """A message: which of its queues it may have left for good, and whether it was confirmed."""

    number: int
    persistent: bool
    priority: int
    needed: set[str]  # the queues that nobody has settled it in
    confirmed: bool = False


class Work:
    """Clients of a broker, and what they know."""

    def __init__(self, path, files, seed=1):
        self.random = Random(seed)
        self.files = files
        self.kept = Kept(path, files=files, budget=0, journal_size=2048)
        node = self.kept.node
        node.queue("q", durable=True, dead_letter_exchange="", dead_letter_routing_key="dead")
        node.queue("prio", durable=True, max_priority=2)
        node.queue("dead", durable=True)
        fan = node.vhost.declare_exchange("fan", "fanout", durable=True)
        for name in ("q", "prio"):
            node.vhost.bind(fan, node.vhost.queues[name], "", {})
        self.kept.settle()
        self.publisher = node.client()
        self.publisher.session.select_confirms()
        self.consumer = node.client()
        self.consumer.consume("q", prefetch=4)
        self.published = {}
        self.taken = 0  # of the consumer's deliveries, how many were settled
        self.clock = 0
        self.alarms = 0  # rounds with the alarm
        self.checked = 0  # power cuts

    # -- what clients do ----------------------------------------------------------------------------------

    def round(self, number):
        """A little of everything; the disk does some of what it has been given."""
        self.publish()
        self.settle()
        if number % 4 == 3:
            self.get("prio", 3)
        if number % 10 == 9:
            self.purge("prio")
        self.clock += RETRY // 2
        self.kept.node.at(self.clock)
        for _ in range(self.random.randint(0, 4)):
            self.kept.step()
            self.check()
        self.kept.read()
        self.check()
        raised = STORE in self.kept.node.broker.alarms.raised
        assert raised == (self.kept.store.failure is not None)
        self.alarms += raised

    def publish(self):
        random = self.random
        for _ in range(random.randint(1, 6)):
            number = len(self.published) + 1
            exchange, key, queues = random.choice(
                [("", "q", {"q"}), ("", "prio", {"prio"}), ("fan", "", {"q", "prio"})]
            )
            each = Published(number, random.random() < 0.8, random.randint(0, 2), queues)
            self.published[number] = each
            self.publisher.publish(
                f"{number} " + "x" * random.choice((1, 50, 600)),
                key,
                exchange,
                delivery_mode=2 if each.persistent else 1,
                priority=each.priority,
            )
        self.kept.node.settle()

    def settle(self):
        """The consumer settles some of what it holds, in its order."""
        while self.taken < len(self.consumer.delivered) and self.random.random() < 0.6:
            _, tag, entry = self.consumer.delivered[self.taken]
            self.taken += 1
            if self.random.random() < 0.2:
                self.consumer.session.nack(tag, multiple=False, requeue=False)
            else:
                self.gone(entry, "q")
                self.consumer.session.ack(tag, multiple=False)
        self.kept.node.settle()

    def get(self, queue, count):
        try:
            for _ in range(count):
                taken = self.publisher.session.get(queue, no_ack=True)
                if taken is not None:
                    self.gone(taken[1], queue)
        except NextMessagePending:
            pass
        self.kept.node.settle()

    def purge(self, queue):
        self.kept.node.vhost.queues[queue].purge()
        for each in self.published.values():
            each.needed.discard(queue)
        self.kept.node.settle()

    def gone(self, entry, queue):
        self.published[number_of(entry.message)].needed.discard(queue)

    # -- what is looked at --------------------------------------------------------------------------------

    def check(self):
        """Confirms were sent: cut the power now, and check that every confirmed message is there."""
        told = self.publisher.session.verdicts()
        first = 1 + sum(each.confirmed for each in self.published.values())
        for verdict in told:
            assert verdict.accepted
            for number in range(first, verdict.number + 1):
                self.published[number].confirmed = True
            first = verdict.number + 1
        if told:
            self.checked += 1
            self.expect(self.on_disk(self.files.cut_power(self.checked)))

    def on_disk(self, files):
        """What a reader finds in these files: numbers by queue, in order."""
        logs = {log.queue.name: log.id for log in self.kept.store.logs.values()}
        path = self.kept.directory.path
        found = recover(files, path, list(logs.values()))
        return {
            name: [
                number_of(Message.from_frames(each.route, each.frames))
                for each in queue_messages(files, path, found.queues[number])
            ]
            for name, number in logs.items()
        }

    def expect(self, found):
        """Every message that was confirmed and is needed is there, once, in order; others may be."""
        for each in self.published.values():
            places = [name for name in QUEUES if each.number in found[name]]
            for name in each.needed if each.confirmed and each.persistent else ():
                where = ["q", "dead"] if name == "q" else [name]
                assert sum(place in where for place in places) == 1, (each, places)
        for name, numbers in found.items():
            assert len(set(numbers)) == len(numbers)
            if name != "dead":  # where they are in the order they died in
                assert numbers == sorted(numbers)

    # -- the end ------------------------------------------------------------------------------------------

    def recover(self):
        """The disk works again: everything is written."""
        self.files.fail = range(0)
        store = self.kept.store
        for _ in range(3):
            self.clock += RETRY
            self.kept.node.at(self.clock)
            self.kept.settle()
        self.check()
        assert store.failure is None
        assert not self.kept.node.broker.alarms.raised
        assert not store.busy()
        assert all(each.confirmed for each in self.published.values())
        self.expect(self.on_disk(self.files.cut_power(0)))

    def come_back(self, files, *, clean):
        """Start another broker on these files, take everything from it, and look at that."""
        path = self.kept.directory.path
        if clean:
            self.kept.stop()
        else:
            self.kept.crash()
        again = Kept(path, files=files, budget=0, journal_size=2048)
        found = {name: [] for name in QUEUES}
        for name in QUEUES:
            while (taken := again.get(name)) is not None:
                found[name].append(number_of(taken[1].message))
            ranks = [(-self.published[number].priority, number) for number in found[name]]
            assert name != "prio" or ranks == sorted(ranks)
        found["prio"].sort()
        self.expect(found)
        if clean:
            persistent = [each for each in self.published.values() if each.persistent]
            assert found["prio"] == [each.number for each in persistent if "prio" in each.needed]
            both = found["q"] + found["dead"]
            assert sorted(both) == [each.number for each in persistent if "q" in each.needed]
        again.settle()
        assert not any(log.pages for log in again.store.logs.values())
        again.stop()


def number_of(message):
    return int(message.body.split()[0])


def work(path, files, operation=0, times=0):
    """Do everything; from the given operation on, so many of them fail."""
    done = Work(path, files)
    begin = files.operations + operation
    files.fail = range(begin, begin + times)
    for number in range(ROUNDS):
        done.round(number)
    return done


@pytest.fixture(scope="module")
def operations(tmp_path_factory):
    """How many operations there are when none fails."""
    files = FailingFiles()
    counting = Work(tmp_path_factory.mktemp("count"), files)
    before = files.operations
    for number in range(ROUNDS):
        counting.round(number)
    counting.kept.crash()
    return files.operations - before


def test_without_failures_everything_happens(quick_path):
    names = set()
    done = work(quick_path, FailingFiles(before=lambda name, _: names.add(name)))
    assert names >= {"create", "open", "read", "write", "sync", "replace", "remove"}
    assert (done.alarms, done.checked > ROUNDS // 2) == (0, True)
    assert all(done.kept.node.vhost.queues[name].ready.runs for name in QUEUES[:1])
    done.recover()
    done.come_back(done.files.restart_process(), clean=True)


@pytest.mark.slow
@pytest.mark.parametrize("left", [True, False], ids=["half done", "not done"])
def test_whichever_operation_fails_no_confirm_is_early_and_nothing_is_lost(quick_path, operations, left):
    for operation in range(1, operations + 1):
        done = work(quick_path / str(operation), FailingFiles(left=left), operation, 1)
        done.recover()
        done.come_back(done.files.restart_process(), clean=True)


STRETCHES = {
    "full": {"error": errno.ENOSPC, "only": {"create", "write", "replace"}},
    "half written": {"left": True, "only": WRITING},
    "never synced": {"only": {"sync"}},
    "gone": {"only": EVERYTHING},
}


@pytest.mark.slow
@pytest.mark.parametrize("how", STRETCHES)
def test_whenever_the_disk_fails_for_a_while_there_is_an_alarm_and_then_everything_is_written(
    quick_path, operations, how
):
    for operation in range(1, operations - STRETCH, 3):
        done = work(quick_path / str(operation), FailingFiles(**STRETCHES[how]), operation, STRETCH)
        assert done.alarms > 1
        done.recover()
        done.come_back(done.files.restart_process(), clean=True)


@pytest.mark.slow
@pytest.mark.parametrize("how", STRETCHES)
def test_whatever_is_left_by_a_power_cut_while_the_disk_fails_a_broker_comes_back_with_what_was_confirmed(
    quick_path, operations, how
):
    for operation in range(1, operations, 3):
        done = work(quick_path / str(operation), FailingFiles(**STRETCHES[how]), operation, operations)
        done.come_back(done.files.cut_power(operation), clean=False)
