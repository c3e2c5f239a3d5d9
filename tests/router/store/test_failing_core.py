"""If any function of queues, streams and sessions raises, no confirmed message is lost, and none is stuck.

Every such function that a load with confirms calls raises once, before or after it has done its work. The
broker goes on: whoever met the exception is disconnected, everybody else is served. What queues say they hold
can be consumed, and is there after a restart too.
"""

import importlib
import pkgutil
from random import Random

import pytest

import leveret.router.queue
import leveret.router.session
import leveret.router.stream
from tests.router.store.raising import Raising, functions
from tests.router.store.small import SMALL, SMALL_STREAMS, patched
from tests.router.store.test_failing_code import Load, expect
from tests.router.store.test_failing_disk import number_of

pytestmark = pytest.mark.usefixtures("small", "small_streams")

OTHERS = (
    "deduplication.deduplicator",
    "deduplication.publishers",
    "vhost.death_headers",
    "vhost.dead_letters",
    "exchange.admission",
)
PACKAGES = (leveret.router.queue, leveret.router.session, leveret.router.stream)
MODULES = [
    importlib.import_module(f"{package.__name__}.{each.name}")
    for package in PACKAGES
    for each in pkgutil.iter_modules(package.__path__)
]
MODULES += [importlib.import_module(f"leveret.router.{name}") for name in OTHERS]
NAMES = [module.__name__.removeprefix("leveret.router.") for module in MODULES]
COMPARED = {"Entry.__lt__", "Run.__lt__"}  # by heapq, which loses an item if they raise
# What they return is nowhere else: an exception behind them could not tell what was lost.
TAKING = {
    "Fifo.take", "Priorities.take", "Fifo.overdue", "Paging.expire", "Unacked.take", "Unacked.take_each",
    "Unacked.take_through", "ExpiryIndex.due", "QueueDeliveries.take", "QueueDeliveries.get",
    "Queue._in_time", "Reader.take",
}  # fmt: skip
QUEUES = ("q", "prio", "quorum", "once", "dead")
LATER = 70_000  # ms by which everything was tried again


class CoreLoad(Load):
    """The same load, beside a client that has a queue of its own."""

    def __init__(self, path, raising):
        raising.armed = False
        self.gone_clients = set()
        super().__init__(path, raising)
        raising.armed = False
        self.node.queue("other", durable=True)
        self.kept.settle()
        self.bystander = self.node.client()
        self.bystander.session.select_confirms()
        self.bystander.consume("other", "other", prefetch=2)
        self.sent_by_bystander = 0
        raising.armed = True

    def end(self, client):
        self.gone_clients.add(id(client))
        super().end(client)

    def check(self):
        """Send the confirms, as a connection does after a commit."""
        self.guard(super().check, self.publisher)

    def round(self, number):
        super().round(number)
        if not self.bystander.session.finished:
            self.guard(self.bystand, self.bystander)
            self.flush()

    def bystand(self):
        self.sent_by_bystander += 1
        self.bystander.publish(str(self.sent_by_bystander), "other", delivery_mode=2)
        for tag, *_ in self.bystander.session.unacked:
            self.bystander.session.ack(tag, multiple=False)
            break

    def end_everybody(self):
        """Have all messages back in their queues, and everything tried again that was interrupted."""
        for _ in range(3):
            self.clock += LATER
            self.pass_time()
            self.kept.settle()
            self.check()
        for client in (self.publisher, self.consumer, self.bystander):
            client.session.close()
        self.kept.settle()

    def look(self):
        """Demand that queues hold what they say, and that all of it can be consumed."""
        for name in (*QUEUES, "other"):
            queue = self.node.vhost.queues[name]
            depth = queue.count(self.node.broker.now)
            assert queue.unacked == 0, name
            consumer = self.node.client()
            consumer.consume(name, prefetch=0)
            for _ in range(10):
                self.node.settle()
                self.kept.read()
            delivered = [entry for _, _, entry in consumer.delivered]
            assert len(delivered) == depth == queue.unacked, (name, queue.held)
            assert len(queue.ready) == queue.bytes == 0, name
            self.found[name] = [number_of(entry.message) for entry in delivered if name != "other"]
            consumer.session.close()
            self.node.settle()
            assert len(queue.ready) == depth
        self.kept.settle()
        for each in self.published.values():
            for name in each.needed if each.confirmed else ():
                if name != "s":
                    where = self.found["q"] + self.found["dead"] if name == "q" else self.found[name]
                    assert where.count(each.number) >= 1, (name, each)

    found: dict[str, list[int]] = {}


@pytest.fixture(scope="module")
def calls(tmp_path_factory):
    """How often the load calls each function when none raises."""
    with patched(*SMALL, *SMALL_STREAMS), Raising(among=MODULES).entered() as counting:
        load = CoreLoad(tmp_path_factory.mktemp("calls"), counting)
        load.run()
        load.recover()
        assert not load.refused
        counted = counting.calls.copy()
        load.end_everybody()
        load.look()
        load.kept.crash()
    return counted


@pytest.mark.slow
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("module", NAMES)
def test_whichever_function_raises_no_confirmed_message_is_lost_or_stuck(quick_path, calls, module, after):
    random = Random(module)
    found = importlib.import_module(f"leveret.router.{module}")
    for name, *_ in functions(found):
        short = name.removeprefix(f"leveret.router.{module}.")
        if name not in calls or short in COMPARED or (after and short in TAKING):
            continue
        at = random.randint(1, max(1, calls[name] // 2))
        path = quick_path / name
        with Raising(name, at, after=after, among=MODULES).entered() as raising:
            load = CoreLoad(path, raising)
            load.run()
            assert raising.raised, name
            try:
                load.recover()
                if load.store.broken is None:
                    assert len(load.gone_clients) <= 1, (name, at)
                    load.end_everybody()
                    load.look()
            except AssertionError as error:
                raise AssertionError(f"{name}, call {at}: {error}") from error
            load.kept.crash()
        expect(load, load.files.restart_process(), path)
