"""When alarms are raised and cleared, from measures that the tests give."""

from dataclasses import dataclass, field

import pytest

from leveret.protocol.errors import AmqpError
from leveret.router.broker.alarms import DISK, INTERVALS, MEMORY, next_look
from leveret.router.server.outbox import BufferedOutbox
from leveret.router.server.resource_monitor import COLLECT, STALLED, TRIM, ResourceMonitor
from leveret.router.settings import MEMORY as NOWHERE
from leveret.router.settings import AlarmSettings, Settings

MB = 1_000_000
HIGH = 600 * MB


@dataclass
class FakeMachine:
    """1000 MB of memory. ``kept`` is freed and only kept, ``garbage`` in cycles; ``asked``: the calls."""

    used: int = 100 * MB
    kept: int = 0
    garbage: int = 0
    free: int = 1000 * MB
    asked: list[str] = field(default_factory=list)

    def memory_limit(self) -> int:
        return 1000 * MB

    def resident_memory(self) -> int:
        return self.used + self.kept + self.garbage

    def free_space(self, path: str) -> int:
        assert path == "/data"
        return self.free

    def give_memory_back(self) -> None:
        self.asked.append("trim")
        self.kept = 0

    def collect_garbage(self) -> None:
        self.asked.append("collect")
        self.kept, self.garbage = self.garbage, 0


@pytest.fixture
def settings() -> Settings:
    return Settings(data="/data", alarms=AlarmSettings(disk_free_limit=50 * MB))


@pytest.fixture
def machine() -> FakeMachine:
    return FakeMachine()


@pytest.fixture
async def watch(server, machine) -> ResourceMonitor:
    return ResourceMonitor(server.driver, machine)


@pytest.fixture
def check(server, watch):
    """Look at the measures at a time (ms); return the alarms that are raised then."""

    def check(now: int = 0) -> set[str]:
        watch.update_alarms(watch.measure(now))
        return server.broker.alarms.raised

    return check


async def test_memory_above_the_watermark_raises_an_alarm_until_it_is_well_below(check, machine):
    assert check() == set()
    for used, expected in (
        (HIGH, set()),
        (HIGH + 1, {MEMORY}),
        (HIGH - 1 * MB, {MEMORY}),
        (570 * MB, set()),
        (HIGH, set()),
    ):
        machine.used = used
        assert check() == expected


async def test_too_little_free_space_raises_an_alarm(check, machine):
    for free, expected in ((50 * MB, set()), (50 * MB - 1, {DISK}), (0, {DISK}), (50 * MB, set())):
        machine.free = free
        assert check() == expected


async def test_alarms_are_logged_with_their_numbers_and_what_to_do(check, machine, logged):
    machine.used, machine.free = 700 * MB, 1
    check()
    check()
    machine.used = 100 * MB
    check()
    machine.free = 50 * MB
    check()
    lines = [(each["log_level"], each["event"]) for each in logged]
    assert lines == [
        ("warning", "memory alarm: publishers are blocked"),
        ("warning", "disk alarm: publishers are blocked"),
        ("info", "memory alarm cleared"),
        ("info", "disk alarm cleared"),
    ]
    assert (logged[0]["used"], logged[0]["high_watermark"]) == (700 * MB, HIGH)
    assert (logged[1]["free"], logged[1]["limit"]) == (1, 50 * MB)
    assert "alarms.memory_high_watermark" in logged[0]["advice"]
    assert "alarms.disk_free_limit" in logged[1]["advice"]
    assert (logged[2]["still_raised"], logged[3]["still_raised"]) == (["disk"], [])


# -- memory that is free and only kept -----------------------------------------------------------------------


async def test_what_is_only_kept_raises_no_alarm(check, machine):
    machine.kept = 600 * MB
    assert check() == set()
    assert machine.asked == ["trim"]


async def test_garbage_raises_no_alarm(check, machine):
    machine.garbage = 600 * MB
    assert check() == set()
    assert machine.asked == ["trim", "collect", "trim"]


async def test_an_alarm_does_not_stick_on_memory_that_was_drained_and_is_kept(check, machine):
    machine.used = 700 * MB
    assert check(0) == {MEMORY}
    machine.used, machine.kept = 100 * MB, 600 * MB
    assert check(TRIM) == set()


async def test_memory_is_got_back_once_in_a_while_only(check, machine):
    machine.used = 700 * MB
    for now in range(0, COLLECT, 100):
        check(now)
    assert machine.asked.count("collect") == 1
    assert machine.asked.count("trim") == COLLECT // TRIM + 1
    check(COLLECT)
    assert machine.asked.count("collect") == 2


async def test_a_broker_with_enough_memory_is_left_alone(check, machine):
    machine.used = HIGH
    check()
    assert machine.asked == []


# -- the task ------------------------------------------------------------------------------------------------


async def test_measures_are_looked_at_more_often_near_a_limit(watch, machine):
    assert watch.update_alarms(watch.measure(0)) == next_look(HIGH - machine.used)
    machine.used = HIGH - MB
    assert watch.update_alarms(watch.measure(0)) == INTERVALS[0]
    machine.used, machine.free = 0, 51 * MB
    assert watch.update_alarms(watch.measure(0)) == INTERVALS[0]


async def test_a_look_measures_in_a_thread_and_judges(watch, machine, server, logged):
    machine.used = 700 * MB
    await watch.check()
    assert server.broker.alarms.raised == {MEMORY}


async def test_nothing_is_asked_of_a_disk_on_which_nothing_is_kept(server, machine, logged):
    server.broker.settings = Settings(data=NOWHERE, alarms=AlarmSettings(disk_free_limit=2**62))
    watch = ResourceMonitor(server.driver, machine)
    assert watch.measure(0).free is None
    watch.update_alarms(watch.measure(0))
    assert server.broker.alarms.raised == set()


async def test_clients_that_take_nothing_are_cut_off_while_memory_is_short(server, check, machine, logged):
    driver = server.driver
    now = driver.begin()
    stuck = BufferedOutbox(10, 5, now - STALLED - 1, shared=driver.outboxes)
    slow = BufferedOutbox(10, 5, now, shared=driver.outboxes)
    idle = BufferedOutbox(10, 5, now - STALLED - 1, shared=driver.outboxes)
    for outbox, size in ((stuck, 100), (slow, 100), (idle, 5)):
        outbox.write(bytes(size))
    check()
    assert not stuck.closed
    machine.used = 700 * MB
    check()
    assert (stuck.closed, slow.closed, idle.closed) == (True, False, False)
    assert [each["unsent"] for each in logged if "does not read" in each["event"]] == [100]


class FakeSender:
    def __init__(self) -> None:
        self.errors: list[str] = []

    def end(self, error: AmqpError) -> None:
        self.errors.append(str(error))


@pytest.mark.parametrize(
    ("held", "others", "cut_off"),
    [
        ([40 * MB, 20 * MB], 550 * MB, [True, False]),  # without them memory would not be short
        ([20 * MB, 10 * MB, 15 * MB], 570 * MB, [True, True, True]),
        ([40 * MB, 20 * MB], 571 * MB, [False, False]),  # something else is the reason
    ],
)
async def test_incomplete_messages_are_given_up_if_they_alone_keep_memory_short(  # noqa: PLR0917 - fixtures
    server, watch, machine, logged, monkeypatch, held, others, cut_off
):
    """Who sends them is blocked, and would keep the alarm raised for ever."""
    senders = [FakeSender() for _ in held]
    broker = server.broker
    for sender, size in zip(senders, held, strict=True):
        broker.incoming.grow(sender, f"user {id(sender)}", size)

    def update_alarms(now: int) -> list[bool]:
        monkeypatch.setattr("leveret.router.server.driver.clock", lambda: now)
        machine.used = others + broker.incoming.held
        watch.update_alarms(watch.measure(now))
        return [bool(sender.errors) for sender in senders]

    monkeypatch.setattr("leveret.router.server.driver.clock", lambda: 0)
    watch.update_alarms(watch.measure(0))
    assert update_alarms(100) == update_alarms(STALLED - 1) == [False] * len(held)
    assert broker.alarms.raised == {MEMORY}
    assert update_alarms(STALLED) == update_alarms(STALLED + 1) == cut_off
    assert broker.alarms.raised == (set() if any(cut_off) else {MEMORY})
