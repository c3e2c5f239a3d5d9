"""The pool, step by step: what it says to a broker, and in which order. The commands are the test's own."""

from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import pytest
import trio
import trio.testing

from leveret.protocol.amqp import methods as m
from leveret.protocol.amqp.codec import method_frame
from leveret.protocol.amqp.command import Heartbeat
from leveret.protocol.amqp.content_frames import pack_frames
from leveret.protocol.amqp.message import Message
from leveret.protocol.amqp.properties import Properties, encode_properties
from leveret.protocol.amqp.reader import CommandReader
from leveret.router.cli.child_process import CommandOutcome
from leveret.router.cli.retry import ATTEMPT, Backoff
from leveret.router.cli.worker_pool import NoWork, Pool, Tally, WorkPlan
from leveret.router.client.address import Address
from leveret.router.client.connection import on_stream
from leveret.router.client.errors import ChannelEnded, ConnectionEnded, ConsumerEnded

ANSWERS = {
    m.ConnectionStartOk: lambda each: m.ConnectionTune(0, 0, 0),
    m.ConnectionOpen: lambda each: m.ConnectionOpenOk(),
    m.ConnectionClose: lambda each: m.ConnectionCloseOk(),
    m.ChannelOpen: lambda each: m.ChannelOpenOk(),
    m.QueueDeclare: lambda each: m.QueueDeclareOk(each.queue, 0, 0),
    m.ConfirmSelect: lambda each: m.ConfirmSelectOk(),
    m.BasicQos: lambda each: m.BasicQosOk(),
    m.BasicConsume: lambda each: m.BasicConsumeOk("tag"),
}
# How brokers refuse a consumer with an offset and no prefetch count: what RabbitMQ 3.10 says, shortened.
CLASSIC = m.ChannelClose(406, "PRECONDITION_FAILED - invalid arg 'x-stream-offset' for queue 'jobs'", 60, 20)
STREAM = m.ChannelClose(406, "PRECONDITION_FAILED - consumer prefetch count is not set for 'jobs'", 60, 20)
MISSING = m.ChannelClose(404, "NOT_FOUND - no queue 'jobs' in vhost '/'", 60, 20)


class Broker:
    """Answers what has one answer; publishes and settlements wait in ``said`` for the test."""

    def __init__(self, stream):
        self.stream = stream
        self.reader = CommandReader(0, 1 << 20)
        self._tell, self.said = trio.open_memory_channel(100)
        self.source = 0  # the consumer's channel
        self.probed = CLASSIC

    async def run(self):
        assert await self.stream.receive_some(8) == b"AMQP\x00\x00\x09\x01"
        await self.send(0, m.ConnectionStart())
        while data := await self.stream.receive_some(65536):
            for number, command in self.reader.receive(bytes(data)):
                if isinstance(command, Heartbeat):
                    continue
                if isinstance(command, m.BasicConsume):
                    if "x-stream-offset" in command.arguments:
                        await self.send(number, self.probed)
                        continue
                    self.source = number
                answer = ANSWERS.get(type(command))
                if answer is not None:
                    await self.send(number, answer(command))
                if answer is None or isinstance(command, m.QueueDeclare | m.BasicConsume):
                    self._tell.send_nowait((number, command))

    async def send(self, number, *methods):
        await self.stream.send_all(b"".join(method_frame(number, each) for each in methods))

    async def deliver(self, tag, body=b"body", **properties):
        method = m.BasicDeliver("tag", tag, False, "orders", "new")
        content = pack_frames(self.source, encode_properties(Properties(**properties)), body)
        await self.stream.send_all(method_frame(self.source, method) + content)

    async def next(self, kind):
        """The next thing that was said, which must be of this kind, and its channel."""
        number, command = await self.said.receive()
        while isinstance(command, m.ConnectionTuneOk):
            number, command = await self.said.receive()
        assert isinstance(command, kind), command
        return number, command

    async def consuming(self):
        """Wait until the pool consumes; what it has declared before."""
        declared = []
        while True:
            _, command = await self.said.receive()
            if isinstance(command, m.BasicConsume):
                return declared
            if isinstance(command, m.QueueDeclare):
                declared.append(command.queue)

    async def silent(self):
        """Whether nothing more is said while everyone waits."""
        await trio.testing.wait_all_tasks_blocked()
        try:
            self.said.receive_nowait()
        except trio.WouldBlock:
            return True
        return False


@dataclass
class Runs:
    """Commands that end when, and as, the test says; ``started`` has their variables and bodies."""

    started: list = field(default_factory=list)
    killed: int = 0

    def __post_init__(self):
        self._tell, self._outcomes = trio.open_memory_channel(100)

    def end(self, failure=None, output=b""):
        self._tell.send_nowait(CommandOutcome(failure, output))

    async def run(self, body, variables):
        self.started.append((variables, body))
        try:
            return await self._outcomes.receive()
        except trio.Cancelled:
            self.killed += 1
            raise


@pytest.fixture
def runs():
    return Runs()


@asynccontextmanager
async def working(nursery, runs, notices=None, **changes):
    """A pool at work, and the broker it works for."""
    plan = {
        "queue": "jobs", "command": runs, "concurrency": 2, "retries": 2, "backoff": Backoff(1000, 4000),
        "dead_exchange": "", "dead_key": "dead", "reply": False, "count": None, "idle": None,
    }  # fmt: skip
    mine, its = trio.testing.memory_stream_pair()
    broker = Broker(its)
    nursery.start_soon(broker.run)
    said = [] if notices is None else notices
    pool = Pool(WorkPlan(**plan | changes), Tally(), said.append)
    over = trio.Event()
    pool.ended = None

    async def run():
        try:
            async with on_stream(mine, Address(), name="test") as connection:
                await pool.run(connection)
        except Exception as error:
            pool.ended = error
        over.set()

    nursery.start_soon(run)
    pool.declared = await broker.consuming()
    yield pool, broker
    with trio.fail_after(60):
        await over.wait()


async def test_what_it_needs_is_there_before_the_first_message(nursery, runs):
    async with working(nursery, runs) as (pool, _):
        assert pool.declared == ["leveret.delay.jobs.1000", "leveret.delay.jobs.2000", "dead"]
        pool.stop()


@pytest.mark.parametrize(
    ("answer", "error", "said"),
    [(STREAM, NoWork, "jobs is a stream"), (MISSING, ChannelEnded, "no queue 'jobs'")],
)
async def test_nothing_is_made_for_a_stream_or_a_queue_that_is_not_there(nursery, runs, answer, error, said):
    mine, its = trio.testing.memory_stream_pair()
    broker = Broker(its)
    broker.probed = answer
    nursery.start_soon(broker.run)
    plan = WorkPlan("jobs", runs, 2, 2, Backoff(1000, 4000), "", "dead", False, None, None)
    async with on_stream(mine, Address(), name="test") as connection:
        with pytest.raises(error, match=said):
            await Pool(plan, Tally(), print).run(connection)
    made = []
    with suppress(trio.WouldBlock):
        while True:
            made.append(broker.said.receive_nowait()[1])
    assert not [each for each in made if isinstance(each, m.QueueDeclare | m.BasicConsume)]


async def test_success_is_acknowledged(nursery, runs):
    async with working(nursery, runs) as (pool, broker):
        await broker.deliver(1, b"x", message_id="id")
        assert await broker.silent()
        ((variables, body),) = runs.started
        assert (body, variables["MESSAGE_ID"], variables["EXCHANGE"]) == (b"x", "id", "orders")
        runs.end()
        _, ack = await broker.next(m.BasicAck)
        assert ack == m.BasicAck(1)
        pool.stop()
        await broker.next(m.BasicCancel)
    assert (pool.tally.done, pool.tally.running) == (1, 0)


async def test_a_message_is_acknowledged_once_its_successor_is_confirmed_and_not_before(nursery, runs):
    async with working(nursery, runs) as (pool, broker):
        await broker.deliver(1, b"x")
        runs.end("exit status 1")
        _, declared = await broker.next(m.QueueDeclare)
        assert declared.queue == "leveret.delay.jobs.1000"
        sender, sent = await broker.next(Message)
        assert (sent.exchange, sent.routing_key, sent.body) == ("", "leveret.delay.jobs.1000", b"x")
        assert sent.bits & 1  # mandatory
        assert (sent.properties.delivery_mode, sent.headers[ATTEMPT]) == (2, 1)
        assert await broker.silent()
        await broker.send(sender, m.BasicAck(1))
        number, ack = await broker.next(m.BasicAck)
        assert (number, ack) == (broker.source, m.BasicAck(1))
        pool.stop()
        await broker.next(m.BasicCancel)


@pytest.mark.parametrize("answer", ["refused", "returned"])
async def test_what_the_broker_did_not_take_is_sent_again_after_a_while(
    nursery, runs, autojump_clock, answer
):
    notices = []
    async with working(nursery, runs, notices) as (pool, broker):
        await broker.deliver(1)
        runs.end("exit status 1")
        await broker.next(m.QueueDeclare)
        sender, sent = await broker.next(Message)
        begin = trio.current_time()
        if answer == "refused":
            await broker.send(sender, m.BasicNack(1))
        else:
            back = m.BasicReturn(312, "NO_ROUTE", "", sent.routing_key)
            await broker.stream.send_all(method_frame(sender, back) + sent.framed_for(sender, 0))
            await broker.send(sender, m.BasicAck(1))
        await broker.next(m.QueueDeclare)  # it may be gone
        await broker.next(Message)
        assert trio.current_time() - begin == 1
        await broker.send(sender, m.BasicAck(2))
        assert (await broker.next(m.BasicAck))[1] == m.BasicAck(1)
        pool.stop()
        await broker.next(m.BasicCancel)
    assert any("again in 1s" in each for each in notices)


async def test_a_reply_is_confirmed_before_the_message_is_acknowledged(nursery, runs):
    async with working(nursery, runs, reply=True) as (pool, broker):
        await broker.deliver(1, reply_to="replies", correlation_id="7")
        runs.end(output=b"answer")
        sender, sent = await broker.next(Message)
        assert (sent.routing_key, sent.properties.correlation_id, sent.body) == ("replies", "7", b"answer")
        assert await broker.silent()
        await broker.send(sender, m.BasicAck(1))
        await broker.next(m.BasicAck)
        pool.stop()
        await broker.next(m.BasicCancel)


async def test_as_many_commands_run_as_were_asked_for(nursery, runs):
    async with working(nursery, runs) as (pool, broker):
        for tag in (1, 2, 3):
            await broker.deliver(tag)
        assert await broker.silent()
        assert (len(runs.started), pool.tally.running) == (2, 2)
        pool.stop()
        await broker.next(m.BasicCancel)
        runs.end()
        runs.end()
        said = [(await broker.next(m.Method))[1] for _ in range(3)]
        assert m.BasicNack(3, requeue=True) in said  # it was never begun
        assert len(runs.started) == 2


async def test_after_so_many_messages_it_ends_by_itself(nursery, runs):
    async with working(nursery, runs, count=1) as (pool, broker):
        await broker.deliver(1)
        await broker.next(m.BasicCancel)
        runs.end()
        await broker.next(m.BasicAck)
    assert pool.tally.done == 1


async def test_idle_is_when_nothing_comes_and_nothing_runs(nursery, runs, autojump_clock):
    async with working(nursery, runs, idle=5000) as (pool, broker):
        await broker.deliver(1)
        await trio.sleep(60)
        assert pool.tally.running == 1
        runs.end()
        await broker.next(m.BasicAck)
        begin = trio.current_time()
        await broker.next(m.BasicCancel)
        assert trio.current_time() - begin <= 10


async def test_a_lost_connection_ends_the_commands(nursery, runs):
    async with working(nursery, runs) as (pool, broker):
        await broker.deliver(1)
        assert await broker.silent()
        await broker.stream.send_eof()
    assert isinstance(pool.ended, ConnectionEnded)
    assert (runs.killed, pool.tally.running) == (1, 0)


async def test_a_deleted_queue_ends_the_pool(nursery, runs):
    async with working(nursery, runs) as (pool, broker):
        await broker.send(broker.source, m.BasicCancel("tag", nowait=True))
    assert isinstance(pool.ended, ConsumerEnded)


async def test_properties_that_have_grown_too_large_are_not_sent(nursery, runs):
    async with working(nursery, runs) as (pool, broker):
        await broker.deliver(1, headers={"large": "x" * 131_000})
        runs.end("exit status 1")
        _, rejected = await broker.next(m.BasicReject)
        assert rejected == m.BasicReject(1, requeue=False)
        pool.stop()
        await broker.next(m.BasicCancel)
    assert pool.tally.dead == 1
