"""The fence: however commits end and brokers take over, each position has one owner, and nothing is lost."""

import threading
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import psycopg
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from leveret.router.postgresql import fence, schema
from leveret.router.postgresql.append_session import AppendError, AppendSession
from leveret.router.postgresql.fence import CollisionError, NewestPosition, read_newest, take_over
from leveret.router.postgresql.location import Connection, Statement, StoreLocation, execute
from leveret.router.store.backend import DeposedError

schemas = count(1)  # of the examples
ENDS = ["done", "lost before", "lost after", "lost within", "warned"]


class Ambiguous(AppendSession):
    """A session whose next transaction ends in one of ``ENDS``."""

    end = "done"

    def _send(self, connection: Connection, statements: list[Statement]) -> str:
        end, self.end = self.end, "done"
        if end == "lost before":
            connection.close()
            raise psycopg.OperationalError("the connection was lost before the server had anything")
        if end == "lost within":  # the server has an open transaction, and its client never ends it
            connection.execute(b"BEGIN")
            execute(connection, *statements[0])
            self.kept = connection
            self._connection = None
            raise psycopg.OperationalError("the connection was lost within a transaction")
        standbys = super()._send(connection, statements)
        if end == "lost after":
            connection.close()
            raise psycopg.OperationalError("the connection was lost after the commit")
        if end == "warned":
            self._warnings.append("canceling wait for synchronous replication due to user request")
        return standbys


@dataclass
class Owner:
    """A broker that believes that it owns the store."""

    session: Ambiguous
    epoch: int
    confirmed: list[int] = field(default_factory=list)  # values
    deposed: bool = False


class FenceModel(RuleBasedStateMachine):
    """Brokers that append values and take over from each other."""

    url: str

    @initialize()
    def begin(self) -> None:
        self.place = StoreLocation(self.url, schema=f"fence_{next(schemas)}")
        self.observer = self.place.open("observer")
        schema.prepare(self.observer, self.place)
        execute(self.observer, "CREATE TABLE appended (value int, epoch bigint)")
        self.owners: list[Owner] = []
        self.seen = read_newest(self.observer, 0)
        self.values = count(1)
        self.take(stale=False)

    @rule(stale=st.booleans())
    def take(self, stale: bool) -> None:
        """Another broker takes over, perhaps with a position that it has read some time ago."""
        seen = self.seen if stale else read_newest(self.observer, 0)
        try:
            taken = take_over(self.observer, 0, seen)
        except CollisionError:
            assert seen != read_newest(self.observer, 0)
            return
        self.owners.append(Owner(Ambiguous(self.place, taken), taken.epoch))

    @rule()
    def look(self) -> None:
        self.seen = read_newest(self.observer, 0)

    @rule(which=st.integers(0, 2), end=st.sampled_from(ENDS))
    def append(self, which: int, end: str) -> None:
        """One of the last three owners appends; every failure leaves it able to go on."""
        owner = self.owners[-1 - which % len(self.owners)]
        value = next(self.values)
        owner.session.end = end
        try:
            owner.session.commit([("INSERT INTO appended VALUES (%s, %s)", (value, owner.epoch))])
        except AppendError:
            assert end != "done"
        except DeposedError:
            assert owner is not self.owners[-1]
            owner.deposed = True
        else:
            assert owner is self.owners[-1], "a deposed owner has confirmed"
            assert not owner.deposed
            owner.confirmed.append(value)

    @invariant()
    def every_confirmed_value_is_there(self) -> None:
        if not getattr(self, "owners", None):
            return
        there = execute(self.observer, "SELECT value, epoch FROM appended")
        assert len(there) == len(set(there)), "a value was appended twice"
        for owner in self.owners:
            assert {(value, owner.epoch) for value in owner.confirmed} <= set(there)

    def teardown(self) -> None:
        if not hasattr(self, "owners"):
            return
        positions = []
        for generation in sorted(fence.generations(self.observer, 0)):
            rows = execute(self.observer, f"SELECT position, epoch FROM {fence.table_of(0, generation)}")
            positions += sorted(rows)
        for owner in self.owners:
            owner.session.close()
        self.observer.close()
        assert [position for position, _ in positions] == list(range(len(positions)))
        epochs = [epoch for _, epoch in positions if epoch != fence.SEALED]
        assert epochs == sorted(epochs)


@pytest.mark.slow
def test_one_owner_has_each_position(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fence, "GENERATION", 4)
    monkeypatch.setattr(fence, "LOCK_WAIT", "20ms")
    FenceModel.url = database
    limits = settings(deadline=None, max_examples=25, stateful_step_count=20)
    run_state_machine_as_test(FenceModel, settings=limits)


@pytest.fixture
def taken(location: StoreLocation) -> Any:
    """The observer of a new store, and its first take-over."""
    observer = location.open("observer")
    schema.prepare(observer, location)
    yield observer, take_over(observer, 0, read_newest(observer, 0))
    observer.close()


def test_commits_that_the_server_has_lost_end_the_owner(
    location: StoreLocation, taken: tuple[Connection, NewestPosition]
) -> None:
    """As after the promotion of a standby that was not synchronous."""
    observer, newest = taken
    session = Ambiguous(location, newest)
    session.commit()
    session.end = "lost after"
    with pytest.raises(AppendError, match=r"the connection to .* was lost"):
        session.commit()
    execute(observer, "DELETE FROM fence_0_1 WHERE position >= %s", (newest.position + 1,))
    for _ in range(2):
        with pytest.raises(DeposedError, match="has lost commits"):
            session.commit()


def test_take_over_ends_the_transaction_of_an_owner_that_hangs(
    location: StoreLocation, taken: tuple[Connection, NewestPosition], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fence, "LOCK_WAIT", "20ms")
    observer, newest = taken
    hanging = Ambiguous(location, newest)
    hanging.end = "lost within"
    with pytest.raises(AppendError):
        hanging.commit()
    next_owner = take_over(observer, 0, newest)
    assert next_owner.epoch == newest.epoch + 1
    with pytest.raises(DeposedError, match="another broker has taken over"):
        hanging.commit()


def test_owner_that_reconnects_does_not_end_a_take_over_in_progress(
    location: StoreLocation, taken: tuple[Connection, NewestPosition]
) -> None:
    observer, newest = taken
    session = Ambiguous(location, newest)
    session.end = "lost before"
    with pytest.raises(AppendError):
        session.commit()

    def reconnect() -> None:
        with pytest.raises(DeposedError):
            session.commit()

    reconnected = threading.Thread(target=reconnect)
    with observer.transaction():
        insert = f"INSERT INTO fence_0_1 VALUES ({newest.position + 1}, {newest.epoch + 1})"
        execute(observer, insert)
        reconnected.start()
        query = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        while execute(observer, f"{query} AND datname = current_database()") != [(1,)]:
            execute(observer, "SELECT pg_stat_clear_snapshot()")
    reconnected.join()
    assert read_newest(observer, 0).epoch == newest.epoch + 1
    session.close()
