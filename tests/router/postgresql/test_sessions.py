"""The two sessions of a broker: one reads, again if its connection was lost; one appends, in turns."""

import threading
from collections.abc import Callable, Iterator

import pytest

from leveret.router.postgresql.append_session import FairLock
from leveret.router.postgresql.backend import PostgresBackend
from leveret.router.postgresql.location import Connection, StoreLocation, execute
from leveret.router.postgresql.read_session import ReadSession

END = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE starts_with(application_name, %s)"


@pytest.fixture
def observer(location: StoreLocation) -> Iterator[Connection]:
    connection = location.connect("observer")
    yield connection
    connection.close()


def test_read_is_repeated_after_its_session_was_ended(location: StoreLocation, observer: Connection) -> None:
    session = ReadSession(location)
    assert session.rows("SELECT 1") == [(1,)]
    assert execute(observer, END + " AND datname = current_database()", ("leveret read",)) == [(True,)]
    assert session.rows("SELECT 2") == [(2,)]
    session.close()


def test_refused_read_is_an_error_with_the_reason(location: StoreLocation) -> None:
    session = ReadSession(location)
    for _ in range(2):
        with pytest.raises(OSError, match=r'cannot read from .*: relation "nowhere" does not exist'):
            session.rows("SELECT * FROM nowhere")
    session.close()


def test_sessions_are_named_after_what_they_do(
    opened: Callable[[], PostgresBackend], observer: Connection
) -> None:
    backend = opened()
    query = "SELECT application_name FROM pg_stat_activity WHERE datname = current_database() ORDER BY 1"
    names = [name for (name,) in execute(observer, query)]
    assert names == [f"leveret append 0 {backend.append.epoch} leveret", "leveret read 0", "observer"]


def test_threads_get_the_lock_in_the_order_of_their_arrival() -> None:
    """Otherwise a thread that releases a lock and takes it again keeps the others waiting."""
    lock, order = FairLock(), list[str]()

    def wait(name: str) -> None:
        with lock:
            order.append(name)

    with lock:
        threads = []
        for name in "abcd":
            threads.append(threading.Thread(target=wait, args=(name,)))
            threads[-1].start()
            while len(lock._waiting) < len(threads):
                pass
    with lock:
        order.append("last")
    for thread in threads:
        thread.join()
    assert order == ["a", "b", "c", "d", "last"]
    assert lock.acquire(wait=False)
    assert not lock.acquire(wait=False)
