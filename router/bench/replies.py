"""Benchmark of requests and replies over direct reply-to, in round trips a second.

Responsible for both ends: callers with one request at a time, and a process that answers each request at its
reply-to address.
"""

import contextlib
import time
from dataclasses import replace
from multiprocessing.connection import Connection as Pipe

from leveret.protocol.amqp import methods as m
from leveret.protocol.amqp.command import Delivery
from leveret.protocol.amqp.properties import Properties, decode_properties
from leveret.router.bench.benchmark_run import POLL, BenchResult, LatencySummary
from leveret.router.bench.load import STAMP, BenchError, BenchTarget, Load
from leveret.router.bench.processes import BenchRun, Counters, Meter, ProcessReport, latencies, receive, start
from leveret.router.bench.traffic import drafts
from leveret.router.bench.wire import CONSUMER_TAG, TIMEOUT, BlockingConnection, body_offset, publish

REPLY_TO = "amq.rabbitmq.reply-to"


def bench_replies(target: BenchTarget, load: Load, seconds: float, warm_up: float) -> BenchResult:
    """Run ``load.publishers`` callers and one process that answers; ``received`` of the result is the number
    of round trips a second. Raises BenchError, also if a reply belongs to another request.
    """
    run = BenchRun(target, load, Counters(load.publishers))
    histogram, report = latencies(), ProcessReport({}, 0, 0.0, 0.0)
    with contextlib.ExitStack() as stack:
        answering = start(stack, answer, run, 0)
        receive(answering, TIMEOUT)
        callers = [start(stack, call, run, number) for number in range(load.publishers)]
        for pipe in callers:
            receive(pipe, TIMEOUT)
        run.measure(time.monotonic() + warm_up, time.monotonic() + warm_up + seconds)
        for pipe in callers:
            pipe.send("go")
        for pipe in callers:
            more: ProcessReport = receive(pipe, seconds + warm_up + 2 * TIMEOUT)
            report.add(more)
            histogram.decode_and_add(more.latencies)
        answering.send("finish")
        answered: ProcessReport = receive(answering, TIMEOUT)
    if answered.counts != report.counts:
        raise BenchError(f"{report.counts} requests were answered, but {answered.counts} came")
    count = sum(report.counts.values())
    return BenchResult(
        report.rate,
        0.0,
        report.rate,
        count,
        count,
        report.cpu,
        answered.cpu,
        LatencySummary.of(histogram),
        report.seconds,
    )


def call(run: BenchRun, number: int, pipe: Pipe) -> None:
    """Send requests, each after the reply to the one before."""
    load, (queue, *_) = run.load, run.load.queue_names()
    connection, meter, histogram = BlockingConnection(run.target), Meter(run), latencies()
    connection.call(1, m.BasicConsume(REPLY_TO, CONSUMER_TAG, no_ack=True), m.BasicConsumeOk)
    requests = _requests(load, queue, connection.frame_max)
    pipe.send("ready")
    pipe.recv()
    count = 0
    while (now := time.monotonic()) < run.end:
        meter.note(count)
        request, offset, size = requests[count % len(requests)]
        begin = count.to_bytes(STAMP)
        request[offset : offset + STAMP] = begin
        connection.send(request)
        _, command = connection.next()
        if (
            not isinstance(command, Delivery)
            or command.message.size != size
            or not command.message.body.startswith(begin)
        ):
            raise BenchError(f"{command} came instead of the reply to request {count}")
        if now >= run.begin:
            histogram.record_value(max(1, round((time.monotonic() - now) * 1e6)))
        count += 1
    meter.note(count, end=True)
    connection.close()
    pipe.send(meter.report({queue: count}, 0, histogram.encode()))


def _requests(load: Load, queue: str, frame_max: int) -> list[tuple[bytearray, int, int]]:
    """Encode requests in turn, each with the offset and the size of its body, which begins with a number."""
    made = []
    for draft in drafts(replace(load, size=max(load.size, STAMP + 1)), queue):
        properties = decode_properties(draft.properties, 0)
        properties.reply_to = REPLY_TO
        properties.correlation_id = properties.correlation_id or "1"
        encoded = publish(1, ("", queue), properties, draft.body(0), frame_max)
        made.append((bytearray(encoded), body_offset(encoded), draft.size))
    return made


def answer(run: BenchRun, number: int, pipe: Pipe) -> None:
    """Send the body of each request to its reply-to address."""
    (queue, *_) = run.load.queue_names()
    connection, meter, count = BlockingConnection(run.target), Meter(run), 0
    connection.call(1, m.QueueDeclare(queue, exclusive=True), m.QueueDeclareOk)
    connection.call(1, m.BasicConsume(queue, CONSUMER_TAG, no_ack=True), m.BasicConsumeOk)
    pipe.send("ready")
    while not pipe.poll():
        if not connection.waits(POLL):
            continue
        _, command = connection.next()
        meter.note(count)
        if not isinstance(command, Delivery):
            raise BenchError(f"{command} came instead of a request")
        properties = command.message.properties
        reply = Properties(correlation_id=properties.correlation_id)
        connection.send(
            publish(1, ("", properties.reply_to or ""), reply, command.message.body, connection.frame_max)
        )
        count += 1
    meter.note(count, end=True)
    connection.close()  # which deletes the queue
    pipe.send(meter.report({queue: count}, 0))
