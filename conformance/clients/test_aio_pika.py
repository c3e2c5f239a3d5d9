"""Work through aio-pika on asyncio: robust connections, confirms, iterators, transactions, RPC, workers."""

import asyncio
import contextlib
import functools
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import aio_pika
import pytest
from aio_pika import DeliveryMode, ExchangeType, Message
from aio_pika.exceptions import ChannelPreconditionFailed, DeliveryError, PublishError
from aio_pika.patterns import RPC, JsonRPC, Master, RejectMessage
from aio_pika.pool import Pool

from conformance.brokers import Broker
from conformance.clients.conftest import WAIT


def on_asyncio(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run the test on an event loop of its own, for no longer than three times WAIT."""

    @functools.wraps(test)
    def run(**fixtures: Any) -> None:
        asyncio.run(asyncio.wait_for(test(**fixtures), 3 * WAIT))

    return run


class Relay:
    """A port that passes bytes to and from the broker until it is told to cut its connections."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._writers: list[asyncio.StreamWriter] = []
        self._server: asyncio.Server | None = None

    async def listen(self) -> int:
        """Start listening; returns the port."""
        self._server = await asyncio.start_server(self._relay, "127.0.0.1", 0)
        return int(self._server.sockets[0].getsockname()[1])

    def cut(self) -> None:
        """Break all connections at once, as a failing network does."""
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    def close(self) -> None:
        """Listen no more."""
        assert self._server is not None
        self._server.close()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection(self._broker.host, self._broker.port)
        self._writers += (writer, inner_writer)
        await asyncio.gather(self._pass(reader, inner_writer), self._pass(inner_reader, writer))

    @staticmethod
    async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):  # either side may go first
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()


@on_asyncio
async def test_a_queue_iterator_receives_what_a_robust_channel_publishes(broker: Broker) -> None:
    async with await aio_pika.connect_robust(broker.url) as connection:
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=10)
        queue = await channel.declare_queue(exclusive=True)
        for number in range(200):
            message = Message(
                b"%d" % number, headers={"number": number}, delivery_mode=DeliveryMode.PERSISTENT
            )
            await channel.default_exchange.publish(message, queue.name)
        received = []
        async with queue.iterator(timeout=WAIT) as messages:
            async for message in messages:
                async with message.process():
                    received.append((message.body, message.headers["number"]))
                if len(received) == 200:
                    break
        assert received == [(b"%d" % number, number) for number in range(200)]


@on_asyncio
async def test_concurrent_publishes_are_each_confirmed(broker: Broker) -> None:
    async with await aio_pika.connect(broker.url) as connection:
        channel = await connection.channel(publisher_confirms=True)
        queue = await channel.declare_queue(exclusive=True)
        await asyncio.gather(
            *(channel.default_exchange.publish(Message(b"x"), queue.name) for _ in range(500))
        )
        assert (await channel.declare_queue(queue.name, passive=True)).declaration_result.message_count == 500


@on_asyncio
async def test_a_publish_that_reaches_no_queue_raises(broker: Broker, unique: str) -> None:
    async with await aio_pika.connect(broker.url) as connection:
        channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
        with pytest.raises(PublishError):
            await channel.default_exchange.publish(Message(b"lost"), unique, mandatory=True)


@on_asyncio
async def test_a_publish_that_a_full_queue_rejects_raises(broker: Broker) -> None:
    async with await aio_pika.connect(broker.url) as connection:
        channel = await connection.channel(publisher_confirms=True)
        arguments = {"x-max-length": 1, "x-overflow": "reject-publish"}
        queue = await channel.declare_queue(exclusive=True, arguments=arguments)
        await channel.default_exchange.publish(Message(b"1"), queue.name)
        with pytest.raises(DeliveryError):
            await channel.default_exchange.publish(Message(b"2"), queue.name)


@on_asyncio
async def test_message_processing_acks_requeues_and_rejects(broker: Broker) -> None:
    async with await aio_pika.connect(broker.url) as connection:
        channel = await connection.channel()
        dead = await channel.declare_queue(exclusive=True)
        queue = await channel.declare_queue(
            exclusive=True,
            arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead.name},
        )
        await channel.default_exchange.publish(Message(b"work"), queue.name)
        message = await queue.get(timeout=WAIT)
        with pytest.raises(LookupError):
            async with message.process(requeue=True):
                raise LookupError
        message = await queue.get(timeout=WAIT)
        assert message.redelivered
        with pytest.raises(LookupError):
            async with message.process(requeue=False):
                raise LookupError
        buried = await dead.get(timeout=WAIT, fail=True)
        async with buried.process():
            assert buried.body == b"work"
        assert await queue.get(fail=False) is None


@on_asyncio
async def test_a_transaction_block_commits_and_an_exception_in_it_rolls_back(broker: Broker) -> None:
    async with await aio_pika.connect(broker.url) as connection:
        channel = await connection.channel(publisher_confirms=False)
        queue = await channel.declare_queue(exclusive=True)
        transaction = channel.transaction()
        async with transaction:
            await channel.default_exchange.publish(Message(b"kept"), queue.name)

        async def fail() -> None:
            async with channel.transaction():
                await channel.default_exchange.publish(Message(b"forgotten"), queue.name)
                raise LookupError

        with pytest.raises(LookupError):
            await fail()
        message = await queue.get(timeout=WAIT, no_ack=True)
        assert message.body == b"kept"
        assert await queue.get(fail=False) is None


@on_asyncio
async def test_exchanges_bind_to_exchanges(broker: Broker, unique: str) -> None:
    async with await aio_pika.connect_robust(broker.url) as connection:
        channel = await connection.channel()
        outer = await channel.declare_exchange(unique + "-outer", ExchangeType.TOPIC, auto_delete=True)
        inner = await channel.declare_exchange(unique + "-inner", ExchangeType.FANOUT, auto_delete=True)
        queue = await channel.declare_queue(exclusive=True)
        await inner.bind(outer, routing_key="*.in")
        await queue.bind(inner)
        await outer.publish(Message(b"comes"), "comes.in")
        await outer.publish(Message(b"stays"), "stays.out", mandatory=False)
        message = await queue.get(timeout=WAIT, no_ack=True)
        assert (message.body, message.exchange) == (b"comes", unique + "-outer")
        assert await queue.get(fail=False) is None


@on_asyncio
async def test_an_inequivalent_declaration_closes_the_channel_and_it_can_be_reopened(
    broker: Broker, unique: str
) -> None:
    async with await aio_pika.connect(broker.url) as connection:
        channel = await connection.channel()
        await channel.declare_queue(unique, exclusive=True)
        with pytest.raises(ChannelPreconditionFailed):
            await channel.declare_queue(unique, exclusive=True, arguments={"x-max-length": 1})
        assert channel.is_closed
        await channel.reopen()
        await channel.declare_queue(unique, exclusive=True, passive=True)


@on_asyncio
async def test_a_robust_connection_restores_queues_bindings_and_consumers(
    broker: Broker, unique: str
) -> None:
    received: asyncio.Queue[bytes] = asyncio.Queue()

    async def on_message(message: aio_pika.abc.AbstractIncomingMessage) -> None:
        async with message.process():
            received.put_nowait(message.body)

    relay = Relay(broker)
    relayed = replace(broker, host="127.0.0.1", port=await relay.listen())
    connection = await aio_pika.connect_robust(relayed.url, reconnect_interval=0.1)
    restored = asyncio.Event()
    connection.reconnect_callbacks.add(lambda *_: restored.set())
    async with connection:
        channel = await connection.channel()
        exchange = await channel.declare_exchange(unique, ExchangeType.DIRECT, auto_delete=True)
        queue = await channel.declare_queue(unique, exclusive=True)
        await queue.bind(exchange, "key")
        await queue.consume(on_message)
        await exchange.publish(Message(b"before"), "key")
        assert await asyncio.wait_for(received.get(), WAIT) == b"before"
        relay.cut()
        await asyncio.wait_for(restored.wait(), WAIT)
        await channel.ready()
        await exchange.publish(Message(b"after"), "key")
        assert await asyncio.wait_for(received.get(), WAIT) == b"after"
    relay.close()


@on_asyncio
async def test_the_rpc_pattern_returns_results_and_raises_remote_errors(broker: Broker, unique: str) -> None:
    async def multiply(*, x: int, y: int) -> int:
        return x * y

    async def fail() -> None:
        raise ValueError("remote")

    async with await aio_pika.connect_robust(broker.url) as connection:
        rpc = await RPC.create(await connection.channel())
        await rpc.register(unique + "-multiply", multiply, auto_delete=True)
        await rpc.register(unique + "-fail", fail, auto_delete=True)
        results = await asyncio.gather(
            *(rpc.call(unique + "-multiply", {"x": number, "y": 2}) for number in range(100))
        )
        assert results == [2 * number for number in range(100)]
        with pytest.raises(ValueError, match="remote"):
            await rpc.call(unique + "-fail")
        await rpc.close()


@on_asyncio
async def test_an_rpc_without_a_reply_expires(broker: Broker, unique: str) -> None:
    async with await aio_pika.connect_robust(broker.url) as connection:
        channel = await connection.channel()
        rpc = await JsonRPC.create(channel)
        # What expires here goes back to the caller through the dead-letter exchange of the pattern.
        arguments = {"x-dead-letter-exchange": RPC.DLX_NAME}
        await channel.declare_queue(unique, exclusive=True, arguments=arguments)
        with pytest.raises(TimeoutError):
            await rpc.call(unique, expiration=1)
        await rpc.close()


@on_asyncio
async def test_the_master_worker_pattern_shares_tasks_and_drops_rejected_ones(
    broker: Broker, unique: str
) -> None:
    done: list[int] = []
    finished = asyncio.Event()

    async def work(*, number: int) -> None:
        if number % 10 == 0:
            raise RejectMessage(requeue=False)
        done.append(number)
        if len(done) == 90:
            finished.set()

    async with await aio_pika.connect_robust(broker.url) as connection:
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=5)
        master = Master(channel)
        workers = [await master.create_worker(unique, work, auto_delete=True) for _ in range(3)]
        for number in range(100):
            await master.create_task(unique, {"number": number})
        await asyncio.wait_for(finished.wait(), WAIT)
        assert sorted(done) == [number for number in range(100) if number % 10]
        for worker in workers:
            await worker.close()


@on_asyncio
async def test_pools_of_connections_and_channels_publish_at_once(broker: Broker) -> None:
    async def connect() -> aio_pika.abc.AbstractRobustConnection:
        return await aio_pika.connect_robust(broker.url)

    async def open_channel() -> aio_pika.abc.AbstractChannel:
        async with connections.acquire() as connection:
            return await connection.channel()

    connections: Pool[Any] = Pool(connect, max_size=3)
    channels: Pool[Any] = Pool(open_channel, max_size=12)
    async with await aio_pika.connect(broker.url) as own:
        queue = await (await own.channel()).declare_queue(auto_delete=True)

        async def publish(number: int) -> None:
            async with channels.acquire() as channel:
                await channel.default_exchange.publish(Message(b"%d" % number), queue.name)

        async with connections, channels:
            await asyncio.gather(*(publish(number) for number in range(300)))
            bodies = [(await queue.get(no_ack=True, timeout=WAIT)).body for _ in range(300)]
        assert sorted(bodies) == sorted(b"%d" % number for number in range(300))
        await queue.delete()
