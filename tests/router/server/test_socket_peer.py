"""Sending and receiving directly through the socket of a peer."""

from contextlib import asynccontextmanager

import pytest
import trio
from msgspec.structs import replace

from leveret.router.server.outbox import PIECE
from leveret.router.server.send_timeouts import SendTimeouts
from leveret.router.server.socket_peer import SocketPeer

LARGE = 8 << 20  # bytes: more than a socket takes at once


@asynccontextmanager
async def sockets():
    """A connected pair: a peer at this end, a stream at the other."""
    here, there = trio.socket.socketpair()
    with here, there:
        yield SocketPeer("test", True, here, direct=True), trio.SocketStream(here), there


async def read(socket, size):
    data = bytearray()
    while len(data) < size and (more := await socket.recv(1 << 16)):
        data += more
    return bytes(data)


async def test_all_parts_are_sent_in_order_however_often_the_socket_is_full(nursery):
    async with sockets() as (peer, stream, other):
        parts, counts = [b"head", bytes(range(256)) * (LARGE // 256), memoryview(b"tail")], []
        nursery.start_soon(peer.send_all, stream, parts, counts.append, SendTimeouts(60))
        assert await read(other, LARGE + 8) == b"".join(parts)
        assert len(counts) > 1
        assert sum(counts) == LARGE + 8


async def test_what_is_sent_now_is_what_the_socket_takes():
    async with sockets() as (peer, _, other):
        assert peer.send([b"ab", b"c"]) == 3
        assert await other.recv(10) == b"abc"
        taken = peer.send([bytes(LARGE)])
        assert 0 < taken < LARGE
        assert peer.send([bytes(LARGE)]) == 0


async def test_a_broken_connection_raises_the_error_of_streams():
    async with sockets() as (peer, stream, other):
        other.close()
        assert peer.send([b"x"]) == 0
        with pytest.raises(trio.BrokenResourceError):
            await peer.send_all(stream, [b"x"], lambda size: None, SendTimeouts(1))


async def test_a_client_that_takes_everything_leaves_a_turn_to_others(nursery):
    async with sockets() as (peer, stream, _):
        turns = []

        async def other():
            turns.append("other")

        nursery.start_soon(other)
        for _ in range(2):  # whose turn comes first is left to chance
            await peer.send_all(stream, [b"x"], lambda size: turns.append("sent"), SendTimeouts(1))
        assert turns.index("other") < 2


async def test_a_stream_between_gets_pieces_and_each_counts_when_it_is_sent(nursery):
    async with sockets() as (direct, stream, other):
        parts, counts = [bytes(PIECE), b"x", b"y"], []
        nursery.start_soon(
            replace(direct, direct=False).send_all, stream, parts, counts.append, SendTimeouts(60)
        )
        assert await read(other, PIECE + 2) == b"".join(parts)
    assert counts == [PIECE, 2]


@pytest.mark.parametrize("direct", [True, False])
async def test_a_client_that_takes_nothing_is_given_up(nursery, direct):
    timeouts = SendTimeouts(0.05)
    nursery.start_soon(timeouts.watch)
    async with sockets() as (found, stream, _):
        peer = replace(found, direct=direct)
        with pytest.raises(trio.TooSlowError):
            await peer.send_all(stream, [bytes(PIECE)] * 32, lambda size: None, timeouts)


async def test_only_bytes_that_have_arrived_are_received_now():
    async with sockets() as (peer, _, other):
        assert peer.receive_now(10) == b""
        await other.send(b"abc")
        assert peer.receive_now(2) == b"ab"
        assert replace(peer, direct=False).receive_now(2) == b""
        assert peer.receive_now(2) == b"c"
        other.close()
        assert peer.receive_now(2) == b""
