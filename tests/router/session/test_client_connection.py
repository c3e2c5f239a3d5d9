"""The life of a connection that all protocols share, in a protocol of one line a command."""

import pytest

from leveret.protocol.heartbeats import Heartbeats
from leveret.router.session.client_connection import ClientConnection
from leveret.router.session.connection_hooks import Phase
from leveret.router.session.session import Session
from leveret.router.turns.backlog import LongWork
from tests.router.amqp.world import FakeLog, FakeOutbox, World
from tests.router.harness import message


class LineConnection(ClientConnection):
    """Commands are lines: ``login NAME PASSWORD``, ``publish QUEUE``, ``bye``, ``wait``."""

    protocol = "lines"
    channel_max = 1
    frame_max = 0
    heartbeat_bytes = b"\n"

    def __init__(self, world, **options):
        super().__init__(world.broker, FakeOutbox(world), FakeLog(), loopback=True, **options)
        self._phase = Phase.NEW
        self._unread = b""
        self._session = None

    @property
    def phase(self):
        return self._phase

    def sessions(self):
        return {} if self._session is None else {1: self._session}

    def close_sessions(self):
        if self._session is not None:
            self._session.close()
        return iter(())

    def receive(self, data):
        self._unread += data
        self.last_received = self.broker.now
        published = False
        while b"\n" in self._unread and not (self.paused or self.finished):
            line, _, self._unread = self._unread.partition(b"\n")
            self._handle(*line.decode().split())
            published = published or line.startswith(b"publish")
        if self.broker.alarms.raised:
            self.block_publisher(published=published)
        self.count_incomplete(len(self._unread))
        return 1

    def _handle(self, command="", *words):
        if command == "login":
            self._phase = Phase.LOGIN
            self.log_in(tuple(words) or None, "LINES")
        elif command == "publish":
            self._session.publish(message("x", words[0]))
            self.replies.write(b"ok\n")
        elif command == "wait":
            self.work = LongWork("waiting", iter(()))
            self.resume_after(self.work, lambda error: self.replies.write(f"over {error}\n".encode()))
        elif command == "bye":
            self._phase = Phase.CLOSING
            self.leave()
            self.broker.commit_waiters.add(self)

    def logged_in(self, user):
        self.heartbeats = Heartbeats(1000, 1000)
        self.enter(user, self.broker.vhost("/"), "toy")
        self._phase = Phase.OPEN
        self._session = Session(self.broker, self.vhost, user, self, self)
        self.replies.write(b"welcome\n")

    def login_refused(self, outcome):
        self.replies.write(b"no\n")
        self.finish()

    def send_confirms(self, *, settled_early):
        return False

    def replies_sent(self):
        self.outbox.write(b"bye\n")
        self.finish()

    def has_incomplete_publish(self):
        return self._unread.startswith(b"publish")

    def drop_input(self):
        self._unread = b""

    def refuse(self, error):
        if not self.finished:
            self.replies.write(f"error {error}\n".encode())
            self.finish()

    def timed_out(self):
        self.close_with_log("too late")

    def writable(self):
        return self.outbox.writable()


@pytest.fixture
def world():
    return World().with_slow_login()


@pytest.fixture
def connection(world):
    return LineConnection(world)


@pytest.fixture
def opened(world, connection):
    say(world, connection, b"login slow pw\n")
    world.broker.work.step()
    assert heard(connection) == b"welcome\n"
    return connection


def say(world, connection, data):
    connection.receive(data)
    world.flush()


def heard(connection):
    data = b"".join(connection.outbox.data)
    connection.outbox.data.clear()
    return data


def warnings(connection):
    return [fields.get("error", event) for level, event, fields in connection.log.lines if level == "warning"]


def test_commands_behind_a_login_wait_for_its_outcome(world, connection):
    say(world, connection, b"login slow pw\npublish q\n")
    assert (heard(connection), connection.outbox.paused, connection.status) == (b"", True, "starting")
    world.broker.work.step()
    assert (heard(connection), connection.outbox.paused, connection.status) == (
        b"welcome\nok\n",
        False,
        "running",
    )


def test_a_refused_login_is_logged_and_ends_the_connection(world, connection):
    say(world, connection, b"login slow wrong\n")
    world.broker.work.step()
    assert (heard(connection), connection.status) == (b"no\n", "closed")
    assert warnings(connection) == ["login refused"]


def test_the_user_of_a_certificate_needs_no_password(world):
    connection = LineConnection(world, proven_user="guest")
    say(world, connection, b"login\n")
    assert heard(connection) == b"welcome\n"


def test_the_handshake_has_a_deadline_that_excludes_the_brokers_own_delay(world, connection):
    timeout = world.settings.amqp.handshake_timeout
    idle = LineConnection(world)
    say(world, connection, b"login slow pw\n")
    world.advance(timeout)
    assert (idle.finished, warnings(idle)) == (True, ["too late"])
    assert not connection.finished
    connection.lost()
    assert warnings(connection) == ["connection lost"]
    world.broker.work.step()
    assert not world.broker.clients


def test_a_client_that_says_nothing_is_no_warning(connection):
    connection.lost()
    assert [line[:2] for line in connection.log.lines] == [("debug", "connection lost")]


@pytest.mark.parametrize("command", [b"publish q\n", b"publish"])
def test_an_alarm_stops_reading_from_a_publisher_until_it_is_cleared(world, opened, command):
    world.broker.alarms.set("disk", raised=True)
    say(world, opened, b"\n")
    assert not opened.outbox.paused
    say(world, opened, command)
    assert (opened.status, opened.outbox.paused) == ("blocked", True)
    world.broker.alarms.set("disk", raised=False)
    assert (opened.status, opened.outbox.paused) == ("running", False)


def test_the_end_of_an_alarm_does_not_resume_commands_that_wait_for_work(world, opened):
    world.broker.alarms.set("disk", raised=True)
    say(world, opened, b"publish q\nwait\n")
    world.broker.alarms.set("disk", raised=False)
    assert opened.outbox.paused
    opened.work.end()
    assert not opened.outbox.paused
    assert heard(opened) == b"ok\nover None\n"


def test_commands_behind_work_wait_for_it(world, opened):
    say(world, opened, b"wait\npublish q\n")
    assert (opened.unfinished, heard(opened)) == (True, b"")
    opened.work.end()
    assert (opened.unfinished, heard(opened)) == (False, b"over None\nok\n")


def test_heartbeats_are_sent_and_a_silent_client_is_disconnected(world, opened):
    assert opened.heartbeat == 1
    world.advance(1999)
    assert heard(opened).count(b"\n") >= 3
    assert not opened.finished
    world.advance(1)
    assert opened.finished
    assert warnings(opened) == ["missed heartbeats, one is expected every 1000 ms"]


def test_a_client_that_is_not_read_from_may_be_silent(world, opened):
    say(world, opened, b"wait\n")
    world.advance(60_000)
    assert not opened.finished


def test_a_leaving_client_gets_its_last_replies(world, opened):
    say(world, opened, b"publish q\nbye\n")
    assert heard(opened) == b"ok\nbye\n"
    assert (opened.finished, opened.outbox.closed) == (True, True)
    assert not world.broker.clients
    assert world.vhost.connections == 0


def test_a_failure_of_the_broker_is_logged_and_ends_the_connection(world, opened):
    opened.crash(RuntimeError("bug"))
    assert heard(opened).startswith(b"error INTERNAL_ERROR")
    assert [line[:2] for line in opened.log.lines][-1] == ("error", "connection failed")
    assert opened.finished


def test_finishing_twice_counts_once(world, opened):
    opened.finish()
    opened.finish()
    opened.lost()
    assert world.broker.churn.connection_closed == 1
