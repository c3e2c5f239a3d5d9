"""A broker kept in a data directory: when it writes."""

from pathlib import Path

from router.broker import Broker
from router.server.driver import Driver
from router.server.keeping import DELAY, Keeping
from router.settings import Settings
from tests.router.harness import message


def keep(directory: Path) -> tuple[Driver, Keeping]:
    """A broker that writes to a directory."""
    broker = Broker(Settings(data=str(directory)))
    keeping = Keeping(broker, directory)
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
