"""A broker whose store is a PostgreSQL: what it finds after a stop, and after its end at any moment."""

from collections.abc import Callable
from contextlib import closing

import psycopg
import pytest

from leveret.router.postgresql import fence, files
from leveret.router.postgresql.backend import PostgresBackend
from tests.router.store.kept import Kept

Opened = Callable[[], PostgresBackend]


def bodies(kept: Kept, queue: str = "q") -> list[str]:
    """Return the bodies of all messages of a queue, which are settled."""
    found = []
    while (taken := kept.get(queue)) is not None:
        found.append(taken[1].message.body.decode())
    return found


@pytest.mark.parametrize("clean", [True, False])
def test_confirmed_messages_are_there_after_a_stop_and_after_a_crash(opened: Opened, clean: bool) -> None:
    kept = Kept(opened())
    kept.node.queue("q", durable=True)
    kept.settle()
    kept.publish("one", "two", "three")
    kept.take(1)
    (kept.stop if clean else kept.crash)()
    again = Kept(opened())
    assert (again.directory.stopped is not None) == clean
    assert bodies(again) == ["two", "three"]


def test_queue_is_paged_out_and_read_back(opened: Opened, small: None) -> None:
    kept = Kept(opened(), budget=0)
    kept.node.queue("q", durable=True)
    numbers = [str(number) for number in range(300)]
    kept.publish(*numbers)
    kept.crash()
    again = Kept(opened(), budget=0)
    assert bodies(again) == numbers


@pytest.mark.usefixtures("small")
def test_tables_of_settled_messages_and_old_positions_are_dropped(
    opened: Opened, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fence, "GENERATION", 50)
    monkeypatch.setattr(files, "DROP_RETRY", 0)
    kept = Kept(opened(), budget=0)
    kept.node.queue("q", durable=True)
    most = 0
    for _ in range(40):
        kept.publish(*map(str, range(20)))
        assert len([kept.get() for _ in range(20)]) == 20
        kept.settle()
        most = max(most, len(tables_of(database)))
    assert most < 20
    assert len([name for name in tables_of(database) if name.startswith("fence")]) <= 2
    with closing(psycopg.connect(database)) as connection:
        query = b"SELECT sum(n_tup_upd + n_tup_del) FROM pg_stat_user_tables WHERE relname ~ '_0_'"
        assert connection.execute(query).fetchone() == (0,), "rows of messages are never changed or deleted"


def tables_of(database: str) -> list[str]:
    """Return the tables with files and positions."""
    query = b"SELECT tablename FROM pg_tables WHERE schemaname = 'leveret' AND tablename ~ '_0_'"
    with closing(psycopg.connect(database)) as connection:
        return [name for (name,) in connection.execute(query)]


def test_commits_that_are_synced_later_are_in_memory_until_then(opened: Opened) -> None:
    """As ``store.sync = "interval"``: unlike those to a disk, they do not outlive the process."""
    kept = Kept(opened(), sync=False, journal_size=1 << 20)
    kept.node.queue("q", durable=True)
    kept.publish("one")
    kept.store.sync()
    kept.settle()
    kept.publish("two")
    kept.crash()
    again = Kept(opened())
    assert bodies(again) == ["one"]
