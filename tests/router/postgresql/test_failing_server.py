"""A server that fails while the broker runs: an alarm, nothing confirmed, and all of it done afterwards."""

import threading
from collections.abc import Callable
from contextlib import closing

import psycopg
import pytest

from leveret.router.broker.alarms import STORE
from leveret.router.postgresql import files as files_module
from leveret.router.postgresql.append_session import AppendError
from leveret.router.postgresql.backend import PostgresBackend, open_backend
from leveret.router.postgresql.location import StoreLocation, execute
from leveret.router.store.backend import DeposedError
from tests.postgresql import PostgresPair, limit_files
from tests.router.postgresql.test_backend import bodies
from tests.router.store.kept import RETRY, Kept


class Failing:
    """A broker that publishes to a queue with confirms, and the time of its clock."""

    def __init__(self, location: StoreLocation, journal_size: int = 4096) -> None:
        self.location = location
        self.kept = Kept(open_backend(location), journal_size=journal_size)
        self.kept.node.queue("q", durable=True)
        self.kept.settle()
        self.kept.client.session.select_confirms()
        self.clock = 0

    def publish(self, body: str) -> None:
        self.kept.client.publish(body, "q", delivery_mode=2)
        self.kept.node.settle()

    def work(self) -> None:
        """Do all jobs, also those that have failed; a failing one once."""
        self.clock += RETRY
        self.kept.node.at(self.clock)
        while self.kept.step():
            self.kept.node.settle()

    def confirmed(self) -> int:
        """Return the number of the last confirmed message since the last call; 0 for none."""
        return max((verdict.number for verdict in self.kept.client.session.verdicts()), default=0)

    def is_failing(self) -> bool:
        assert (STORE in self.kept.node.broker.alarms.raised) == (self.kept.store.failure is not None)
        return self.kept.store.failure is not None

    def found_by_another(self) -> list[str]:
        """Crash; return the bodies that the next broker finds."""
        self.kept.crash()
        again = Kept(open_backend(self.location))
        try:
            return bodies(again)
        finally:
            again.crash()


def test_killed_server_blocks_publishers_until_it_is_back(postgresql_pair: PostgresPair) -> None:
    broker = Failing(StoreLocation(postgresql_pair.primary.dsn()))
    broker.publish("one")
    broker.work()
    assert (broker.confirmed(), broker.is_failing()) == (1, False)
    postgresql_pair.primary.kill()
    broker.publish("two")
    for _ in range(2):
        broker.work()
        assert (broker.confirmed(), broker.is_failing()) == (0, True)
    assert "cannot append to postgresql://127.0.0.1" in str(broker.kept.store.failure)
    postgresql_pair.primary.start()
    broker.work()
    assert (broker.confirmed(), broker.is_failing()) == (2, False)
    assert broker.found_by_another() == ["one", "two"]


def test_server_without_its_standbys_confirms_nothing(postgresql_pair: PostgresPair) -> None:
    broker = Failing(StoreLocation(postgresql_pair.primary.dsn()))
    postgresql_pair.primary.configure(synchronous_standby_names="")
    broker.publish("one")
    broker.work()
    assert (broker.confirmed(), broker.is_failing()) == (0, True)
    assert "synchronous_standby_names is empty" in str(broker.kept.store.failure)
    postgresql_pair.primary.configure(synchronous_standby_names="standby")
    postgresql_pair.wait_for_standby()
    broker.work()
    assert (broker.confirmed(), broker.is_failing()) == (1, False)
    assert broker.found_by_another() == ["one"]


def test_commit_that_is_cancelled_while_it_waits_for_a_standby_is_not_confirmed(
    postgresql_pair: PostgresPair,
) -> None:
    """The server reports it as done: it is visible, and a failure of the primary would lose it."""
    primary, standby = postgresql_pair.primary, postgresql_pair.standby
    backend = open_backend(StoreLocation(primary.dsn()))
    standby.pause()
    failed: list[Exception] = []

    def commit() -> None:
        try:
            backend.append.commit()
        except AppendError as error:
            failed.append(error)

    waiting = threading.Thread(target=commit)
    waiting.start()
    query = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
    while not primary.execute(query):
        pass
    waiting.join()
    assert "has committed without its standbys: canceling wait" in str(failed[0])
    standby.resume()
    position = backend.append.position
    backend.append.commit()
    assert backend.append.position == position + 1
    backend.close(clean=True)


@pytest.mark.usefixtures("small")
def test_open_dump_stalls_no_commit_and_no_removal(
    location: StoreLocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pg_dump locks every table that exists, for as long as it runs. Its tables are dropped after it."""
    monkeypatch.setattr(files_module, "DROP_RETRY", 0)
    broker = Failing(location)
    names = "SELECT tablename FROM pg_tables WHERE schemaname = 'leveret' AND tablename LIKE 'journal%'"
    with closing(psycopg.connect(location.url)) as dump:
        broker.kept.publish(*map(str, range(60)))
        tables = {name for (name,) in dump.execute(names.encode())}
        for table in tables:
            dump.execute(f"LOCK TABLE leveret.{table} IN ACCESS SHARE MODE".encode())
        broker.kept.publish(*map(str, range(60, 200)))
        assert not broker.is_failing()
        dump.execute(b"SELECT 1")
        there = {name for (name,) in dump.execute(names.encode())}
        assert tables <= there
        dump.rollback()
        broker.kept.directory.renew()
        left = {name for (name,) in dump.execute(names.encode())}
        assert not tables & left
    assert broker.found_by_another() == [str(number) for number in range(200)]


def test_broker_that_was_deposed_confirms_nothing_more(
    location: StoreLocation, opened: Callable[[], PostgresBackend], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("leveret.router.postgresql.backend._wait_until_unused", lambda *_: None)
    first = opened()
    kept = Kept(first)
    kept.node.queue("q", durable=True)
    kept.settle()
    second = opened()
    assert second.append.epoch == first.append.epoch + 1
    kept.client.session.select_confirms()
    kept.client.publish("late", "q", delivery_mode=2)
    kept.node.settle()
    while kept.step():
        pass
    assert kept.client.session.verdicts() == []
    with pytest.raises(DeposedError, match="another broker has taken over"):
        first.append.commit()
    assert bodies(Kept(second)) == []


def test_full_disk_of_the_server_blocks_publishers_until_there_is_room(location: StoreLocation) -> None:
    """The process of the server may write files of 17 MB only, until the limit is lifted."""
    broker = Failing(location, journal_size=1 << 30)
    session = broker.kept.directory.append
    ((pid,),) = execute(session._connected(), "SELECT pg_backend_pid()")
    limit_files(pid, 17 << 20)
    last = 0
    for number in range(1, 30):
        broker.publish(f"{number} " + "x" * (1 << 20))
        broker.work()
        last = broker.confirmed() or last
        if broker.is_failing():
            break
    assert broker.is_failing()
    assert "has refused a commit: could not extend file" in str(broker.kept.store.failure)
    limit_files(pid, None)
    broker.work()
    assert (broker.confirmed(), broker.is_failing()) == (number, False)
    assert last == number - 1
    assert [body.split()[0] for body in broker.found_by_another()] == [str(n) for n in range(1, number + 1)]
