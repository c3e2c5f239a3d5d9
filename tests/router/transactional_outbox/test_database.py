"""Rows in PostgreSQL: the order in which they are read, how they end, and the one reader of an outbox."""

import secrets
import threading
import time
from itertools import count

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.conninfo import make_conninfo

from leveret.router.transactional_outbox import database as module
from leveret.router.transactional_outbox import maintenance
from leveret.router.transactional_outbox.connection import OutboxError, connect, describe, find_outbox
from leveret.router.transactional_outbox.database import OutboxDatabase
from leveret.router.transactional_outbox.maintenance import install, report, retry, uninstall
from leveret.router.transactional_outbox.rows import BatchResult, FailedRow
from leveret.router.transactional_outbox.schema import DROP, SCRIPTS

LIMITS = {"rows": 100, "size": 1 << 20, "largest": 1 << 16}
STORE = bytes(16)


@pytest.fixture
def application(database):
    """The connection of an application to a database with an outbox; it commits each statement."""
    with psycopg.connect(database, autocommit=True) as connection:
        install(connection)
        yield connection


@pytest.fixture
def opened(database, application):
    """The broker's connection."""
    found = OutboxDatabase(database, store=STORE, process=secrets.token_bytes(8))
    found.open()
    assert found.hold() == ""
    yield found
    found.close()


def insert(connection, *bodies, **columns):
    names = ["body_text", *columns]
    for body in bodies:
        connection.execute(
            f"INSERT INTO leveret_outbox ({', '.join(names)}) VALUES ({', '.join(['%s'] * len(names))})",
            [body, *columns.values()],
        )


def read(opened, **limits):
    return [None if row.body is None else row.body.decode() for row in opened.read(**LIMITS | limits)]


def take(opened, **limits):
    """Read rows and delete them, as if they were published."""
    rows = opened.read(**LIMITS | limits)
    opened.settle(BatchResult(rows, []))
    return [row.body.decode() for row in rows]


def wait_until(condition):
    """Wait for what the server does after a connection has ended."""
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


# -- order ---------------------------------------------------------------------------------------------------


def test_a_transaction_that_commits_late_loses_no_row(database, application, opened):
    with psycopg.connect(database) as late:
        insert(late, "late")
        insert(application, "early")
        assert take(opened) == ["early"]
        late.commit()
    assert take(opened) == ["late"]


def test_a_transaction_that_is_rolled_back_leaves_no_row(database, application, opened):
    with psycopg.connect(database) as other:
        insert(other, "gone")
        other.rollback()
    insert(application, "kept")
    assert take(opened) == ["kept"]


STEPS = st.lists(
    st.tuples(st.sampled_from(["insert", "commit", "rollback", "take"]), st.integers(0, 3)), max_size=40
)


@pytest.fixture(params=[False, True], ids=["from the first id on", "from the bound on"])
def bounded(request, monkeypatch):
    """With the bound, only the first read begins at the first id."""
    if request.param:
        monkeypatch.setattr(module, "SLOW_READ", -1)
        monkeypatch.setattr(module, "FULL_READ_INTERVAL", 1e9)


@pytest.mark.usefixtures("bounded", "application")
@given(STEPS, st.integers(1, 4))
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_row_is_lost_or_read_before_one_that_was_committed_before_its_insertion(
    database, opened, steps, rows
):
    """Four transactions that overlap in any way; rows are read at any time, few at a time."""
    numbers = count()
    writers = [psycopg.connect(database) for _ in range(4)]
    open_rows = [[] for _ in writers]
    committed, taken = [], []
    before = {}  # for each row, those that were committed when it was inserted
    try:
        for step, index in [*steps, *(("commit", index) for index in range(4))]:
            writer = writers[index]
            if step == "insert":
                name = str(next(numbers))
                insert(writer, name)
                before[name] = list(committed)
                open_rows[index].append(name)
            elif step == "take":
                taken += take(opened, rows=rows)
            else:
                if step == "commit":
                    writer.commit()
                    committed += open_rows[index]
                else:
                    writer.rollback()
                open_rows[index] = []
        while more := take(opened, rows=rows):
            taken += more
    finally:
        for writer in writers:
            writer.close()
    assert sorted(taken) == sorted(committed)
    places = {name: place for place, name in enumerate(taken)}
    for name in taken:
        assert all(places[earlier] < places[name] for earlier in before[name])


@pytest.mark.usefixtures("bounded", "application")
def test_rows_of_concurrent_writers_are_read_in_the_order_of_each(database, opened):
    """Threads insert while rows are read; each thread commits some rows at a time."""

    def write(writer):
        with psycopg.connect(database) as connection:
            for start in range(0, 100, 5):
                insert(connection, *(f"{writer}:{number}" for number in range(start, start + 5)))
                connection.commit()

    threads = [threading.Thread(target=write, args=[writer]) for writer in range(4)]
    for thread in threads:
        thread.start()
    taken = []
    while any(thread.is_alive() for thread in threads):
        taken += take(opened, rows=7)
    while more := take(opened):
        taken += more
    for writer in range(4):
        assert [name for name in taken if name.startswith(f"{writer}:")] == [
            f"{writer}:{n}" for n in range(100)
        ]


def test_rows_below_the_bound_are_found_by_the_next_full_read(application, opened, monkeypatch):
    monkeypatch.setattr(module, "SLOW_READ", -1)
    insert(application, "retried")
    fail(opened)
    for name in "abcd":
        insert(application, name)
        assert take(opened) == [name]
    assert opened._bound.id > 1
    retry(application, None)
    insert(application, "next")
    assert take(opened) == ["next"]
    assert 0 < opened.full_read_in <= 1
    monkeypatch.setattr(opened, "_full_at", 0)
    assert take(opened) == ["retried"]


def test_an_open_transaction_does_not_make_reads_slower_and_slower(
    database, application, opened, monkeypatch
):
    """Rows that were deleted since it began stay in the table: reads begin behind them."""
    monkeypatch.setattr(module, "SLOW_READ", -1)
    monkeypatch.setattr(module, "FULL_READ_INTERVAL", 1e9)
    with psycopg.connect(database) as old:
        old.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        old.execute("SELECT FROM leveret_outbox")
        for number in range(50):
            insert(application, str(number))
            assert take(opened) == [str(number)]
        assert opened._bound.id >= 45


# -- what is read --------------------------------------------------------------------------------------------


def test_a_row_has_the_values_of_its_columns(application, opened):
    application.execute(
        "INSERT INTO leveret_outbox (virtual_host, exchange, routing_key, mandatory, properties, body) "
        "VALUES ('v', 'e', 'k', false, '{\"type\": \"ü\"}', '\\x00ff')"
    )
    (row,) = opened.read(**LIMITS)
    assert row[2:] == ("v", "e", "k", False, '{"type": "ü"}', b"\x00\xff", 2)
    assert row.message_id.version == 4


def test_a_row_without_a_body_has_an_empty_one(application, opened):
    application.execute("INSERT INTO leveret_outbox DEFAULT VALUES")
    assert read(opened) == [""]


def test_a_row_has_one_body(application):
    with pytest.raises(psycopg.errors.CheckViolation):
        application.execute("INSERT INTO leveret_outbox (body, body_text) VALUES ('x', 'x')")


def test_a_body_that_is_too_large_is_not_read(application, opened):
    insert(application, "x" * 11, "y" * 10)
    assert read(opened, largest=10) == [None, "y" * 10]
    assert opened.read(**LIMITS | {"largest": 10})[0].size == 11


def test_properties_that_are_too_long_are_not_read(application, opened):
    insert(application, "a", properties='{"headers": {"x": "' + "x" * 70000 + '"}}')
    assert [row.properties for row in opened.read(**LIMITS)] == [None]


def test_a_batch_is_bounded_in_rows_and_bytes(application, opened):
    insert(application, *("x" * 100 for _ in range(10)))
    assert len(read(opened, rows=3)) == 3
    assert len(read(opened, size=250)) == 3
    assert len(read(opened, size=1)) == 1


def test_an_inserted_row_is_notified(application, opened):
    read(opened)
    assert not opened.notified
    insert(application, "x")
    opened.count()  # any statement receives notifications
    assert opened.notified
    read(opened)
    assert not opened.notified


# -- ends of rows --------------------------------------------------------------------------------------------


def fail(opened, *, temporary=False, error="bad"):
    rows = opened.read(**LIMITS)
    opened.settle(BatchResult([], [FailedRow(row, error, temporary) for row in rows]))


def test_a_failed_row_is_not_read_again_until_it_is_retried(application, opened):
    insert(application, "x")
    fail(opened, error="no such\0 exchange" + "x" * 2000)
    insert(application, "y")
    assert read(opened) == ["y"]
    (failure,) = report(application).failures
    assert failure.error.startswith("no such exchange")
    assert (failure.attempts, failure.retry_at) == (1, None)
    assert opened.count()[:2] == (1, 1)
    opened.retry_due()
    assert read(opened) == ["y"]
    assert retry(application, [failure.id]) == 1
    assert read(opened) == ["x", "y"]
    assert application.execute(
        "SELECT attempts, error LIKE 'no such%' FROM leveret_outbox ORDER BY id"
    ).fetchone() == (
        1,
        True,
    )


def test_a_temporary_failure_is_retried_later_each_time(application, opened):
    insert(application, "x")
    waits = []
    for _ in range(8):
        fail(opened, temporary=True)
        opened.retry_due()
        assert read(opened) == []
        (wait,) = application.execute(
            "SELECT extract(epoch FROM retry_at - failed_at) FROM leveret_outbox"
        ).fetchone()
        waits.append(round(wait))
        application.execute("UPDATE leveret_outbox SET retry_at = now() - interval '1 ms'")
        opened.retry_due()
        assert read(opened) == ["x"]
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60]


def test_all_failed_rows_are_retried(application, opened):
    insert(application, "x", "y")
    fail(opened)
    assert retry(application, None) == 2
    assert read(opened) == ["x", "y"]


def test_a_row_whose_id_was_given_again_is_not_deleted(application, opened):
    """After a fail-over to a standby that lagged behind, a sequence may give an id twice."""
    insert(application, "x")
    rows = opened.read(**LIMITS)
    application.execute("UPDATE leveret_outbox SET message_id = gen_random_uuid(), body_text = 'y'")
    opened.settle(BatchResult(rows, []))
    opened.settle(BatchResult([], [FailedRow(rows[0], "bad")]))
    assert read(opened) == ["y"]


# -- one reader ----------------------------------------------------------------------------------------------


def other(database, store, process=None):
    found = OutboxDatabase(database, store=store, process=process or secrets.token_bytes(8))
    found.open()
    return found


def test_a_report_names_the_address_of_the_publisher(application, opened):
    assert report(application).publisher == "127.0.0.1"
    opened.close()
    wait_until(lambda: report(application).publisher is None)


def test_another_broker_waits_until_the_first_is_gone(database, opened):
    second = other(database, b"x" * 16)
    assert second.hold().startswith("another broker publishes from this outbox")
    opened.close()
    wait_until(lambda: second.hold() == "")
    second.close()


def test_a_new_process_on_the_same_data_ends_the_connection_of_the_old_one(database, opened):
    """The old one may hang, and its connection would stay."""
    second = other(database, STORE)
    assert second.hold() == "an earlier process of this broker is still connected; its connection is ended"
    wait_until(lambda: second.hold() == "")
    with pytest.raises(OutboxError):
        opened.read(**LIMITS)
    second.close()


def test_a_database_that_is_configured_twice_does_not_end_its_own_connection(database):
    with psycopg.connect(database, autocommit=True) as connection:
        install(connection)
    process = secrets.token_bytes(8)
    first, second = other(database, STORE, process), other(database, STORE, process)
    assert first.hold() == ""
    assert second.hold() == "this database is in outbox.databases twice"
    assert first.read(**LIMITS) == []
    first.close()
    second.close()


# -- installing ----------------------------------------------------------------------------------------------


def test_an_installation_is_repeatable_and_keeps_the_id(database):
    with psycopg.connect(database, autocommit=True) as connection:
        assert install(connection) is None
        first = other(database, STORE)
        outbox = first.open()
        assert install(connection) == len(SCRIPTS)
        assert first.open() == outbox
        first.close()


def test_an_upgrade_runs_the_new_scripts_and_keeps_rows_and_id(database, application, opened, monkeypatch):
    insert(application, "x")
    before = find_outbox(application)
    monkeypatch.setattr(
        maintenance, "SCRIPTS", (*SCRIPTS, "ALTER TABLE leveret_outbox ADD COLUMN tenant text")
    )
    monkeypatch.setattr(maintenance, "VERSION", 2)
    assert install(application) == 1
    assert find_outbox(application) == before._replace(version=2)
    assert application.execute("SELECT body_text, tenant FROM leveret_outbox").fetchall() == [("x", None)]
    assert read(opened) == ["x"]  # a broker of the older version that is running goes on
    assert install(application) == 2


def test_concurrent_installations_create_one_outbox(database):
    errors = []

    def run():
        try:
            connection = connect(database, "test")
            install(connection)
            connection.close()
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def test_printed_sql_creates_what_an_installation_does(database):
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("\n".join(SCRIPTS))
        assert install(connection) == len(SCRIPTS)
        connection.execute(DROP)
        assert install(connection) is None


def test_an_outbox_with_rows_is_not_removed(application):
    insert(application, "x")
    with pytest.raises(OutboxError, match="has rows that were not published"):
        uninstall(application)
    application.execute("DELETE FROM leveret_outbox")
    uninstall(application)
    with pytest.raises(OutboxError, match="there is no table leveret_outbox"):
        uninstall(application)


@pytest.mark.parametrize(
    ("statement", "error"),
    [
        ("DROP TABLE leveret_outbox", "there is no table leveret_outbox; create it with"),
        ("COMMENT ON TABLE leveret_outbox IS 'mine'", "was not created by 'leveret outbox install'"),
        (f"COMMENT ON TABLE leveret_outbox IS 'leveret outbox, version 0, id {'0' * 36}'", "upgrade it with"),
        (
            f"COMMENT ON TABLE leveret_outbox IS 'leveret outbox, version 9, id {'0' * 36}'",
            "use a newer leveret",
        ),
    ],
)
def test_a_broker_refuses_a_table_that_it_does_not_know(database, application, statement, error):
    application.execute(statement.replace("0" * 36, "00000000-0000-0000-0000-000000000000"))
    with pytest.raises(OutboxError, match=error):
        OutboxDatabase(database, store=STORE, process=STORE).open()


def test_a_database_without_an_encoding_is_refused(postgresql):
    """Its texts may hold any bytes, which psycopg cannot decode."""
    name = f"ascii_{secrets.token_hex(4)}"
    postgresql.primary.execute(f"CREATE DATABASE {name} ENCODING SQL_ASCII TEMPLATE template0")
    try:
        connection = postgresql.primary.connect(name)
        install(connection)
        connection.close()
        with pytest.raises(OutboxError, match="the database has the encoding SQL_ASCII"):
            OutboxDatabase(postgresql.primary.dsn(name), store=STORE, process=STORE).open()
    finally:
        postgresql.primary.execute(f"DROP DATABASE {name} WITH (FORCE)")


def test_an_application_needs_the_right_to_insert_alone(database, application):
    role = f"app_{secrets.token_hex(4)}"
    application.execute(f"CREATE ROLE {role}")
    try:
        application.execute(f"GRANT INSERT ON leveret_outbox TO {role}")
        application.execute(f"SET ROLE {role}")
        insert(application, "x")
        application.execute("RESET ROLE")
        assert report(application).waiting == 1
    finally:
        application.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")


@pytest.mark.parametrize(
    ("rights", "missing"),
    [
        ("INSERT", "SELECT, UPDATE, DELETE"),
        ("SELECT, UPDATE", "DELETE"),
        ("SELECT, DELETE", "UPDATE"),
        ("SELECT, DELETE, UPDATE (error, attempts, failed_at, retry_at)", ""),
    ],
)
def test_a_broker_names_the_rights_that_it_lacks(database, application, rights, missing):
    role = f"broker_{secrets.token_hex(4)}"
    application.execute(f"CREATE ROLE {role} LOGIN; GRANT {rights} ON leveret_outbox TO {role}")
    opened = OutboxDatabase(
        make_conninfo(database, options=f"-c role={role}"), store=STORE, process=secrets.token_bytes(8)
    )
    try:
        if missing:
            with pytest.raises(OutboxError, match=f"GRANT {missing} ON leveret_outbox TO {role}"):
                opened.open()
        else:
            opened.open()
            insert(application, "published", "failed")
            published, failed = opened.read(**LIMITS)
            opened.settle(BatchResult([published], [FailedRow(failed, "bad")]))
            opened.retry_due()
            assert report(application).failed == 1
    finally:
        opened.close()
        application.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("postgresql://u:secret@host:1/shop", "postgresql://host:1/shop"),
        ("postgresql://u:secret@a:1,b:2/shop", "postgresql://a:1,b:2/shop"),
        ("postgresql:///shop", "postgresql:///shop"),
    ],
)
def test_the_name_of_a_database_has_no_password(url, name):
    assert describe(url) == name
