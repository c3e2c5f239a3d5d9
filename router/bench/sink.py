"""Measurement of the load generator itself, against a sink in place of a broker.

The sink answers the handshake, discards publishes (and confirms them by the read), and sends deliveries that
were encoded beforehand. Its own cost is that of a socket, so the figures are the ceiling of the generator.
"""

import contextlib
import math
import socket
from bisect import bisect_right
from dataclasses import replace
from multiprocessing.connection import Connection as Pipe

import msgspec

from leveret.protocol.amqp import methods as m
from leveret.protocol.amqp.codec import method_frame
from leveret.protocol.amqp.constants import PROTOCOL_HEADER
from leveret.protocol.amqp.encode import ack_frame
from leveret.protocol.amqp.reader import CommandReader
from leveret.router.bench.benchmark_run import drive
from leveret.router.bench.load import BLOCK, BenchError, BenchTarget, Load
from leveret.router.bench.processes import CONTEXT, receive
from leveret.router.bench.publisher import PublishBlock
from leveret.router.bench.traffic import drafts
from leveret.router.bench.wire import BODY_MAX, FRAME_MAX, READ, TIMEOUT, delivery

DELIVERIES = 2_000_000  # most deliveries for the consumer
BYTES = 1 << 30  # most bytes of these deliveries
LARGEST = 1 << 17  # maximum bytes of a body
CLOSE = method_frame(0, m.ConnectionClose(200, "done"))  # the same bytes as ``wire`` sends
PUBLISH = b"\x00\x3c\x00\x28"
ANSWERS: dict[type, m.Method] = {
    m.ConnectionStartOk: m.ConnectionTune(2047, FRAME_MAX, 0),
    m.ConnectionOpen: m.ConnectionOpenOk(),
    m.ChannelOpen: m.ChannelOpenOk(),
    m.ConfirmSelect: m.ConfirmSelectOk(),
    m.BasicQos: m.BasicQosOk(),
}


class Ceiling(msgspec.Struct, frozen=True):
    """Rates of one publisher and one consumer against a sink, in messages a second, and their CPU use in
    cores.
    """

    published: float
    received: float
    publisher_cpu: float
    consumer_cpu: float


def ceiling(load: Load, seconds: float) -> Ceiling:
    """Measure one publisher and then one consumer of a load, each against a sink. Raises BenchError."""
    if load.size > LARGEST:
        raise BenchError(f"the ceiling is measured with bodies of at most {LARGEST} bytes")
    alone = replace(
        load, publishers=1, consumers=1, queues=1, processes=1, exchange="default", new_keys=False
    )
    published = _against_sink(replace(alone, consumers=0), seconds, 0)
    block = _deliveries(alone)
    count = max(1, min(DELIVERIES // len(block), BYTES // sum(map(len, block)))) * len(block)
    received = _against_sink(replace(alone, publishers=0), seconds, count)
    return Ceiling(published[0], received[1], published[2], received[3])


def _against_sink(load: Load, seconds: float, count: int) -> tuple[float, float, float, float]:
    """Return the rates of publishing and receiving, and the CPU use of both sides."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        here, there = CONTEXT.Pipe()
        process = CONTEXT.Process(target=_sink, args=(listener, load, count, there), daemon=True)
        process.start()
        stack.callback(process.join)
        stack.callback(process.kill)
        target = BenchTarget("127.0.0.1", listener.getsockname()[1])
        result = drive(target, load, seconds, 0.2, there=count)
        taken = receive(here, TIMEOUT)
        if not count and taken != result.sent_in_all:
            raise BenchError(f"{result.sent_in_all} messages were sent to the sink, {taken} arrived")
    return result.published, result.received, result.publishers_cpu, result.consumers_cpu


def _sink(listener: socket.socket, load: Load, count: int, pipe: Pipe) -> None:
    """Serve one connection; report the number of publishes."""
    (name,) = load.queue_names()
    # Made before the clock of the generator starts.
    starts = [] if count else PublishBlock(load, 1, name, FRAME_MAX).starts
    deliveries = _deliveries(load) if count else []
    stream, _ = listener.accept()
    with stream:
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        reader = CommandReader(0, BODY_MAX)
        data = stream.recv(len(PROTOCOL_HEADER))
        stream.sendall(method_frame(0, m.ConnectionStart()))
        while data := stream.recv(READ):
            if data[7:11] == PUBLISH:
                pipe.send(_read_publishes(stream, data, starts, confirms=load.window > 0))
                break
            for channel, command in reader.receive(data):
                if type(command) in ANSWERS:
                    stream.sendall(method_frame(channel, ANSWERS[type(command)]))
                elif isinstance(command, m.BasicConsume):
                    _send_deliveries(stream, deliveries, count)
                    pipe.send(count)
                    return


def _read_publishes(stream: socket.socket, data: bytes, starts: list[int], *, confirms: bool) -> int:
    """Read publishes until the connection is closed; return their number. ``starts`` are those of a block."""

    def number(size: int) -> int:
        """Return how many publishes are complete after so many bytes."""
        blocks, rest = divmod(size, starts[-1])
        return blocks * (len(starts) - 1) + bisect_right(starts, rest) - 1

    total, view = len(data), memoryview(bytearray(READ))
    confirmed, end = 0, data
    while not end.endswith(CLOSE):
        if confirms and (complete := number(total)) > confirmed:
            confirmed = complete
            stream.sendall(ack_frame(1, confirmed, True))
        size = stream.recv_into(view)
        if not size:
            break
        total += size
        end = (end + view[max(0, size - len(CLOSE)) : size])[-len(CLOSE) :]
    if end.endswith(CLOSE):  # absent if the connection was lost before the close
        total -= len(CLOSE)
        stream.sendall(method_frame(0, m.ConnectionCloseOk()))
    return number(total)


def _deliveries(load: Load) -> list[bytes]:
    """Encode deliveries of the messages in turn: so many that tags and numbers go on when repeated."""
    (name,) = load.queue_names()
    drawn = drafts(load, name)
    return [
        delivery(
            1,
            ("", name),
            (draft := drawn[n % len(drawn)]).properties,
            draft.body(n),
            FRAME_MAX,
            tag=1 + n % BLOCK,
        )
        for n in range(math.lcm(BLOCK, len(drawn)))
    ]


def _send_deliveries(stream: socket.socket, deliveries: list[bytes], count: int) -> None:
    """Send ``count`` deliveries, these in turn, and discard the acknowledgements."""
    block = memoryview(b"".join(deliveries))
    stream.setblocking(False)
    for _ in range(count // len(deliveries)):
        unsent = block
        while unsent:
            with contextlib.suppress(BlockingIOError):
                while stream.recv(READ):
                    pass
            stream.settimeout(TIMEOUT)
            unsent = unsent[stream.send(unsent[:READ]) :]
            stream.setblocking(False)
    stream.settimeout(TIMEOUT)
    end = b""
    while not end.endswith(CLOSE) and (data := stream.recv(READ)):
        end = (end + data)[-len(CLOSE) :]
    stream.sendall(method_frame(0, m.ConnectionCloseOk()))
