import time
from itertools import count

import pytest
import trio
import trio.testing

from leveret.router.broker.broker import Broker
from leveret.router.persistence.api import NoStorage
from leveret.router.server import driver as driver_module
from leveret.router.server.driver import LARGE_READ, Driver
from leveret.router.settings import Settings
from leveret.router.turns.budget import Budget
from leveret.router.turns.timers import Timers


class FakeBroker:
    """Has timers like the broker's and work that takes so many turns."""

    def __init__(self) -> None:
        self.now = 0
        self.wall = 0
        self.timers = Timers()
        self.budget = Budget()
        self.doing = ""
        self.scheduler = self
        self.turns = 0
        self.events: list[str] = []
        self.failing = False

    def end_batch(self, *, left_over: bool = True) -> bool:
        if self.failing:
            self.failing = False
            raise RuntimeError("a queue is broken")
        if self.turns:
            self.turns -= 1
            self.events.append("turn")
        return self.turns > 0

    def failed(self, error: BaseException) -> bool:
        return False

    def on_timers(self) -> None:
        self.timers.run(self.now)


class Target:
    """Notes when it is called; ``then`` is done after that."""

    finished = False

    def __init__(self, then=lambda now: None) -> None:
        self.calls: list[float] = []
        self.then = then

    def on_timer(self, now: int) -> None:
        self.calls.append(trio.current_time())
        self.then(now)


@pytest.fixture
async def broker():
    return FakeBroker()


@pytest.fixture
async def driver(broker, nursery):
    driver = Driver(broker)
    nursery.start_soon(driver.run_timers)
    nursery.start_soon(driver.run_left_over_work)
    await trio.testing.wait_all_tasks_blocked()
    return driver


def schedule(driver: Driver, delay: float, target: Target) -> float:
    """Ask for a call in ``delay`` seconds, in a batch; return when that is."""
    now = driver.begin()
    driver.broker.timers.schedule(now + int(delay * 1000), target)
    driver.end()
    return trio.current_time() + delay


async def test_a_deadline_is_kept(autojump_clock, driver):
    target = Target()
    due = schedule(driver, 10, target)
    await trio.sleep(60)
    assert target.calls == pytest.approx([due], abs=0.002)


async def test_an_earlier_deadline_wakes_the_timers_and_a_later_one_does_not(autojump_clock, driver):
    late, early, last = Target(), Target(), Target()
    times = [schedule(driver, delay, target) for delay, target in ((20, late), (10, early), (30, last))]
    await trio.sleep(60)
    assert [*late.calls, *early.calls, *last.calls] == pytest.approx(times, abs=0.002)


async def test_a_deadline_that_a_deadline_leads_to_is_kept(autojump_clock, driver):
    target = Target(lambda now: driver.broker.timers.schedule(now + 1000, target))
    schedule(driver, 1, target)
    start = trio.current_time()
    await trio.sleep(5.5)
    assert [round(call - start) for call in target.calls] == [1, 2, 3, 4, 5]


async def test_a_deadline_in_the_past_is_kept_at_once(autojump_clock, driver):
    target = Target()
    schedule(driver, -5, target)
    start = trio.current_time()
    await trio.sleep(1)
    assert target.calls == pytest.approx([start], abs=0.002)


async def test_a_timer_that_is_always_due_does_not_block_other_tasks(autojump_clock, driver):
    target = Target(lambda now: driver.broker.timers.schedule(now - 1, target))
    schedule(driver, 0, target)
    await trio.sleep(1)
    assert len(target.calls) <= 1001


async def test_a_deadline_that_passes_before_the_wait_begins_is_kept(monkeypatch, autojump_clock, driver):
    lost = count(0, 10)  # ms in which the process did not run, more at each look
    monkeypatch.setattr(driver_module, "clock", lambda: int(trio.current_time() * 1000) + next(lost))
    targets = [Target() for _ in range(5)]
    for target in targets:
        schedule(driver, 0, target)
        await trio.sleep(1)
    assert [len(target.calls) for target in targets] == [1] * 5


async def test_deadlines_are_kept_though_one_fails(autojump_clock, driver, logged):
    def fail(now: int) -> None:
        raise RuntimeError("broken")

    same, later = Target(), Target()
    now = driver.begin()
    for target, delay in ((Target(fail), 1000), (same, 1000), (later, 2000)):
        driver.broker.timers.schedule(now + delay, target)
    driver.end()
    await trio.sleep(10)
    assert len(same.calls) == len(later.calls) == 1
    assert [(event["log_level"], str(event["exc_info"])) for event in logged] == [("error", "broken")]


async def test_left_over_work_is_done_in_turns_with_everybody_else(autojump_clock, driver, broker):
    broker.turns = 5

    async def other() -> None:
        for _ in range(5):
            broker.events.append("other")
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        driver.begin()
        driver.end()
        nursery.start_soon(other)
    await trio.testing.wait_all_tasks_blocked()
    assert broker.events.count("turn") == 5
    assert "turn turn turn" not in " ".join(broker.events[:8])


async def test_work_goes_on_though_a_part_of_it_fails(autojump_clock, driver, broker, logged):
    broker.failing, broker.turns = True, 3
    driver.begin()
    driver.end()
    await trio.testing.wait_all_tasks_blocked()
    assert broker.events == ["turn"] * 3
    assert [str(event["exc_info"]) for event in logged] == ["a queue is broken"]


async def test_a_batch_begins_with_both_clocks_read(autojump_clock, driver, broker):
    before = time.time()
    now = driver.begin()
    assert broker.now == now == int(trio.current_time() * 1000)
    assert int(before) <= broker.wall <= time.time()


class Behind(NoStorage):
    """A storage whose disk is behind until the test changes that."""

    def __init__(self):
        self.is_behind = True

    def behind(self, taken, *, small):
        return self.is_behind and taken > 10


async def test_a_client_waits_while_the_disk_is_behind(autojump_clock):
    broker = Broker(Settings(), storage=Behind())
    driver = Driver(broker)
    taken = trio.Event()

    async def take():
        await driver.throttle(20)
        taken.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(take)
        await trio.testing.wait_all_tasks_blocked()
        driver.release_waiting(committed=False)
        await trio.testing.wait_all_tasks_blocked()
        assert not taken.is_set()
        driver.release_waiting(committed=True)
        await taken.wait()
    assert trio.current_time() < driver_module.HOLD_TIMEOUT


async def test_a_client_waits_no_longer_than_so_long(autojump_clock):
    driver = Driver(Broker(Settings(), storage=Behind()))
    before = trio.current_time()
    await driver.throttle(20)
    assert trio.current_time() - before == pytest.approx(driver_module.HOLD_TIMEOUT)


async def test_a_client_that_sends_little_does_not_wait(autojump_clock):
    driver = Driver(Broker(Settings(), storage=Behind()))
    before = trio.current_time()
    await driver.throttle(10)
    assert trio.current_time() == before


@pytest.mark.parametrize("size", [5, LARGE_READ])
async def test_reads_of_one_size_do_not_make_those_of_another_wait(autojump_clock, size):
    others = LARGE_READ if size < LARGE_READ else 11
    driver = Driver(Broker(Settings(), storage=Behind()))
    before = trio.current_time()
    await driver.throttle(others)
    waited = trio.current_time() - before
    assert waited == pytest.approx(driver_module.HOLD_TIMEOUT)
    await driver.throttle(size)
    assert (trio.current_time() - before == waited) == (size < LARGE_READ)


async def test_each_turn_has_a_budget_of_its_own(driver, broker, monkeypatch):
    seconds = 100.0
    monkeypatch.setattr(driver_module.time, "perf_counter", lambda: seconds)
    broker.budget.clock = driver_module.time.perf_counter
    for _ in range(2):
        driver.begin()
        assert not broker.budget.spent()
        seconds += driver_module.COMMANDS
        assert broker.budget.spent()
        driver.end()


async def test_deadlines_that_are_very_late_are_looked_at_when_clients_were_read(mock_clock, driver):
    """A process that was stopped for half a minute finds what clients sent meanwhile in its sockets."""
    target = Target()
    due = schedule(driver, 1, target)
    await trio.testing.wait_all_tasks_blocked()
    mock_clock.jump(31)
    await trio.testing.wait_all_tasks_blocked()
    assert not target.calls
    mock_clock.jump(driver_module.GRACE)
    await trio.testing.wait_all_tasks_blocked()
    assert target.calls == pytest.approx([due + 30 + driver_module.GRACE], abs=0.002)
