"""Accepting: many at a time, as many as there may be, and never for the last time."""

import errno
import socket

import trio

from leveret.router.server.listeners import ACCEPT_BATCH, AcceptState, Endpoint, accept_all
from leveret.router.server.newcomer_turns import MOST
from leveret.router.server.places import Places
from tests.router.server.client import Client
from tests.router.server.process import Leveret, leveret


class Doorman:
    """An endpoint, and those that it serves: each until it hangs up."""

    def __init__(self, places: Places | None = None) -> None:
        self.served = 0
        self.endpoint = Endpoint("amqp", "amqp://{}", ("127.0.0.1:0",), self.serve, places or Places(0))
        self.accepting = AcceptState()

    async def serve(self, stream, peer) -> None:
        self.served += 1
        peer.occupant.engage()
        while await stream.receive_some():
            pass

    async def open(self, nursery, most: int = 0) -> None:
        await self.endpoint.open()
        nursery.start_soon(accept_all, [self.endpoint], self.accepting, most)

    async def connect(self) -> trio.SocketStream:
        return await trio.open_tcp_stream("127.0.0.1", int(self.endpoint.urls[0].rpartition(":")[2]))


async def turns(count: int) -> None:
    for _ in range(count):
        await trio.lowlevel.checkpoint()


async def test_all_that_wait_are_accepted_at_once_and_served_some_in_each_round(nursery, logged):
    door = Doorman()
    await door.endpoint.open()
    port = int(door.endpoint.urls[0].rpartition(":")[2])
    waiting = [socket.create_connection(("127.0.0.1", port)) for _ in range(ACCEPT_BATCH)]
    nursery.start_soon(accept_all, [door.endpoint], door.accepting)
    await turns(ACCEPT_BATCH // MOST + 8)
    assert door.served == ACCEPT_BATCH
    for each in waiting:
        each.close()


async def test_a_client_beyond_the_limit_is_refused_and_later_ones_are_served(nursery, logged):
    door = Doorman()
    await door.open(nursery, most=2)
    first, second = await door.connect(), await door.connect()
    with trio.fail_after(5):
        assert await (await door.connect()).receive_some() == b""
    assert [each["event"] for each in logged] == ["connection refused"]
    assert door.served == 2
    await first.aclose()
    await turns(8)
    third = await door.connect()
    await turns(8)
    assert door.served == 3
    for stream in (second, third):
        await stream.aclose()


async def test_accepting_goes_on_after_the_system_could_not(nursery, logged, monkeypatch):
    door = Doorman()
    accept, failures = socket.socket.accept, [errno.EMFILE, errno.ECONNABORTED]

    def fail_first(self):
        if failures:
            raise OSError(failures.pop(0), "no")
        return accept(self)

    monkeypatch.setattr(socket.socket, "accept", fail_first)
    await door.open(nursery)
    stream = await door.connect()
    await stream.send_eof()
    with trio.fail_after(5):
        assert await stream.receive_some() == b""
    assert door.served == 1
    # As a refused client is, so that the log counts the failures of a minute.
    (line,) = logged
    assert (line["event"], line["reason"], line["log_level"]) == (
        "cannot accept connections",
        "no",
        "warning",
    )
    assert line["peer"].startswith("127.0.0.1:")


async def test_what_fails_in_one_connection_is_logged_and_ends_no_other(nursery, logged, monkeypatch):
    door = Doorman()
    await door.open(nursery)
    monkeypatch.setattr("leveret.router.server.listeners.find_peer", lambda _: 1 / 0)
    stream = await door.connect()
    with trio.fail_after(5):
        assert await stream.receive_some() == b""
    monkeypatch.undo()
    other = await door.connect()
    await other.send_eof()
    with trio.fail_after(5):
        assert await other.receive_some() == b""
    assert [each["event"] for each in logged] == ["connection failed"]
    assert door.served == 1


async def log_in(broker: Leveret) -> Client | None:
    """A client, if there is a place for it already."""
    try:
        return await (await broker.connect()).login()
    except trio.BrokenResourceError:
        return None


async def test_broker_outlives_more_connections_than_it_may_have_files(tmp_path):
    async with leveret(tmp_path, files=200) as broker:
        silent = [await trio.open_tcp_stream("127.0.0.1", broker.ports[0]) for _ in range(300)]
        await trio.sleep(1.5)  # it measures memory and disk meanwhile
        for stream in silent:
            await stream.aclose()
        for _ in range(100):  # each takes a while
            if (client := await log_in(broker)) is not None:
                break
        await client.close()
        assert await broker.stop() == 0
    assert "are open" in broker.log
    assert "Traceback" not in broker.log


async def test_endpoint_is_closed_unless_all_its_sockets_listen():
    async def serve(stream, peer) -> None:
        raise AssertionError("nobody connects")

    endpoint = Endpoint("amqp", "amqp://{}", ("127.0.0.1:0", "127.0.0.1:0"), serve, Places(0))
    assert endpoint.closed
    await endpoint.open()
    assert not endpoint.closed
    await endpoint.listeners[1].aclose()
    assert endpoint.closed
    await endpoint.listeners[0].aclose()
    assert endpoint.closed
    assert not Endpoint("stomp", "stomp://{}", (), serve, Places(0)).closed
