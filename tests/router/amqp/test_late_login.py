"""A login with a slow password check delays only its own client."""

import pytest

from leveret.protocol.amqp import methods as m
from leveret.protocol.amqp.codec import method_frame
from leveret.protocol.amqp.constants import PROTOCOL_HEADER
from tests.router.amqp.client import CAPABILITIES
from tests.router.amqp.world import World


@pytest.fixture
def world():
    return World().with_slow_login()


@pytest.fixture
def step(world):
    def step():
        world.broker.work.step()
        world.flush()

    return step


def test_the_client_is_answered_when_its_password_is_known(world, step):
    client = world.client()
    client.login("slow", "pw")
    client.expect_silence()
    assert client.transport.outbox.paused
    step()
    client.tune()
    assert not client.transport.outbox.paused
    client.call(m.ConnectionOpen("/"), channel=0)


def test_another_login_overtakes_it(world, step):
    slow = world.client()
    slow.login("slow", "pw")
    world.connect()
    slow.expect_silence()
    step()
    slow.tune()


def test_what_was_sent_behind_the_login_is_handled_after_it(world, step):
    client = world.client()
    client.start()
    client.send(
        m.ConnectionStartOk({"capabilities": CAPABILITIES}, "PLAIN", b"\0slow\0pw"),
        m.ConnectionTuneOk(2047, 131072, 0),
        m.ConnectionOpen("/"),
        channel=0,
    )
    client.expect_silence()
    step()
    client.take(m.ConnectionTune, channel=0)
    client.take(m.ConnectionOpenOk, channel=0)


@pytest.mark.parametrize("with_header", [False, True])
def test_channels_opened_behind_the_login_are_opened_after_it(world, step, with_header):
    """In one piece, with frames on channel 1 that are refused until the connection is open."""
    client = world.client()
    parts = [PROTOCOL_HEADER] if with_header else []
    if not with_header:
        client.start()
    start_ok = m.ConnectionStartOk({"capabilities": CAPABILITIES}, "PLAIN", b"\0slow\0pw")
    parts += [
        method_frame(channel, method)
        for channel, method in (
            (0, start_ok),
            (0, m.ConnectionTuneOk(2047, 131072, 0)),
            (0, m.ConnectionOpen("/")),
            (1, m.ChannelOpen()),
            (1, m.QueueDeclare("q")),
        )
    ]
    client.send_raw(b"".join(parts))
    if with_header:
        client.take(m.ConnectionStart, channel=0)
    client.expect_silence()
    step()
    client.take(m.ConnectionTune, channel=0)
    client.take(m.ConnectionOpenOk, channel=0)
    client.expect(m.ChannelOpenOk(), m.QueueDeclareOk("q", 0, 0))


def test_a_wrong_password_is_refused_when_that_is_known(world, step):
    client = world.client()
    client.login("slow", "wrong")
    client.expect_silence()
    step()
    assert client.take(m.ConnectionClose, channel=0).reply_code == 403


def test_a_client_without_the_capability_is_disconnected(world, step):
    client = world.client()
    client.login("slow", "wrong", capabilities={})
    step()
    client.expect_end()


def test_a_client_that_has_gone_meanwhile_is_no_trouble(world, step):
    client = world.client()
    client.login("slow", "pw")
    client.transport.connection.lost()
    step()
    assert not world.broker.clients


def test_the_time_that_a_login_waits_is_not_the_clients(world, step):
    client = world.client()
    client.login("slow", "pw")
    world.advance(10 * world.settings.amqp.handshake_timeout)
    client.expect_silence()
    step()
    client.take(m.ConnectionTune, channel=0)
    world.advance(world.settings.amqp.handshake_timeout)
    client.expect_end()


@pytest.mark.parametrize("told", [True, False])
def test_a_client_is_not_refused_when_too_many_wait(world, step, monkeypatch, told):
    monkeypatch.setattr("leveret.router.auth.login_queue.MOST_WAITING", 0)
    busy = [world.client() for _ in range(2)]
    for number, client in enumerate(busy):
        client.login("slow", f"wrong{number}")
    client = world.client()
    client.login("slow", "pw", capabilities=CAPABILITIES if told else {})
    if told:
        assert client.take(m.ConnectionClose, channel=0).reply_code == 320
    else:
        client.expect_end()


def test_a_user_that_is_deleted_meanwhile_is_refused(world, step):
    client = world.client()
    client.login("slow", "pw")
    world.broker.users.remove("slow")
    step()
    assert client.take(m.ConnectionClose, channel=0).reply_code == 403


def test_the_second_client_waits_for_nothing(world, step):
    first, second = world.client(), world.client()
    first.login("slow", "pw")
    step()
    second.login("slow", "pw")
    second.tune()
    assert not world.broker.work.jobs


def test_one_byte_at_a_time(world, step):
    client = world.client()
    for byte in PROTOCOL_HEADER:
        client.send_raw(bytes([byte]))
    client.take(m.ConnectionStart, channel=0)
    client.send(m.ConnectionStartOk({}, "PLAIN", b"\0slow\0pw"), channel=0)
    step()
    client.tune()
