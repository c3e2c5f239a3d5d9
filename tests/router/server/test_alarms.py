"""Clients that are not read from because of an alarm, on streams and sockets."""

import pytest
import trio
import trio.testing

from leveret.protocol.amqp import methods as m
from leveret.router.broker.alarms import MEMORY
from leveret.router.server import client_tasks as serving
from leveret.router.server.broker_lifecycle import close_clients
from leveret.router.server.socket_peer import HUNG_UP, SocketPeer
from tests.router.server import server as module
from tests.router.server.client import Client

pytestmark = pytest.mark.usefixtures("logged")


def alarm(server, *, raised: bool = True) -> None:
    server.driver.begin()
    server.broker.alarms.set(MEMORY, raised=raised)
    server.driver.end()


async def blocked(server, **options) -> tuple[Client, trio.Event]:
    """A client that has a queue q, published one message to it during an alarm, and is blocked."""
    client, over = server.connect(**options)
    await client.login()
    await client.call(m.QueueDeclare("q"), m.QueueDeclareOk)
    alarm(server)
    await client.publish("q")
    await client.expect(m.ConnectionBlocked)
    return client, over


async def test_nothing_more_is_read_until_the_alarm_is_cleared(autojump_clock, server):
    client, _ = await blocked(server)
    await client.publish("q")
    await trio.sleep(60)
    queue = server.broker.vhosts["/"].queues["q"]
    assert len(queue.ready) == 1
    alarm(server, raised=False)
    await client.expect(m.ConnectionUnblocked)
    assert await client.count("q") == 2


async def test_a_blocked_client_that_hangs_up_is_noticed(autojump_clock, server, monkeypatch):
    client, over = await blocked(server)
    await client.publish("q")
    await client.stream.send_eof()
    monkeypatch.setattr(module.Peer, "has_disconnected", lambda self: True)
    with trio.fail_after(serving.DISCONNECT_CHECK + serving.LINGER + 1):
        await over.wait()
    assert not server.broker.clients
    assert len(server.broker.vhosts["/"].queues["q"].ready) == 1


async def test_a_stopping_broker_is_answered_by_a_blocked_client(autojump_clock, server):
    client, over = await blocked(server)
    await client.publish("q")
    close_clients(server.driver)
    await client.expect(m.ConnectionClose)
    await client.send(m.ConnectionCloseOk(), channel=0)
    assert await client.ended()
    await client.stream.aclose()
    with trio.fail_after(1):
        await over.wait()


async def test_a_stopping_broker_does_not_wait_for_a_blocked_client(autojump_clock, server):
    _, over = await blocked(server)
    close_clients(server.driver)
    with trio.fail_after(server.broker.settings.server.shutdown_timeout / 1000 + serving.LINGER + 1):
        await over.wait()


@pytest.mark.skipif(not HUNG_UP, reason="only Linux tells")
async def test_a_disconnect_behind_unread_bytes_is_detected():
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        client = await trio.testing.open_stream_to_socket_listener(listener)
        async with await listener.accept() as stream:
            peer = SocketPeer("test", True, stream.socket)
            await client.send_all(b"unread")
            assert not peer.has_disconnected()
            await client.aclose()
            assert peer.has_disconnected()
