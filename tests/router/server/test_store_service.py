"""A store at work under a broker: when it writes, and what becomes of writes that fail."""

from pathlib import Path

import pytest
import trio

from leveret.protocol.amqp import methods as m
from leveret.router.broker.alarms import STORE
from leveret.router.broker.broker import Broker
from leveret.router.queue.queue import Queue
from leveret.router.server import store_service as module
from leveret.router.server.driver import Driver
from leveret.router.server.resource_monitor import set_alarm
from leveret.router.server.store_service import DELAY, StoreService
from leveret.router.settings import Settings
from leveret.router.store.opening import DataDirectory
from leveret.router.store.writer import Commit, RemoveSegments, Writer
from tests.router.harness import message
from tests.router.server.server import Server
from tests.router.store.raising import Injected, Raising

LOG = "leveret.router.store.queue_log.StoredQueueLog."


class Broken:
    """Says which jobs of the disk fail: those of these kinds, until it is mended."""

    kinds: tuple[type, ...] = ()


@pytest.fixture
def broken(monkeypatch) -> Broken:
    """The disk's state; what fails is tried again at once."""
    state, run = Broken(), Writer.run

    def run_or_fail(writer, job):
        if isinstance(job, state.kinds):
            raise OSError("no space")
        return run(writer, job)

    monkeypatch.setattr(Writer, "run", run_or_fail)
    monkeypatch.setattr(module, "RETRY", 1)
    return state


@pytest.fixture
def settings(tmp_path) -> Settings:
    return Settings(data=str(tmp_path / "data"))


@pytest.fixture
async def keeping(server: Server, settings: Settings, broken: Broken):
    """The broker's storage, in a new directory."""
    keeping = StoreService(server.broker, DataDirectory(Path(settings.data)))
    keeping.start(server.driver)
    yield keeping
    await keeping.finish()


async def test_commits_are_reported_while_another_job_fails(server, keeping, broken, logged):
    client, _ = server.connect()
    await client.login()
    broken.kinds = (RemoveSegments,)
    keeping._disk.submit(RemoveSegments([]))
    for name in ("a", "b", "c"):
        await client.call(m.QueueDeclare(name, durable=True), m.QueueDeclareOk)
    assert keeping.store.failure == "no space"
    broken.kinds = ()
    await client.close()


async def test_a_commit_that_fails_blocks_publishers_until_it_has_succeeded(
    server, keeping, broken, logged, monkeypatch
):
    raised = trio.Event()

    def set_and_tell(alarms, alarm, on, **numbers):
        set_alarm(alarms, alarm, on, **numbers)
        if on:
            raised.set()

    monkeypatch.setattr(module, "set_alarm", set_and_tell)
    client, _ = server.connect()
    await client.login()
    other, _ = server.connect()
    await other.login()
    broken.kinds = (Commit,)
    await client.send(m.QueueDeclare("q", durable=True))
    await raised.wait()
    assert server.broker.alarms.raised == {STORE}
    await other.publish("q")
    await other.expect(m.ConnectionBlocked)
    broken.kinds = ()
    await client.expect(m.QueueDeclareOk)
    await other.expect(m.ConnectionUnblocked)
    assert await other.count("q") == 1
    alarms = [each for each in logged if "alarm" in each["event"]]
    assert [each["log_level"] for each in alarms] == ["warning", "info"]
    assert alarms[0]["error"] == "no space"


def keep(directory: Path) -> tuple[Driver, StoreService]:
    """A broker that writes to a directory."""
    broker = Broker(Settings(data=str(directory)))
    keeping = StoreService(broker, DataDirectory(directory))
    broker.add_vhost("/")
    driver = Driver(broker)
    keeping.start(driver)
    return driver, keeping


async def test_a_settlement_is_written_in_a_while(tmp_path: Path) -> None:
    driver, keeping = keep(tmp_path)
    driver.broker.vhosts["/"].declare_queue("q", durable=True).enqueue(message(delivery_mode=2), 0)
    driver.end()
    await keeping.finish()

    driver, keeping = keep(tmp_path)
    broker, batch = driver.broker, keeping.store.batch
    assert broker.vhosts["/"].queues["q"].get(driver.begin(), no_ack=True) is not None
    driver.end()
    assert keeping.store.batch == batch
    assert broker.timers.next_deadline() == broker.now + DELAY
    broker.timers.run(broker.now + DELAY)
    assert keeping.store.batch > batch
    await keeping.finish()

    driver, keeping = keep(tmp_path)
    assert len(driver.broker.vhosts["/"].queues["q"].ready) == 0
    await keeping.finish()


async def test_a_settlement_is_written_when_the_broker_stops(tmp_path: Path) -> None:
    driver, keeping = keep(tmp_path)
    queue = driver.broker.vhosts["/"].declare_queue("q", durable=True)
    queue.enqueue(message(delivery_mode=2), 0)
    driver.end()
    queue.get(0, no_ack=True)
    driver.end()
    await keeping.finish()

    driver, keeping = keep(tmp_path)
    assert len(driver.broker.vhosts["/"].queues["q"].ready) == 0
    await keeping.finish()


async def test_an_exception_of_the_store_in_a_clients_turn_stops_the_broker_before_anything_is_confirmed(
    server, keeping, logged
):
    """The client of that turn gets an error; other clients have earlier confirms and get no later ones."""
    client, _ = server.connect()
    await client.login()
    quorum = m.QueueDeclare("q", durable=True, arguments={"x-queue-type": "quorum"})
    await client.call(quorum, m.QueueDeclareOk)

    committed = keeping.store.committed_batch
    with Raising(LOG + "store").entered(), Raising(LOG + "store_all").entered():
        await client.publish("q")
        closed = await client.expect(m.ConnectionClose)
    assert closed.reply_code == 541
    await keeping.broken.wait()
    assert isinstance(keeping.store.broken, Injected)
    assert STORE in server.broker.alarms.raised
    assert keeping.store.committed_batch == committed
    assert [each["log_level"] for each in logged if each["event"] == "the store failed"] == ["error"]


async def test_an_exception_of_a_queue_that_is_not_the_stores_stops_nothing(
    server, keeping, monkeypatch, logged
):
    def fail(*_):
        raise RuntimeError("a bug")

    monkeypatch.setattr(Queue, "_drain", fail)
    queue = server.broker.vhosts["/"].declare_queue("q", durable=True)
    queue.enqueue(message(delivery_mode=2), 0)
    server.driver.end()
    assert keeping.store.broken is None
    text = "queue delivery raised an exception: queue 'q' in vhost '/'"
    failed = [each for each in logged if each["event"] == text]
    assert {str(each["exc_info"]) for each in failed} == {"a bug"}
