"""The queue of waiting logins: order, rate, bounds and outcomes."""

import pytest

from leveret.router.auth import (
    Login,
    LoginPostponed,
    LoginQueue,
    LoginRefused,
    Logins,
    Throttle,
    User,
    Users,
)
from leveret.router.auth.login_queue import SLOTS
from leveret.router.turns.timers import Timers
from tests.router.work import SLOW, Later


class Host:
    def __init__(self) -> None:
        self.now = 0
        self.work = Later()
        self.timers = Timers()

    def schedule(self, when, target) -> None:
        self.timers.schedule(when, target)


class Gate:
    """A queue whose clock and threads the test controls. ``told`` has the outcomes in their order."""

    def __init__(self, burst=0, per_minute=60) -> None:
        self.host = Host()
        self.users = Users()
        for name in ("anna", "bert"):
            self.users.add(name, SLOW)
        throttle = Throttle(burst, per_minute)
        self.logins = Logins(self.users, throttle=throttle)
        self.logins._decoy = SLOW
        self.queue = LoginQueue(self.host, self.logins, throttle)
        self.told: list[tuple[str, str]] = []

    def try_login(self, label, user="anna", password="pw", host="10.0.0.1"):
        login = Login(user, password, host, loopback=False)
        found = self.logins.begin(login, self.host.now)
        if isinstance(found, User):
            self.told.append((label, "in"))
            return None
        return self.queue.add(login, found, lambda outcome: self.told.append((label, self.name(outcome))))

    @staticmethod
    def name(outcome) -> str:
        return {User: "in", LoginRefused: "refused", LoginPostponed: "postponed"}[type(outcome)]

    def empty(self) -> bool:
        queue = self.queue
        return not any((queue._waiting, queue._counts, queue._same, queue._running, len(queue)))

    def step(self, count=1) -> None:
        for _ in range(count):
            self.host.work.step()

    def drain(self) -> None:
        while self.host.work.jobs:
            self.step()

    def pass_time(self, until) -> None:
        """Let time pass, deadline by deadline, with all checks done at once."""
        self.drain()
        while (due := self.host.timers.next_deadline()) is not None and due <= until:
            self.host.now = due
            self.host.timers.run(due)
            self.drain()
        self.host.now = until

    def when(self, label, most=3_600_000) -> int:
        """Return the ms until a login has its outcome."""
        while not any(each[0] == label for each in self.told):
            due = self.host.timers.next_deadline()
            assert due is not None
            assert due <= most
            self.pass_time(due)
        return self.host.now


@pytest.fixture
def gate() -> Gate:
    return Gate()


def test_no_more_checks_run_than_there_are_slots(gate):
    for number in range(5):
        gate.try_login(str(number), password=f"x{number}")
    assert (len(gate.host.work.jobs), len(gate.queue)) == (SLOTS, 5 - SLOTS)
    gate.step()
    assert (len(gate.host.work.jobs), len(gate.queue)) == (SLOTS, 4 - SLOTS)


def test_a_flood_from_one_address_delays_another_address_by_one_turn(gate):
    for number in range(300):
        gate.try_login("flood", password=f"x{number}")
    gate.try_login("right", host="10.0.0.2")
    gate.step(SLOTS + 2)
    assert ("right", "in") in gate.told


@pytest.mark.parametrize("count", [1, 50])
def test_a_flood_from_one_ipv6_network_is_that_of_one_address(gate, count):
    for number in range(300):
        gate.try_login("flood", password=f"x{number}", host=f"2001:db8::{number % count + 1:x}")
    gate.try_login("right", host="2001:db8:0:1::1")
    gate.step(SLOTS + 2)
    assert ("right", "in") in gate.told


def test_a_flood_for_one_name_delays_another_name_of_the_address_by_one_turn(gate):
    for number in range(300):
        gate.try_login("flood", password=f"x{number}")
    gate.try_login("right", user="bert")
    gate.step(SLOTS + 2)
    assert ("right", "in") in gate.told


def test_all_logins_of_a_flood_end_and_a_correct_password_among_them_succeeds(gate):
    for number in range(150):
        gate.try_login("flood", password=f"x{number}")
    gate.try_login("right")
    for number in range(150, 300):
        gate.try_login("flood", password=f"x{number}")
    gate.drain()
    assert gate.told.count(("flood", "refused")) == 300
    assert gate.told.count(("right", "in")) == 1
    assert len(gate.queue) == 0


def test_proven_credentials_pass_a_flood_at_once(gate):
    gate.try_login("first")
    gate.drain()
    for number in range(300):
        gate.try_login("flood", password=f"x{number}")
    gate.try_login("again")
    assert gate.told == [("first", "in"), ("again", "in")]


def test_many_with_the_same_credentials_share_one_check(gate):
    for number in range(100):
        gate.try_login(f"{number}", host=f"10.0.1.{number}")
    gate.step()
    assert [outcome for _, outcome in gate.told] == ["in"] * 100
    assert len(gate.queue) == 0
    gate.drain()


def test_logins_that_share_a_check_all_fail_with_it_and_each_counts_for_its_address():
    gate = Gate(burst=1)
    for number in range(3):
        gate.try_login(f"{number}", password="bad", host=f"10.0.1.{number}")
    gate.drain()
    assert [outcome for _, outcome in gate.told] == ["refused"] * 3
    assert all(gate.logins._throttle.delay("anna", f"10.0.1.{number}", 0) for number in range(3))


def test_a_password_that_changes_meanwhile_is_checked_again_for_later_logins(gate):
    gate.try_login("old")
    gate.users.add("anna", SLOW._replace(text=SLOW.text.replace("oi7w", "AAAA")))
    gate.try_login("new")
    gate.drain()
    assert sorted(gate.told) == [("new", "refused"), ("old", "refused")]


# -- the pace ---------------------------------------------------------------------------------------------


def test_a_right_password_passes_while_wrong_ones_keep_coming():
    """220 wrong ones, and from then on one each 250 ms, all from one address and for the same user."""
    gate = Gate(burst=20, per_minute=60)
    for number in range(220):
        gate.try_login("flood", password=f"x{number}")
    gate.pass_time(10_000)
    gate.try_login("right")
    for number in range(1200):
        gate.try_login("flood", password=f"y{number}")
        gate.pass_time(gate.host.now + 250)
        if ("right", "in") in gate.told:
            break
    assert gate.host.now < 240_000
    gate.try_login("again")
    assert gate.told[-1] == ("again", "in")


def test_another_name_from_there_passes_soon():
    gate = Gate(burst=20, per_minute=60)
    for number in range(300):
        gate.try_login("flood", password=f"x{number}")
    gate.pass_time(10_000)
    start = gate.host.now
    gate.try_login("right", user="bert")
    gate.drain()
    assert ("right", "in") in gate.told
    assert gate.host.now == start


def test_wrong_passwords_are_checked_at_the_pace_of_the_settings():
    gate = Gate(burst=20, per_minute=60)
    for number in range(100):
        gate.try_login("flood", password=f"x{number}")
    gate.pass_time(60_000)
    assert 80 <= len(gate.told) <= 80 + SLOTS  # 20 at once, and 60 in a minute
    gate.pass_time(80_000)
    assert len(gate.told) == 100


def test_wrong_passwords_for_many_names_are_checked_at_the_address_pace():
    gate = Gate(burst=2, per_minute=6)
    for number in range(100):
        gate.try_login("flood", user=f"n{number}", password="x")
    gate.pass_time(60_000)
    assert 80 <= len(gate.told) <= 80 + SLOTS
    assert gate.when("flood") == 60_000
    gate.try_login("right", host="10.0.0.2")
    gate.drain()
    assert gate.told[-1] == ("right", "in")


# -- how many may wait, and who goes ----------------------------------------------------------------------


def test_too_many_logins_of_an_address_are_postponed_and_no_others(gate, monkeypatch):
    monkeypatch.setattr("leveret.router.auth.login_queue.MOST_OF_ADDRESS", 10)
    gate.try_login("right", user="bert")
    gate.try_login("other", host="10.0.0.2")
    for number in range(50):
        gate.try_login("flood", password=f"x{number}")
    assert gate.told == [("flood", "postponed")] * 40
    gate.drain()
    assert {("right", "in"), ("other", "in")} <= set(gate.told)


def test_a_late_login_replaces_one_for_the_name_with_the_most(gate, monkeypatch):
    monkeypatch.setattr("leveret.router.auth.login_queue.MOST_OF_ADDRESS", 10)
    for number in range(50):
        gate.try_login("flood", password=f"x{number}")
    gate.try_login("right", user="bert")
    gate.drain()
    assert ("right", "in") in gate.told


def test_too_many_in_all_cost_the_address_with_the_most(gate, monkeypatch):
    monkeypatch.setattr("leveret.router.auth.login_queue.MOST_WAITING", 10)
    for number in range(50):
        gate.try_login("flood", password=f"x{number}")
    for number in range(4):
        gate.try_login("right", user="bert", host=f"10.0.1.{number}")
    assert {outcome for _, outcome in gate.told} == {"postponed"}
    assert len(gate.queue) == 10
    gate.drain()
    assert gate.told.count(("right", "in")) == 4


def test_a_cancelled_login_leaves_nothing_behind(gate):
    waiting = [gate.try_login(str(number), password=f"x{number}") for number in range(5)]
    for each in waiting:
        each.cancel()
        each.cancel()
    assert len(gate.queue) == 0
    gate.drain()
    assert gate.told == []
    assert gate.empty()


def test_a_login_that_has_ended_leaves_nothing_behind(gate):
    for number in range(5):
        gate.try_login(str(number), password=f"x{number}")
    gate.try_login("right")
    gate.drain()
    assert len(gate.told) == 6
    assert gate.empty()
