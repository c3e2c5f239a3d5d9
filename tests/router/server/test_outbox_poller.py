"""The task that publishes from an outbox: its connection, what wakes it, and what holds it back."""

import sys

import psycopg
import pytest
import structlog
import trio
from msgspec.structs import replace

from leveret.protocol.amqp import methods as m
from leveret.protocol.amqp.command import Delivery
from leveret.router.broker.administration import Administration
from leveret.router.broker.alarms import MEMORY
from leveret.router.server import outbox_poller
from leveret.router.server.outbox_poller import OutboxPoller, run_outboxes
from leveret.router.settings import OutboxSettings, Settings
from leveret.router.transactional_outbox.maintenance import install, retry
from tests.postgresql import PostgresPair
from tests.router.server.process import leveret
from tests.router.server.server import Server

PATIENCE = 30  # seconds on a busy machine
REFUSE_DELETION = """
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no deletion'; END $$;
CREATE TRIGGER refuse BEFORE DELETE ON leveret_outbox EXECUTE FUNCTION refuse()
"""
LONG = 3600000  # ms: only notifications wake the broker


class Application:
    """An application with an outbox, and the broker that publishes from it."""

    def __init__(self, url, server):
        self.url = url
        self.server = server

    async def execute(self, statement, *parameters):
        """Execute a statement in a transaction of its own; return its rows."""

        def run():
            with psycopg.connect(self.url) as connection:
                cursor = connection.execute(statement, parameters)
                return cursor.fetchall() if cursor.description is not None else []

        return await trio.to_thread.run_sync(run)

    async def insert(self, *bodies, key="q"):
        for body in bodies:
            await self.execute(
                "INSERT INTO leveret_outbox (routing_key, body_text) VALUES (%s, %s)", key, body
            )

    async def until(self, query, expected):
        """Return when a query has this result."""
        with trio.fail_after(PATIENCE):
            while await self.execute(query) != expected:  # noqa: ASYNC110 - in another process
                await trio.sleep(0.01)

    async def until_state(self, condition):
        """Return the state of the outbox when the condition holds."""
        states = self.server.broker.outboxes
        with trio.fail_after(PATIENCE):
            while not states or not condition(states[-1]):  # noqa: ASYNC110 - no event says so
                await trio.sleep(0.01)
        return states[-1]

    async def until_empty(self):
        await self.until("SELECT count(*) FROM leveret_outbox WHERE failed_at IS NULL", [(0,)])

    async def consumer(self):
        client = await self.server.connect()[0].login()
        await client.call(m.QueueDeclare("q"), m.QueueDeclareOk)
        await client.call(m.BasicConsume("q", no_ack=True), m.BasicConsumeOk)
        return client


async def bodies(client, count):
    with trio.fail_after(PATIENCE):
        return [bytes((await client.expect(Delivery)).message.body).decode() for _ in range(count)]


def noting(pauses, fail):
    """A method that appends the pause after each failure to a list."""

    def noted(poller, error):
        pauses.append(poller._pause)
        fail(poller, error)

    return noted


def settings_for(*urls, **others):
    return replace(Settings(), outbox=OutboxSettings(databases=urls, **{"poll_interval": LONG, **others}))


@pytest.fixture
def start(nursery):
    """Start a broker with outboxes; without ``installed`` the tables are missing."""

    def start(url, *, installed=True, urls=None, **options):
        if installed:
            with psycopg.connect(url) as connection:
                install(connection)
        server = Server(settings_for(*(urls or (url,)), **options), nursery)
        nursery.start_soon(run_outboxes, server.driver)
        return Application(url, server)

    return start


async def test_rows_are_delivered_and_deleted(start, database):
    application = start(database)
    client = await application.consumer()
    await application.insert("a", "b")
    assert await bodies(client, 2) == ["a", "b"]
    await application.until_empty()
    state = await application.until_state(lambda state: state.published == 2)
    assert (state.phase, state.refused, state.recognized) == ("running", 0, 0)


async def test_rows_that_were_inserted_before_the_start_are_published(start, database):
    with psycopg.connect(database) as connection:
        install(connection)
        connection.execute(
            "INSERT INTO leveret_outbox (routing_key, mandatory, body_text) VALUES ('q', false, 'a')"
        )
    application = start(database)
    await application.until_state(lambda state: state.published == 1)


async def test_a_bad_row_fails_and_is_published_when_it_is_retried(start, database):
    application = start(database)
    client = await application.consumer()
    await application.insert("late", key="missing")
    await application.insert("a")
    assert await bodies(client, 1) == ["a"]
    await application.until("SELECT attempts, left(error, 12) FROM leveret_outbox", [(1, "312 NO_ROUTE")])
    await client.call(m.QueueDeclare("missing"), m.QueueDeclareOk)
    with psycopg.connect(database) as connection:
        retry(connection, None)
    await application.until_empty()
    got = await client.call(m.QueueDeclare("missing", passive=True), m.QueueDeclareOk)
    assert got.message_count == 1


async def test_a_full_queue_is_tried_again_by_itself(start, database):
    application = start(database, poll_interval=20)
    client = await application.server.connect()[0].login()
    arguments = {"x-max-length": 1, "x-overflow": "reject-publish"}
    await client.call(m.QueueDeclare("q", arguments=arguments), m.QueueDeclareOk)
    await application.insert("a", "b")
    await application.until("SELECT attempts, retry_at IS NULL FROM leveret_outbox", [(1, False)])
    await client.call(m.BasicConsume("q", no_ack=True), m.BasicConsumeOk)
    assert await bodies(client, 2) == ["a", "b"]


async def test_a_full_queue_is_tried_again_while_other_rows_are_published(start, database):
    application = start(database, poll_interval=20)
    client = await application.consumer()
    arguments = {"x-max-length": 1, "x-overflow": "reject-publish"}
    await client.call(m.QueueDeclare("full", arguments=arguments), m.QueueDeclareOk)
    await application.insert("a", "b", key="full")
    await application.until("SELECT attempts FROM leveret_outbox", [(1,)])
    await client.call(m.QueuePurge("full"), m.QueuePurgeOk)
    with trio.fail_after(PATIENCE):
        while await application.execute("SELECT FROM leveret_outbox WHERE routing_key = 'full'"):
            await application.insert("other")
            assert await bodies(client, 1) == ["other"]


async def test_an_alarm_holds_rows_back_until_it_is_cleared(start, database):
    application = start(database)
    client = await application.consumer()
    await application.until_state(lambda state: state.phase == "running")
    application.server.broker.alarms.set(MEMORY, raised=True)
    await application.insert("wake")  # the reader may have passed the check already
    await application.until_state(lambda state: state.phase == "blocked")
    await application.insert("a", "b")
    published = application.server.broker.outboxes[0].published
    assert application.server.broker.outboxes[0].error == "publishers are blocked: low on memory"
    rows = await application.execute("SELECT count(*) FROM leveret_outbox")
    assert rows[0][0] == 3 - published
    application.server.broker.alarms.set(MEMORY, raised=False)
    assert await bodies(client, 3) == ["wake", "a", "b"]


async def test_without_notifications_rows_are_found_by_polling(start, database):
    application = start(database, poll_interval=10)
    await application.execute("ALTER TABLE leveret_outbox DISABLE TRIGGER leveret_outbox_notify")
    client = await application.consumer()
    await application.insert("a")
    assert await bodies(client, 1) == ["a"]


async def test_a_lost_connection_is_made_again(start, database):
    application = start(database)
    client = await application.consumer()
    await application.insert("a")
    assert await bodies(client, 1) == ["a"]
    await application.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE application_name LIKE 'leveret outbox %%'"
    )
    await application.insert("b")
    assert await bodies(client, 1) == ["b"]
    assert application.server.broker.outboxes[0].reconnections == 1


async def test_a_missing_table_is_reported_once_and_found_when_it_is_there(start, database, monkeypatch):
    monkeypatch.setattr(outbox_poller, "LAST_RETRY", 0.1)
    with structlog.testing.capture_logs() as logged:
        application = start(database, installed=False)
        state = await application.until_state(lambda state: state.reconnections >= 3)
        assert state.phase == "failing"
        with psycopg.connect(database) as connection:
            install(connection)
        await application.until_state(lambda state: state.phase == "running")
    errors = [each for each in logged if each["event"] == "the outbox cannot be used"]
    assert [each["error"] for each in errors] == [
        "there is no table leveret_outbox; create it with 'leveret outbox install'"
    ]


async def test_rows_that_cannot_be_deleted_are_tried_with_growing_pauses(start, database, monkeypatch):
    monkeypatch.setattr(outbox_poller, "FIRST_RETRY", 0.01)
    monkeypatch.setattr(outbox_poller, "LAST_RETRY", 0.04)
    pauses = []
    monkeypatch.setattr(OutboxPoller, "_fail", noting(pauses, OutboxPoller._fail))
    application = start(database)
    client = await application.consumer()
    await application.until_state(lambda state: state.phase == "running")
    await application.execute(REFUSE_DELETION)
    with structlog.testing.capture_logs() as log:
        await application.insert("1")
        await application.until_state(lambda state: len(pauses) > 4)
        await application.execute("DROP TRIGGER refuse ON leveret_outbox")
        await application.insert("2")
        assert await bodies(client, 2) == ["1", "2"]
        await application.until_empty()
    assert pauses[:4] == [0.01, 0.02, 0.04, 0.04]
    events = [entry["event"] for entry in log if "outbox" in entry]
    assert events == ["the outbox cannot be used", "publishing from the outbox"]


async def test_rows_wait_for_a_missing_user_and_do_not_fail(start, database, monkeypatch):
    monkeypatch.setattr(outbox_poller, "LAST_RETRY", 0.1)
    application = start(database, user="shop")
    client = await application.consumer()
    await application.insert("a")
    state = await application.until_state(lambda state: state.phase == "failing")
    assert state.error == "there is no user 'shop' to publish as: create it, or set outbox.user"
    administration = Administration(application.server.broker)
    administration.put_user("shop", password=None, tags=())
    administration.set_permission("shop", "/", configure="", write="^amq.default$", read="")
    assert await bodies(client, 1) == ["a"]


async def test_the_user_needs_permission_to_publish(start, database):
    application = start(database, user="shop")
    administration = Administration(application.server.broker)
    administration.put_user("shop", password=None, tags=())
    await application.insert("a")
    await application.until(
        "SELECT error FROM leveret_outbox",
        [("530 NOT_ALLOWED - access to vhost '/' refused for user 'shop'",)],
    )
    administration.set_permission("shop", "/", configure=".*", write="other", read=".*")
    await application.execute("UPDATE leveret_outbox SET failed_at = NULL, error = NULL")
    await application.insert("wake")
    await application.until("SELECT DISTINCT left(error, 18) FROM leveret_outbox", [("403 ACCESS_REFUSED",)])


async def test_an_exception_of_the_broker_is_logged_and_publishing_goes_on(start, database, monkeypatch):
    application = start(database)
    client = await application.consumer()
    await application.until_state(lambda state: state.phase == "running")
    with monkeypatch.context() as patch:
        patch.setattr(outbox_poller.OutboxPublisher, "publish", lambda *_: 1 / 0)
        await application.insert("a")
        state = await application.until_state(lambda state: state.phase == "failing")
        assert state.error == "ZeroDivisionError: division by zero"
    assert await bodies(client, 1) == ["a"]


async def test_two_databases_are_published_from(start, postgresql: PostgresPair):
    with postgresql.new_database() as first, postgresql.new_database() as second:
        with psycopg.connect(second) as connection:
            install(connection)
        application = start(first, urls=(first, second))
        client = await application.consumer()
        await application.insert("a")
        await Application(second, application.server).insert("b")
        assert sorted(await bodies(client, 2)) == ["a", "b"]
        assert len({state.database for state in application.server.broker.outboxes}) == 2


async def test_two_brokers_publish_each_row_once(start, database, monkeypatch):
    monkeypatch.setattr(outbox_poller, "HELD_RETRY", 0.05)
    first, second = start(database), start(database)
    clients = [await each.consumer() for each in (first, second)]
    await first.insert(*map(str, range(20)))
    await first.until_empty()
    states = [each.server.broker.outboxes[0] for each in (first, second)]
    assert sorted(state.published for state in states) == [0, 20]
    publisher = states.index(max(states, key=lambda state: state.published))
    assert await bodies(clients[publisher], 20) == list(map(str, range(20)))
    await (first, second)[1 - publisher].until_state(lambda state: state.phase == "waiting")


async def test_the_rows_are_counted(start, database, monkeypatch):
    monkeypatch.setattr(outbox_poller, "COUNT_INTERVAL", 0)
    application = start(database, poll_interval=10)
    await application.insert("a", key="missing")
    state = await application.until_state(lambda state: state.rows_failed == 1)
    assert (state.rows_waiting, state.oldest) == (0, None)


async def test_after_a_fail_over_the_standby_is_published_from(start, postgresql_pair, monkeypatch):
    """The URL names both servers. Rows that were published before are not published again."""
    monkeypatch.setattr(outbox_poller, "LAST_RETRY", 0.1)
    primary, standby = postgresql_pair.primary, postgresql_pair.standby
    url = (
        f"postgresql://leveret@127.0.0.1:{primary.port},127.0.0.1:{standby.port}/postgres"
        "?target_session_attrs=read-write"
    )
    application = start(url)
    client = await application.consumer()
    await application.insert("a", "b")
    assert await bodies(client, 2) == ["a", "b"]
    await trio.to_thread.run_sync(primary.kill)
    await trio.to_thread.run_sync(standby.promote)
    with trio.fail_after(PATIENCE):
        while True:
            try:
                await application.insert("c")
                break
            except psycopg.OperationalError:  # the standby is not promoted yet
                await trio.sleep(0.05)
    assert await bodies(client, 1) == ["c"]
    await application.until_empty()


async def test_a_broker_stops_in_time_while_the_server_hangs(tmp_path, postgresql_pair):
    url = postgresql_pair.primary.dsn()
    with psycopg.connect(url) as connection:
        install(connection)
        connection.execute("INSERT INTO leveret_outbox (routing_key) VALUES ('q')")
    options = ("--set", f"outbox.databases={url}", "--set", "outbox.poll_interval=10")
    async with leveret(tmp_path, *options) as broker:
        client = await (await broker.connect()).login()
        await client.call(m.QueueDeclare("q"), m.QueueDeclareOk)
        await client.close()
        postgresql_pair.primary.pause()
        try:
            with trio.fail_after(10):
                assert await broker.stop() == 0
        finally:
            postgresql_pair.primary.resume()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
async def test_a_broker_without_an_outbox_does_not_load_psycopg(tmp_path, database):
    with psycopg.connect(database) as connection:
        install(connection)
    url = "outbox.databases=" + database
    for options, loaded in (((), False), (("--set", url), True)):
        async with leveret(tmp_path, *options) as broker:
            client = await (await broker.connect()).login()
            await client.call(m.QueueDeclare("q"), m.QueueDeclareOk)
            if loaded:
                with psycopg.connect(database) as connection:
                    connection.execute("INSERT INTO leveret_outbox (routing_key) VALUES ('q')")
                await client.call(m.BasicConsume("q", no_ack=True), m.BasicConsumeOk)
                await bodies(client, 1)
            maps = await trio.Path(f"/proc/{broker.process.pid}/maps").read_text()
            assert ("psycopg" in maps) is loaded
            assert await broker.stop() == 0
