"""A login whose password takes long to check: the client waits, and what it sent meanwhile with it."""

import pytest

from tests.router.amqp.world import World
from tests.router.stomp.client import StompClient


@pytest.fixture
def world():
    return World().with_slow_login()


@pytest.fixture
def client(world):
    return StompClient(world)


def step(world):
    world.broker.work.step()
    world.flush()


def connect(client, passcode="pw"):
    client.send("CONNECT", login="slow", passcode=passcode, accept_version="1.2")


def test_the_client_is_answered_when_its_password_is_known(world, client):
    connect(client)
    assert client.received() == []
    assert client.outbox.paused
    step(world)
    client.take("CONNECTED")
    assert not client.outbox.paused


def test_what_was_sent_behind_the_login_is_handled_after_it(world, client):
    frames = client.packed("CONNECT", login="slow", passcode="pw", accept_version="1.2")
    frames += client.packed("SEND", b"x", destination="/queue/q", receipt="r")
    client.send_raw(frames)
    assert client.received() == []
    step(world)
    assert [frame.command for frame in client.received()] == ["CONNECTED", "RECEIPT"]


def test_a_wrong_password_is_refused_when_that_is_known(world, client):
    connect(client, "wrong")
    assert client.received() == []
    step(world)
    assert client.error() == ("Bad CONNECT", "Access refused for user 'slow'\n")


def test_a_client_that_has_gone_meanwhile_is_no_trouble(world, client):
    connect(client)
    client.connection.lost()
    step(world)
    assert not world.broker.clients


def test_the_time_that_a_login_waits_is_not_the_clients(world, client):
    connect(client)
    world.advance(10 * world.settings.amqp.handshake_timeout)
    assert client.received() == []
    step(world)
    client.take("CONNECTED")


def test_a_client_is_not_refused_when_too_many_wait(world, client, monkeypatch):
    monkeypatch.setattr("leveret.router.auth.login_queue.MOST_WAITING", 0)
    for number in range(2):
        connect(StompClient(world), f"wrong{number}")
    connect(client)
    assert client.error()[0] == "Try again later"


def test_a_full_virtual_host_is_reported(world, client):
    world.vhost.limits = {"max-connections": 0}
    connect(client)
    step(world)
    assert client.error() == ("Bad CONNECT", "Virtual host '/' access denied")
