"""Measurement of one workload of the core benchmark."""

import gc
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from leveret.protocol.amqp import methods as m
from leveret.protocol.amqp.command import Delivery
from leveret.protocol.amqp.table import Table
from leveret.router.bench.load import BenchError
from leveret.router.bench.wire import CONSUMER_TAG
from leveret.router.core_bench.memory_broker import MemoryBroker, MemoryClient
from leveret.router.core_bench.workloads import CoreWorkload, Script, TrafficSlice


@dataclass(frozen=True, slots=True)
class Setup:
    """A broker with the topology of a workload, a publisher and a consumer, and what they send."""

    script: Script
    broker: MemoryBroker
    publisher: MemoryClient
    consumer: MemoryClient

    def prepare(self, read: TrafficSlice) -> None:
        """Let the broker handle the publishes that are not timed, if the workload only reads a stream."""
        if self.script.workload.reads_only:
            self.publisher.send(read.publishes)

    def run(self, read: TrafficSlice) -> None:
        """Let the broker handle a read of the publisher and the following one of the consumer."""
        if not self.script.workload.reads_only:
            self.publisher.send(read.publishes)
        if read.acks:
            self.consumer.send(read.acks)

    def forget(self) -> None:
        """Forget what the broker has sent to both."""
        self.publisher.outbox.parts.clear()
        self.consumer.outbox.parts.clear()


def set_up(workload: CoreWorkload, traffic: str) -> Setup:
    """Declare the topology of a workload, and run a pass that is checked.

    Raises BenchError if not every message is delivered and confirmed.
    """
    script = Script(workload, traffic)
    load, broker = script.load, MemoryBroker()
    publisher, consumer = broker.connect(), broker.connect(load.queues)
    _declare(publisher, script)
    _subscribe(consumer, script)
    made = Setup(script, broker, publisher, consumer)
    made.forget()
    _check(made)
    return made


def measure(workload: CoreWorkload, traffic: str, passes: int) -> float:
    """Return the CPU time of a message in us: the least of so many passes. Raises as ``set_up``."""
    setup, least = set_up(workload, traffic), math.inf
    with _without_garbage_collection():
        for _ in range(passes):
            least = min(least, _pass(setup))
            setup.broker.flush()
    return least / setup.script.count * 1e6


def _declare(client: MemoryClient, script: Script) -> None:
    load = script.load
    arguments: Table = {"x-queue-type": "stream"} if script.workload.stream else {}
    names, exchange = load.queue_names(), load.exchange_name
    if exchange:
        client.call(m.ExchangeDeclare(exchange, load.exchange_type))
    for name in names:
        client.call(m.QueueDeclare(name, durable=load.persistent, arguments=arguments))
    for number, key, arguments in load.bound():
        client.call(m.QueueBind(names[number], exchange, key, arguments=arguments))
    if load.window:
        client.call(m.ConfirmSelect())


def _subscribe(client: MemoryClient, script: Script) -> None:
    load = script.load
    for number, name in enumerate(load.queue_names() if load.consumers else (), 1):
        client.call(m.BasicQos(0, script.prefetch), number)
        client.call(m.BasicConsume(name, CONSUMER_TAG, no_ack=not load.ack), number)


def _check(setup: Setup) -> None:
    """Run a pass and compare what came with what was sent. Raises BenchError."""
    sent = received = 0
    load = setup.script.load
    for read in setup.script.reads():
        setup.prepare(read)
        setup.run(read)
        sent += read.count
        received += len([each for each in setup.consumer.commands() if isinstance(each, Delivery)])
        confirmed = [each for each in setup.publisher.commands() if isinstance(each, m.BasicAck)]
        if load.window and max((each.delivery_tag for each in confirmed), default=0) != sent:
            raise BenchError(f"{sent} messages were published, the last confirms are {confirmed[-3:]}")
    expected = load.expected(sent) if load.consumers else 0
    if received != expected:
        raise BenchError(f"{expected} messages should have come, {received} did")


def _pass(setup: Setup) -> float:
    """Return the CPU time of a pass in seconds, without that of the clients."""
    total = 0.0
    for read in setup.script.reads():
        setup.prepare(read)
        began = time.process_time()
        setup.run(read)
        total += time.process_time() - began
        setup.forget()
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
