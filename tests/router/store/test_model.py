"""Whatever happens to durable queues, in memory and on disk, equals what happens to lists."""

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from leveret.router.queue.expiry import BUCKET
from tests.router.harness import START
from tests.router.store.kept import Kept
from tests.router.store.small import MEMORY, SMALL, THIN_SLICES


@dataclass
class Expected:
    """A message as it should be: ``number`` is its place in the order of arrival."""

    number: int
    persistent: bool
    priority: int
    expires: int  # 0: never
    committed: bool = False
    returned: bool = False


class QueueModel(RuleBasedStateMachine):
    """Two queues, of which ``q`` is durable, beside two lists."""

    @initialize(highest=st.sampled_from([None, 2]), letters=st.booleans(), sliced=st.booleans())
    def begin(self, highest, letters, sliced):
        for each in SMALL + THIN_SLICES:
            each.start()
        self.sliced = sliced
        self.path = Path(tempfile.mkdtemp(prefix="leveret-model-", dir=MEMORY))
        self.kept = self.reopen()
        self.highest = highest
        arguments = {} if highest is None else {"max_priority": highest}
        self.dead = [] if letters else None
        if letters:
            arguments |= {"dead_letter_exchange": "", "dead_letter_routing_key": "letters"}
            self.kept.node.queue("letters", durable=True)
        self.arguments = arguments
        self.kept.node.queue("q", durable=True, **arguments)
        self.ready = {"q": []}
        self.held = []  # of q: delivery tag, message
        self.clock = 0
        self.published = 0
        self.restarted = False
        self.connect()
        self.kept.settle()

    def reopen(self):
        """Return a broker on the store of this example."""
        return Kept(self.path / "data", budget=0, sliced=self.sliced)

    def connect(self):
        self.client = self.kept.client
        self.transient()

    def transient(self):
        self.kept.node.queue("t", **({} if self.highest is None else {"max_priority": self.highest}))
        self.ready["t"] = []

    def rank(self, message):
        return (-message.priority if self.highest else 0, message.number)

    def sort(self, queue):
        self.ready[queue].sort(key=self.rank)

    @rule(
        queue=st.sampled_from("qt"),
        count=st.integers(1, 20),
        persistent=st.sampled_from([True, False, None]),
        priority=st.integers(0, 2),
        ttl=st.sampled_from([0, 0, 0, 50, 400]),
    )
    def publish(self, queue, count, persistent, priority, ttl):
        for index in range(count):
            lasting = index % 2 == 0 if persistent is None else persistent
            properties = {"delivery_mode": 2 if lasting else 1, "priority": priority}
            if ttl:
                properties["expiration"] = str(ttl)
            self.client.publish(str(self.published), queue, **properties)
            expires = self.clock + ttl if ttl else 0
            self.ready[queue].append(Expected(self.published, lasting, priority, expires))
            self.published += 1
        self.kept.node.settle()
        self.sort(queue)

    @rule(queue=st.sampled_from("qt"), count=st.integers(1, 12), ack=st.booleans())
    def get(self, queue, count, ack):
        for _ in range(count):
            taken = self.kept.get(queue, no_ack=not ack or queue == "t")
            if taken is None:
                assert not self.ready[queue]
                break
            tag, entry, _ = taken
            expected = self.ready[queue].pop(0)
            assert int(entry.message.body) == expected.number
            if expected.returned:
                assert entry.returns > 0
            elif not (self.restarted and self.highest):  # the mark covers what a higher priority overtook
                assert entry.returns == 0
            if ack and queue == "q":
                self.held.append((tag, expected))
        self.kept.node.settle()

    @rule(which=st.integers(0, 30), verb=st.sampled_from(["ack", "requeue", "reject"]))
    def settle(self, which, verb):
        if not self.held:
            return
        tag, message = self.held.pop(which % len(self.held))
        if verb == "ack":
            self.client.session.ack(tag, multiple=False)
        else:
            self.client.session.nack(tag, multiple=False, requeue=verb == "requeue")
        if verb == "requeue":
            message.returned = True
            self.ready["q"].append(message)
            self.sort("q")
        elif verb == "reject" and self.dead is not None:
            self.dead.append(message)
        self.kept.node.settle()

    @rule(queue=st.sampled_from("qt"))
    def purge(self, queue):
        assert self.kept.node.vhost.queues[queue].purge() == len(self.ready[queue])
        self.ready[queue].clear()
        self.kept.node.settle()

    @rule(ms=st.integers(1, 200))
    def wait(self, ms):
        self.clock += ms
        self.kept.node.at(self.clock)
        self.expire()

    def expire(self):
        """What has expired leaves, though a bucket of the time index may hold it a little longer: the clock
        goes on until there is no doubt.
        """
        messages = [message for messages in self.ready.values() for message in messages if message.expires]
        while any(self.clock - BUCKET <= message.expires <= self.clock for message in messages):
            self.clock += BUCKET
        self.kept.node.at(self.clock)
        self.kept.read()
        for queue, messages in self.ready.items():
            late = [message for message in messages if 0 < message.expires < self.clock]
            if queue == "q" and self.dead is not None:
                self.dead += late
            self.ready[queue] = [message for message in messages if message not in late]

    @rule(jobs=st.integers(1, 8))
    def do_some_writing(self, jobs):
        for _ in range(jobs):
            self.kept.step()

    @rule(slices=st.integers(1, 8))
    def do_some_long_work(self, slices):
        for _ in range(slices):
            self.kept.continue_work()

    @rule()
    def write(self):
        self.kept.settle()
        for message in [*self.ready["q"], *(message for _, message in self.held)]:
            message.committed = True

    @rule()
    def restart(self):
        """In good order: all that is persistent is there again."""
        self.kept.stop()
        self.come_back(crashed=False)

    @rule()
    def crash(self):
        """Everything was written, and nothing else: what was delivered comes again."""
        self.kept.settle()
        self.kept.crash()
        self.come_back(crashed=True)

    def come_back(self, *, crashed):
        self.restarted = True
        self.kept = self.reopen()
        self.kept.node.broker.now = START + self.clock
        for _, message in self.held:
            message.returned = True
        self.ready["q"] += [message for _, message in self.held]
        self.held.clear()
        self.ready["q"] = [each for each in self.ready["q"] if each.persistent]
        for message in self.ready["q"]:
            message.returned = crashed or message.returned
        if self.dead is not None:
            self.dead = [message for message in self.dead if message.persistent]
        self.sort("q")
        self.connect()
        self.expire()

    @invariant()
    def counts(self):
        if not hasattr(self, "kept"):
            return
        for name, messages in self.ready.items():
            queue = self.kept.node.vhost.queues[name]
            assert len(queue.ready) == len(messages)
            lines = [queue.ready] if self.highest is None else queue.ready.order
            for line in lines:
                assert line.in_runs == sum(run.count for run in line.runs)
                assert line.away == sum(run.count for run in line.runs if run.away)
                assert all(run.count for run in line.runs)
                assert line.runs or not line.tail
        assert self.kept.store.pager.weight == sum(
            queue.paging.weight for queue in self.kept.node.vhost.queues.values()
        )

    def teardown(self):
        if hasattr(self, "kept"):
            self.finish()
            self.kept.stop()
            shutil.rmtree(self.path)
            for each in SMALL + THIN_SLICES:
                each.stop()

    def finish(self):
        """In the end everything can be taken, in order, and what is left on disk is nothing."""
        for name, messages in self.ready.items():
            while messages:
                taken = self.kept.get(name)
                assert taken is not None
                assert int(taken[1].message.body) == messages.pop(0).number
            assert self.kept.get(name) is None
            assert self.kept.node.vhost.queues[name].bytes == 0
        for tag, _ in self.held:
            self.client.session.ack(tag, multiple=False)
        if self.dead is not None:
            assert len(self.kept.node.vhost.queues["letters"].ready) == len(self.dead)
            self.kept.node.vhost.queues["letters"].purge()
        self.kept.node.settle()
        self.kept.settle()
        assert not any(log.pages for log in self.kept.store.logs.values())


TestQueueModel = pytest.mark.slow(QueueModel.TestCase)
TestQueueModel.settings = settings(deadline=None, max_examples=60, stateful_step_count=40)
