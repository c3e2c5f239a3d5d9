"""When a client is read from without waiting until its socket is readable."""

from dataclasses import dataclass, field
from itertools import pairwise

import pytest
import trio

from leveret.protocol.amqp import methods as m
from leveret.protocol.amqp.codec import method_frame
from leveret.router.broker.broker import Broker
from leveret.router.server.amqp import serve_amqp
from leveret.router.server.client_reads import IN_A_ROW, SERIES, SKIPPED, ClientReads
from leveret.router.server.driver import Driver
from leveret.router.server.newcomer_turns import MOST, NewcomerTurns
from leveret.router.server.outbox import BufferedOutbox
from leveret.router.server.places import Occupant
from leveret.router.server.socket_peer import SocketPeer
from leveret.router.settings import Server as ServerSettings
from leveret.router.settings import Settings
from tests.router.server.client import Client

NOW, WAITED = b"now", b"waited"


@dataclass
class Reads:
    """Reads of one client; an attempt finds data if the next of ``arrived`` is True, or ``always`` is.

    ``found`` lists for each read whether it was an attempt that found data, or waited.
    """

    arrived: list[bool] = field(default_factory=list)
    always: bool = False
    attempts: int = 0
    found: list[bytes] = field(default_factory=list)
    occupant: Occupant | None = None

    def __post_init__(self):
        self.driver = Driver(Broker(Settings()))
        self.outbox = BufferedOutbox(1000, 100, 0)
        self.reads = ClientReads(None, self, self.outbox, self.driver)
        self.turn = 0.0  # seconds that a turn takes

    def receive_now(self, size):
        self.attempts += 1
        arrived = self.always or (self.arrived.pop(0) if self.arrived else False)
        return NOW if arrived else b""

    async def receive(self, stream, size):
        await trio.lowlevel.checkpoint()
        return WAITED

    async def read(self, count=1, *, answered=True):
        """Read so often, each time followed by a turn, which may answer."""
        start = len(self.found)
        for _ in range(count):
            self.found.append(await self.reads.read(100))
            self.driver.began = self.driver.ended
            self.driver.ended += self.turn
            if answered:
                self.outbox.traffic.wrote(1)
        return self.found[start:]


async def test_an_answered_client_that_sends_on_is_read_without_waiting():
    reads = Reads(always=True)
    assert await reads.read(5) == [WAITED, NOW, NOW, NOW, NOW]


async def test_no_attempt_follows_a_turn_without_an_answer():
    reads = Reads(always=True)
    assert await reads.read(5, answered=False) == [WAITED] * 5
    assert reads.attempts == 0


async def test_other_tasks_run_after_so_many_reads_in_a_row():
    reads = Reads(always=True)
    await reads.read(3 * (IN_A_ROW + 1))
    assert reads.found == ([WAITED] + [NOW] * IN_A_ROW) * 3


@pytest.mark.parametrize(("turn", "in_a_row"), [(SERIES, 0), (0.6 * SERIES, 1), (0.3 * SERIES, 3)])
async def test_other_tasks_run_sooner_if_turns_are_long(turn, in_a_row):
    reads = Reads(always=True)
    reads.turn = turn
    await reads.read(4 * (in_a_row + 1))
    assert reads.found == ([WAITED] + [NOW] * in_a_row) * 4


async def test_vain_attempts_become_rare():
    reads = Reads()
    await reads.read(1000)
    assert reads.attempts <= 1000 / SKIPPED + 7


async def test_an_attempt_that_finds_data_makes_them_frequent_again():
    reads = Reads()
    await reads.read(500)
    reads.always = True
    await reads.read(SKIPPED)
    start = len(reads.found)
    await reads.read(IN_A_ROW)
    assert reads.found[start:].count(NOW) >= IN_A_ROW - 1


async def test_a_client_takes_turns_until_its_login(nursery):
    turns = NewcomerTurns()
    for _ in range(MOST):
        await turns.take()
    reads = Reads(occupant=Occupant("client", "192.0.2.1", lambda: None, turns))
    nursery.start_soon(reads.read)
    await trio.testing.wait_all_tasks_blocked()
    assert reads.found == []
    nursery.start_soon(turns.run)
    await trio.testing.wait_all_tasks_blocked()
    assert reads.found == [WAITED]


async def test_a_closed_connection_is_not_read_from_without_waiting():
    reads = Reads(always=True)
    await reads.read()
    reads.outbox.close()
    assert await reads.read() == [WAITED]


REQUEST = method_frame(1, m.QueueDeclare("q", passive=True))


@pytest.fixture
def settings():
    return Settings(server=ServerSettings(read_size=len(REQUEST)))


async def test_a_client_that_always_has_more_leaves_turns_to_others(nursery, server):
    here, there = trio.socket.socketpair()
    with here, there:
        peer = SocketPeer("test", True, here, direct=True)
        nursery.start_soon(serve_amqp, trio.SocketStream(here), peer, server.driver, server.offer)
        client = await Client(trio.SocketStream(there)).login()
        await client.call(m.QueueDeclare("q"), m.QueueDeclareOk)
        (connection,) = server.broker.clients
        traffic, asked = connection.outbox.traffic, 2000
        first = traffic.reads
        await client.stream.send_all(REQUEST * asked)
        reads = [first]
        while reads[-1] < first + asked:
            await trio.lowlevel.checkpoint()
            reads.append(traffic.reads)
        each = [later - earlier for earlier, later in pairwise(reads)]
        assert 1 < max(each) <= IN_A_ROW + 1, "it was read from in a row, and not for ever"
        nursery.cancel_scope.cancel()
