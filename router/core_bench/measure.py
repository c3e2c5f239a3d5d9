"""Measurement of one workload of the core benchmark."""

import gc
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager

from leveret.protocol.amqp import methods as m
from leveret.protocol.amqp.command import Delivery
from leveret.router.bench.load import BenchError, Load
from leveret.router.bench.wire import CONSUMER_TAG
from leveret.router.core_bench.memory_broker import MemoryBroker, MemoryClient
from leveret.router.core_bench.workloads import CoreWorkload, Script


def measure(workload: CoreWorkload, kind: str, passes: int) -> float:
    """Return the CPU time of a message in us: the least of so many passes, after one that is checked.

    Raises BenchError if not every message is delivered and confirmed.
    """
    script = Script(workload, kind)
    load, broker = script.load, MemoryBroker()
    publisher, consumer = broker.connect(), broker.connect(load.queues)
    _declare(publisher, load)
    _subscribe(consumer, load)
    publisher.take()
    consumer.take()
    _check(script, publisher, consumer)
    least = math.inf
    with _without_garbage_collection():
        for _ in range(passes):
            least = min(least, _pass(script, publisher, consumer))
            broker.flush()
    return least / script.count * 1e6


def _declare(client: MemoryClient, load: Load) -> None:
    names, exchange = load.queue_names(), load.exchange_name
    if exchange:
        client.call(m.ExchangeDeclare(exchange, load.exchange_type))
    for name in names:
        client.call(m.QueueDeclare(name, durable=load.persistent))
    for number, key, arguments in load.bound():
        client.call(m.QueueBind(names[number], exchange, key, arguments=arguments))
    if load.window:
        client.call(m.ConfirmSelect())


def _subscribe(client: MemoryClient, load: Load) -> None:
    for number, name in enumerate(load.queue_names(), 1):
        client.call(m.BasicQos(0, 0), number)
        client.call(m.BasicConsume(name, CONSUMER_TAG, no_ack=not load.ack), number)


def _check(script: Script, publisher: MemoryClient, consumer: MemoryClient) -> None:
    """Run a pass and compare what came with what was sent. Raises BenchError."""
    sent = received = 0
    for read in script.reads():
        publisher.send(read.publishes)
        sent += read.count
        came = [command for command in consumer.commands() if isinstance(command, Delivery)]
        received += len(came)
        confirmed = [command for command in publisher.commands() if isinstance(command, m.BasicAck)]
        if script.load.window and max((each.delivery_tag for each in confirmed), default=0) != sent:
            raise BenchError(f"{sent} messages were published, the last confirms are {confirmed[-3:]}")
        if read.acks:
            consumer.send(read.acks)
    if received != script.load.expected(sent):
        raise BenchError(f"{script.load.expected(sent)} messages should have come, {received} did")


def _pass(script: Script, publisher: MemoryClient, consumer: MemoryClient) -> float:
    """Return the CPU time of a pass in seconds, without that of the clients."""
    total = 0.0
    for read in script.reads():
        began = time.process_time()
        publisher.send(read.publishes)
        if read.acks:
            consumer.send(read.acks)
        total += time.process_time() - began
        publisher.outbox.parts.clear()
        consumer.outbox.parts.clear()
    return total


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """Collect before the block, not in it: collecting young objects only costs a broker little."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
