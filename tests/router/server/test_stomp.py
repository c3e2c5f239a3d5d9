"""STOMP clients on streams and sockets; what all clients have in common is tested with AMQP's."""

import pytest
import trio
import trio.testing

from leveret.protocol.stomp.frames import HEARTBEAT, V1_2, Frame, FrameLimits, FrameReader, encode_frame
from leveret.router.server import client_tasks as serving
from leveret.router.server.broker_lifecycle import close_clients
from leveret.router.server.listeners import AcceptState, Endpoint, accept_all
from leveret.router.server.places import Places
from leveret.router.server.stomp import serve_stomp
from tests.router.server.server import Peer

pytestmark = pytest.mark.usefixtures("logged")


class Client:
    """The other end of a stream."""

    def __init__(self, stream):
        self.stream = stream
        self._reader = FrameReader(FrameLimits(), V1_2)

    async def send(self, command, body=b"", **headers):
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        await self.stream.send_all(encode_frame(Frame(command, headers, body), V1_2))

    async def next(self):
        """The next frame; None at the end."""
        while (frame := self._reader.next_frame()) is None:
            data = await self.stream.receive_some(65536)
            if not data:
                return None
            self._reader.feed(bytes(data))
        return frame

    async def expect(self, command):
        frame = await self.next()
        assert frame is not None
        assert frame.command == command, frame
        return frame

    async def login(self, **headers):
        await self.send("CONNECT", login="guest", passcode="guest", accept_version=V1_2, **headers)
        await self.expect("CONNECTED")
        return self


def connect(server, nursery):
    """A client whose stream is served, and the event that says that this is over."""
    mine, its = trio.testing.memory_stream_pair()
    over = trio.Event()

    async def run():
        await serve_stomp(its, Peer(), server.driver)
        over.set()

    nursery.start_soon(run)
    return Client(mine), over


async def test_a_message_goes_from_one_client_to_another(autojump_clock, server, nursery):
    sender, receiver = [await connect(server, nursery)[0].login() for _ in range(2)]
    await receiver.send("SUBSCRIBE", destination="/queue/q", id="1", receipt="r")
    await receiver.expect("RECEIPT")
    await sender.send("SEND", b"hi", destination="/queue/q")
    assert (await receiver.expect("MESSAGE")).body == b"hi"


async def test_a_connection_is_over_once_the_client_has_left(autojump_clock, server, nursery, logged):
    client, over = connect(server, nursery)
    await client.login()
    await client.send("DISCONNECT", receipt="bye")
    await client.expect("RECEIPT")
    assert await client.next() is None
    await client.stream.aclose()
    await over.wait()
    assert not server.broker.clients
    assert [(each["event"], each["peer"], each["client"]) for each in logged] == [
        ("connection opened", "test:1", "STOMP 1.2"),
        ("connection closed by client", "test:1", "STOMP 1.2"),
    ]


async def test_an_error_is_the_last_that_a_client_hears(autojump_clock, server, nursery):
    client, over = connect(server, nursery)
    await client.send("NONSENSE")
    await client.expect("ERROR")
    assert await client.next() is None
    with trio.fail_after(serving.LINGER + 1):
        await over.wait()


async def test_heartbeats_come_by_themselves(autojump_clock, server, nursery):
    client, _ = connect(server, nursery)
    await client.login(heart_beat="0,1000")
    beats = b""
    with trio.fail_after(5):
        while beats.count(HEARTBEAT) < 3:
            beats += await client.stream.receive_some(100)
    assert set(beats) == set(HEARTBEAT)


async def test_a_stopping_broker_says_so(autojump_clock, server, nursery):
    client, over = connect(server, nursery)
    await client.login()
    close_clients(server.driver)
    assert (await client.expect("ERROR")).headers["message"] == "connection_forced"
    await client.stream.aclose()
    await over.wait()


async def test_a_crash_ends_one_connection_only(autojump_clock, server, nursery, monkeypatch, logged):
    one, other = [await connect(server, nursery)[0].login() for _ in range(2)]
    monkeypatch.setattr("leveret.router.stomp.connection.handle", lambda *_: 1 / 0)
    await one.send("SEND", destination="/queue/q")
    assert (await one.expect("ERROR")).headers["message"] == "internal_error"
    monkeypatch.undo()
    await other.send("SEND", destination="/queue/q", receipt="r")
    await other.expect("RECEIPT")


async def test_services_are_accepted_side_by_side(server, nursery):
    async def serve(stream, peer):
        await serve_stomp(stream, peer, server.driver)

    endpoints = [Endpoint("stomp", "stomp://{}", ("127.0.0.1:0",), serve, Places(0)) for _ in range(2)]
    for endpoint in endpoints:
        await endpoint.open()
    accepting = AcceptState()
    nursery.start_soon(accept_all, endpoints, accepting)
    for endpoint in endpoints:
        (address,) = endpoint.urls
        assert address.startswith("stomp://127.0.0.1:")
        stream = await trio.open_tcp_stream("127.0.0.1", int(address.rpartition(":")[2]))
        client = await Client(stream).login()
        await client.send("DISCONNECT")
        assert await client.next() is None
        await stream.aclose()
    with trio.fail_after(5):
        await accepting.stop()
        await accepting.all_left.wait()
