"""Measurement of the event loop: every step of every task is a turn, and is named by its work."""

import itertools

import pytest
import trio

from leveret.router.broker.broker import Broker
from leveret.router.server import turn_meter
from leveret.router.server.driver import Driver
from leveret.router.server.turn_meter import READ_AFTER, TurnMeter
from leveret.router.settings import Settings
from leveret.router.turns.turn_times import SLOW


@pytest.fixture
def clock(monkeypatch):
    """Seconds that the measured code has taken, in a list of one: the tests add to it."""
    seconds = [100.0]
    for name in ("perf_counter", "thread_time"):
        monkeypatch.setattr(turn_meter.time, name, lambda: seconds[0])
    return seconds


@pytest.fixture
async def driver(clock):
    """The driver of a broker whose turns are measured."""
    driver = Driver(Broker(Settings()))
    clock[0] += 1
    meter = TurnMeter(driver)
    trio.lowlevel.add_instrument(meter)
    yield driver
    trio.lowlevel.remove_instrument(meter)


async def work(clock, seconds):
    clock[0] += seconds


async def test_a_step_without_a_batch_is_measured_and_named_by_its_task(driver, clock, logged):
    async with trio.open_nursery() as nursery:
        nursery.start_soon(work, clock, 2 * SLOW, name="parsing")
    longest = driver.broker.turn_times.longest(driver.broker.now)
    assert longest.what == "task parsing"
    assert longest.seconds == longest.cpu_seconds == pytest.approx(2 * SLOW)
    [line] = [entry for entry in logged if entry["event"] == "slow turn of the event loop"]
    assert (line["log_level"], line["task"]) == ("warning", "parsing")
    assert line["ms"] == line["cpu_ms"] == 100.0


async def test_a_step_with_a_batch_is_named_by_what_took_its_time(driver, clock, logged):
    async def serve(handling, delivering):
        def deliver(**left_over):
            clock[0] += delivering

        driver.broker.scheduler.end_batch = deliver
        driver.begin("commands of a client")
        clock[0] += handling
        driver.end()

    driver.broker.scheduler._delivering = "q", "/"
    for handling, delivering in ((SLOW / 4, SLOW), (2 * SLOW, 0.01)):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve, handling, delivering)
    names = [entry["what"] for entry in logged if entry["event"] == "slow turn of the event loop"]
    assert names == ["commands of a client: delivering of queue 'q' in vhost '/'"]  # one a second is logged
    assert driver.broker.turn_times.longest(driver.broker.now).what == "commands of a client"
    assert driver.broker.turn_times.slow == 2


async def test_a_step_is_not_named_by_the_batch_of_an_earlier_one(driver, clock):
    driver.begin("commands of a client")
    driver.end()
    await trio.lowlevel.checkpoint()
    clock[0] += 1
    async with trio.open_nursery() as nursery:
        nursery.start_soon(work, clock, 2, name="other")
    assert driver.broker.turn_times.longest(driver.broker.now).what == "task other"


async def test_a_round_is_the_sum_of_the_steps_of_all_ready_tasks(driver, clock):
    async with trio.open_nursery() as nursery:
        for _ in itertools.repeat(None, 5):
            nursery.start_soon(work, clock, 0.01)
    broker = driver.broker
    assert broker.turn_times.longest(broker.now).seconds == pytest.approx(0.01)
    assert broker.round_times.longest(broker.now).seconds == pytest.approx(0.05)


async def test_processor_time_is_read_once_for_many_short_steps(driver, clock, monkeypatch):
    readings = []
    monkeypatch.setattr(turn_meter.time, "thread_time", lambda: readings.append(clock[0]) or clock[0])
    steps = 100

    async def take_steps():
        for _ in range(steps):
            clock[0] += READ_AFTER / 10
            await trio.lowlevel.checkpoint()

    await take_steps()
    assert steps / 20 <= len(readings) <= steps / 5


async def test_processor_time_of_a_step_is_at_most_its_duration(driver, monkeypatch):
    cpu = [100.0]
    monkeypatch.setattr(turn_meter.time, "thread_time", lambda: cpu[0])
    cpu[0] += 10  # of steps whose processor time was not read
    await trio.lowlevel.checkpoint()
    assert driver.broker.turn_times.longest_cpu(driver.broker.now).cpu_seconds <= (
        driver.broker.turn_times.longest(driver.broker.now).seconds
    )


async def test_processor_time_is_not_read_after_a_wait_and_a_short_step(driver, clock, monkeypatch):
    reads = []
    monkeypatch.setattr(turn_meter.time, "thread_time", lambda: reads.append(clock[0]) or clock[0])
    meter = TurnMeter(driver)
    task = trio.lowlevel.current_task()
    reads.clear()
    for _ in range(3):
        clock[0] += 1  # the loop waits
        meter.after_io_wait(1.0)
        clock[0] += READ_AFTER / 4
        meter.after_task_step(task)
    assert not reads
    clock[0] += READ_AFTER / 2
    meter.after_task_step(task)
    assert len(reads) == 1
