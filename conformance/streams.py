"""How fast streams are appended to and replayed over AMQP 0-9-1, beside another broker.

python -m conformance.streams --count 1000000 --broker leveret --broker rabbitmq

For each broker in turn, with its files on the same disk: one publisher appends messages with confirms, a
window of them unconfirmed at most; one reader replays the stream from offset 0; then ten readers do at once.
Readers have a prefetch of 2000 and acknowledge every 500. Publisher and readers are processes of their own:
publishes are encoded once, deliveries, all equally long (the kind ``varied``), are counted by dividing the
received bytes. Each reader checks the first delivery and the last, offset and body, and the number of bytes.
"""

import argparse
import struct
import time
from multiprocessing import get_context
from multiprocessing.connection import Connection as Pipe

from conformance.bench import sides
from leveret.protocol.amqp import methods as m
from leveret.protocol.amqp.codec import method_frame
from leveret.protocol.amqp.command import Delivery
from leveret.protocol.amqp.reader import CommandReader
from leveret.router.bench.load import VARIED, BenchError, BenchTarget, Load
from leveret.router.bench.traffic import drafts
from leveret.router.bench.wire import READ, BlockingConnection, publish_encoded

STREAM = "speed"
SIZE = 100  # bytes of a body; the first eight tell its number
WINDOW = 20_000  # publishes that may be unconfirmed
CHUNK = 1000  # publishes in one send
PREFETCH, EVERY = 2000, 500
READERS = 10
SPAWN = get_context("spawn")


def publish(target: BenchTarget, count: int) -> float:
    """Append so many messages; return the seconds until the last was confirmed."""
    connection = BlockingConnection(target)
    connection.call(
        1, m.QueueDeclare(STREAM, durable=True, arguments={"x-queue-type": "stream"}), m.QueueDeclareOk
    )
    connection.call(1, m.ConfirmSelect(), m.ConfirmSelectOk)
    drawn = drafts(Load(SIZE, True, kind=VARIED), "")[:CHUNK]
    encoded = [publish_encoded(1, ("", STREAM), each.properties, bytes(SIZE), 0) for each in drawn]
    size = len(encoded[0])
    chunk, body = bytearray(b"".join(encoded)), size - 1 - SIZE
    began = time.perf_counter()
    sent = confirmed = 0
    while confirmed < count:
        if sent < count and sent - confirmed <= WINDOW - CHUNK:
            some = min(CHUNK, count - sent)
            for index in range(some):
                struct.pack_into(">Q", chunk, index * size + body, sent + index)
            connection.send(bytes(chunk[: some * size]))
            sent += some
            if sent < count and not connection.waits(0):
                continue
        _, command = connection.next()
        if isinstance(command, m.BasicNack):
            raise BenchError("a publish was refused")
        if isinstance(command, m.BasicAck):
            confirmed = command.delivery_tag if command.multiple else confirmed + 1
    seconds = time.perf_counter() - began
    connection.close()
    return seconds


def delete(target: BenchTarget) -> None:
    """Delete the stream."""
    connection = BlockingConnection(target)
    connection.call(1, m.QueueDelete(STREAM), m.QueueDeleteOk)
    connection.close()


def replay(target: BenchTarget, count: int, pipe: Pipe) -> None:
    """Read so many messages from offset 0; send the moments of the start and of the end."""
    connection = BlockingConnection(target)
    connection.call(1, m.BasicQos(prefetch_count=PREFETCH), m.BasicQosOk)
    pipe.send("ready")
    pipe.recv()
    began = time.perf_counter()
    arguments = {"x-stream-offset": "first"}
    connection.send(method_frame(1, m.BasicConsume(STREAM, "c", arguments=arguments)))
    last = _drain(connection, count)
    seconds = time.perf_counter() - began
    _check(last, count - 1)
    pipe.send((began, began + seconds))
    connection.socket.close()


def _drain(connection: BlockingConnection, count: int) -> bytes:
    """Receive so many deliveries behind the answer to the consume, acknowledging them; return the last."""
    buffer = bytearray(READ)
    view = memoryview(buffer)
    kept = bytearray()
    beginning = len(method_frame(1, m.BasicConsumeOk("c")))
    size = 0
    pending = -beginning  # bytes of deliveries
    acked = 0
    while not size or pending < count * size:
        got = connection.socket.recv_into(buffer)
        if not got:
            raise BenchError("the broker closed the connection")
        pending += got
        kept += view[:got]
        if not size and pending > 1000:
            size = _size(bytes(kept[beginning:]))
        if size:
            del kept[: len(kept) - READ - 2 * size]
            whole = pending // size
            if whole - acked >= EVERY:
                acked = whole - whole % EVERY
                connection.send(method_frame(1, m.BasicAck(acked, multiple=True)))
    end = len(kept) - (pending - count * size)  # more may have come than is wanted
    return bytes(kept[end - size : end])


def _size(data: bytes) -> int:
    """The bytes of the first delivery; it is checked."""
    _, first = CommandReader(0, 1 << 40).receive(data)[0]
    assert isinstance(first, Delivery)
    size = len(method_frame(1, first.method)) + len(first.message.frames)
    _check(data[:size], 0)
    return size


def _check(data: bytes, number: int) -> None:
    """The bytes are the delivery of this message."""
    ((_, delivery),) = CommandReader(0, 1 << 40).receive(data)
    assert isinstance(delivery, Delivery)
    assert delivery.message.headers["x-stream-offset"] == number, (delivery.message.headers, number)
    assert struct.unpack_from(">Q", delivery.message.body)[0] == number


def replay_all(target: BenchTarget, count: int, readers: int) -> float:
    """Have so many readers replay at once; return the seconds from the first's start to the last's end."""
    pipes, processes = [], []
    for _ in range(readers):
        ours, theirs = SPAWN.Pipe()
        process = SPAWN.Process(target=replay, args=(target, count, theirs), daemon=True)
        process.start()
        theirs.close()  # so that the end of the process is seen
        pipes.append(ours)
        processes.append(process)
    for pipe in pipes:
        pipe.recv()
    for pipe in pipes:
        pipe.send("go")
    times = [pipe.recv() for pipe in pipes]  # EOFError when one has failed
    for process in processes:
        process.join()
    return max(end for _, end in times) - min(began for began, _ in times)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m conformance.streams", description=main.__doc__)
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--readers", type=int, default=READERS)
    parser.add_argument(
        "--replay", type=int, default=1_000_000, help="messages that each reader reads, at most"
    )
    parser.add_argument("--broker", action="append", help="leveret, rabbitmq or a URL")
    given = parser.parse_args()
    for what in given.broker or ["leveret", "rabbitmq"]:
        with sides.start(what) as side:
            empty = side.resident() if side.resident else 0
            seconds = publish(side.target, given.count)
            print(f"{what}: append {given.count / seconds:,.0f} messages/s ({seconds:.1f} s)", flush=True)
            if side.resident:
                now = side.resident()
                print(f"{what}: memory {empty >> 20} MB empty, {now >> 20} MB then", flush=True)
            count = min(given.count, given.replay)
            for readers in (1, given.readers):
                took = replay_all(side.target, count, readers)
                rate = count * readers / took
                print(f"{what}: {readers} readers {rate:,.0f} messages/s ({took:.1f} s)", flush=True)
            if side.resident:
                print(f"{what}: memory {side.resident() >> 20} MB after that", flush=True)


if __name__ == "__main__":
    main()
