"""Whichever function between gathering and fdatasync raises, nothing that was confirmed is lost.

Every function of the store that a load with confirms calls raises once, and from then on always, before or
after it has done its work. Then the process is killed, or the power cut, and another broker starts.
``test_failing_disk`` has the operations on files fail; here it is the broker's own code.
"""

from dataclasses import dataclass
from random import Random

import pytest

from leveret.router.auth import hash_password
from leveret.router.broker.alarms import STORE
from leveret.router.queue.paging import NextMessagePending
from tests.router.harness import START
from tests.router.store.failing import FailingFiles
from tests.router.store.kept import RETRY, Kept
from tests.router.store.raising import MODULES, Raising, functions, module_of, modules
from tests.router.store.small import SMALL, SMALL_STREAMS, patched
from tests.router.store.test_failing_disk import number_of

pytestmark = pytest.mark.usefixtures("small", "small_streams")

ROUNDS = 24
PASSWORD = hash_password("secret", "sha256")


@dataclass
class Published:
    """A message: the queues that may not have lost it, and whether it was confirmed."""

    number: int
    needed: set[str]
    confirmed: bool = False


class Load:
    """Clients of a broker whose code fails, and what they know. An exception ends the client whose turn it
    was, as in the server.
    """

    def __init__(self, path, raising):
        self.random = Random(1)
        self.files = FailingFiles()
        self.path = path
        self.raising = raising
        self.published = {}
        self.count = 0
        self.clock = 0
        self.withheld = False  # an alarm was seen
        self.refused = 0  # turns that failed
        self.whole = False  # everything was confirmed in spite of it
        raising.armed = False
        self.kept = Kept(path, files=self.files, budget=0, journal_size=2048)
        node = self.node = self.kept.node
        node.queue("q", durable=True, dead_letter_exchange="", dead_letter_routing_key="dead")
        node.queue("prio", durable=True, max_priority=2)
        node.queue("quorum", queue_type="quorum")
        node.queue("dead", durable=True)
        node.queue("once", durable=True, message_deduplication=True)
        node.queue("s", queue_type="stream", durable=True, stream_max_segment_size_bytes=700)
        fan = node.vhost.declare_exchange("fan", "fanout", durable=True)
        for name in ("q", "prio", "s"):
            node.vhost.bind(fan, node.vhost.queues[name], "", {})
        self.kept.settle()
        self.connect_publisher()
        self.connect_consumer()
        raising.armed = True

    @property
    def store(self):
        return self.kept.store

    def connect_publisher(self):
        self.publisher = self.node.client()
        self.publisher.session.select_confirms()
        self.sent = []
        self.told = 0

    def connect_consumer(self):
        self.consumer = self.node.client()
        self.taken = 0
        for name in ("q", "quorum"):
            self.consumer.consume(name, name, prefetch=3)

    def guard(self, turn, client=None):
        """Run something as a turn of a client, which is disconnected if it raises, or as a turn without a
        client.
        """
        try:
            turn()
        except Exception as error:
            self.failed(error)
            self.refused += 1
            if client is not None:
                self.end(client)

    def failed(self, error):
        assert self.raising.raised, error
        self.node.broker.failed(error)

    def end(self, client):
        try:
            client.session.close()
        except Exception as error:
            self.failed(error)
        if client is self.publisher:
            self.connect_publisher()
        elif client is self.consumer:
            self.guard(self.connect_consumer)

    def run(self):
        for number in range(ROUNDS):
            if self.store.broken is not None:
                return
            self.round(number)
        self.guard(self.kept.settle)
        self.check()
        self.whole = all(each is None or each.confirmed for each in self.sent)

    def round(self, number):
        for _ in range(self.random.randint(1, 6)):
            self.guard(self.publish, self.publisher)
        self.flush()
        self.guard(self.settle, self.consumer)
        self.flush()
        if number % 4 == 3:
            self.guard(self.get)
        if number % 8 == 5:
            self.guard(self.purge)
        self.guard(lambda: self.change(number))
        self.flush()
        self.clock += RETRY // 2
        self.pass_time()
        for _ in range(self.random.randint(0, 4)):
            self.kept.step()
            self.check()
        if number % 3 == 2:
            self.guard(self.store.sync)
            self.guard(self.store.flush)
        self.kept.read()
        self.check()

    def flush(self):
        """End a turn as the driver does."""
        more = True
        while more:
            try:
                more = self.node.broker.scheduler.end_batch()
            except Exception as error:
                self.failed(error)
                more = self.store.broken is None and not self.raising.always

    def pass_time(self):
        broker = self.node.broker
        broker.now = max(broker.now, START + self.clock)
        self.guard(broker.on_timers)
        self.flush()

    def publish(self):
        choices = [("", "q"), ("", "prio"), ("", "quorum"), ("", "once"), ("", "s"), ("fan", "")]
        exchange, key = self.random.choice(choices)
        self.count += 1
        each = Published(self.count, {"q", "prio", "s"} if exchange else {key})
        self.published[each.number] = each
        self.publisher.publish(
            f"{each.number} " + "x" * self.random.choice((1, 50, 600)),
            key,
            exchange,
            delivery_mode=2,
            priority=self.random.randint(0, 2),
            headers={"x-deduplication-header": str(each.number)},
        )
        self.sent.append(each)

    def settle(self):
        while self.taken < len(self.consumer.delivered) and self.random.random() < 0.7:
            queue, tag, entry = self.consumer.delivered[self.taken]
            self.taken += 1
            refused = queue == "q" and self.random.random() < 0.3
            requeue = not refused and self.random.random() < 0.2
            if not refused and not requeue:
                self.gone(entry, queue)
                self.consumer.session.ack(tag, multiple=False)
            else:
                self.consumer.session.nack(tag, multiple=False, requeue=requeue)

    def get(self):
        for name in ("prio", "dead"):
            try:
                for _ in range(2):
                    head = next(iter(self.node.vhost.queues[name].ready), None)
                    if head is not None:
                        self.gone(head, "q" if name == "dead" else name)
                    self.publisher.session.get(name, no_ack=True)
            except NextMessagePending:
                pass

    def purge(self):
        for each in self.published.values():
            each.needed.discard("prio")
        self.node.vhost.queues["prio"].purge()

    def change(self, number):
        """The topology and the users change."""
        name = f"new{number % 3}"
        old = self.node.vhost.queues.get(name)
        if old is not None:
            self.node.vhost.delete_queue(old)
        kind = {"queue_type": "stream"} if number % 2 else {}
        self.node.queue(name, durable=True, **kind)
        exchange = self.node.vhost.declare_exchange("x", "topic", durable=True)
        self.node.vhost.bind(exchange, self.node.vhost.queues[name], "a.#", {})
        self.publisher.publish("0 nobody's", name, delivery_mode=2)
        self.sent.append(None)
        if number % 4 == 1:
            self.kept.administration.put_vhost(f"v{number}")
            self.kept.administration.put_user("u", password=PASSWORD, tags=())
            self.node.vhost.declare_exchange(
                "dedup",
                "fanout",
                durable=True,
                arguments={"x-message-deduplication": True, "x-cache-size": 9},
            )
        elif number % 4 == 3:
            self.kept.administration.delete_vhost(f"v{number - 2}")
            self.kept.administration.delete_user("u")
            for name in ("dedup", "x"):
                exchange = self.node.vhost.exchanges.get(name)
                if exchange is not None:
                    self.node.vhost.delete_exchange(exchange)

    def gone(self, entry, queue):
        number = number_of(entry.message)
        if number in self.published:
            self.published[number].needed.discard(queue)

    def check(self):
        self.withheld = self.withheld or STORE in self.node.broker.alarms.raised
        for verdict in self.publisher.session.verdicts():
            assert verdict.accepted
            for each in self.sent[self.told : verdict.number]:
                if each is not None:
                    each.confirmed = True
            self.told = verdict.number

    def recover(self):
        """What raised raises no more: unless the store is broken, everything is written and confirmed."""
        self.raising.armed = False
        for _ in range(4):
            self.clock += RETRY
            self.pass_time()
            if self.store.broken is None:
                self.kept.settle()
            self.check()
        if self.store.broken is None:
            assert self.store.failure is None
            assert not self.node.broker.alarms.raised
            assert not self.store.busy()
            assert all(each is None or each.confirmed for each in self.sent)
        else:
            assert STORE in self.node.broker.alarms.raised


def expect(load, files, path):
    """Another broker on these files has every message that was confirmed and is needed."""
    again = Kept(path, files=files)
    again.settle()
    found = {}
    for name in ("q", "prio", "quorum", "once", "dead"):
        found[name] = []
        while (taken := again.get(name)) is not None:
            found[name].append(number_of(taken[1].message))
    reader = again.node.client()
    reader.consume("s", prefetch=10_000, arguments={"x-stream-offset": "first"})
    again.settle()
    found["s"] = [number_of(entry.message) for _, _, entry in reader.delivered]
    again.crash()
    for each in load.published.values():
        for name in each.needed if each.confirmed else ():
            where = found["q"] + found["dead"] if name == "q" else found[name]
            assert where.count(each.number) >= 1, (name, each, str(load.store.broken))


@pytest.fixture(scope="module")
def calls(tmp_path_factory):
    """How often the load calls each function when none raises."""
    with patched(*SMALL, *SMALL_STREAMS), Raising().entered() as counting:
        load = Load(tmp_path_factory.mktemp("calls"), counting)
        load.run()
        load.recover()
        assert load.store.broken is None
        assert not load.refused
        load.kept.crash()
    return counting.calls


def test_the_load_reaches_every_part_of_the_store(calls):
    reached = {module_of(name) for name in calls}
    assert reached >= {
        "batch", "commits", "journal.checkpoint", "journal.journal", "journal.records", "journal.truncation",
        "metadata.database", "metadata.statements", "packing", "queue_log", "segments.allocation",
        "segments.compaction", "segments.pager", "segments.pages", "segments.reader", "store",
        "streams.files", "streams.log", "streams.writer", "writer",
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("always", [False, True], ids=["once", "always"])
@pytest.mark.parametrize("module", MODULES)
def test_whichever_function_raises_nothing_that_was_confirmed_is_lost(
    quick_path, calls, module, always, after
):
    random = Random(module)
    names = [name for each in modules() for name, *_ in functions(each) if name in calls]
    for name in names:
        if module_of(name) != module:
            continue
        at = random.randint(1, max(1, calls[name] // 2))
        path = quick_path / name
        with Raising(name, at, always=always, after=after).entered() as raising:
            load = Load(path, raising)
            load.run()
            assert raising.raised, name
            if not always:
                load.recover()
            load.kept.crash()
        if always:  # whoever was concerned came to know it
            assert load.store.broken or load.withheld or load.refused or load.whole, name
            expect(load, load.files.cut_power(len(name)), path)
        else:
            expect(load, load.files.restart_process(), path)
