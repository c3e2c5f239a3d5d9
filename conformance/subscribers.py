"""How pages fare by the thousand: subscribers over WebSocket that all get what goes to one fanout exchange.

``python -m conformance.subscribers --subscribers 1000 --messages 100`` starts a broker, subscribes by AMQP
and then by STOMP, publishes over plain AMQP, and prints deliveries a second and what a subscriber costs the
broker in memory.

The subscribers share one process that looks at what they get as bytes: the headers of WebSocket frames are
stepped over, and each body carries its number, which must follow the one before. So every one must get every
message, in order.
"""

import argparse
import base64
import contextlib
import os
import re
import selectors
import socket
import statistics
import struct
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection as Pipe
from pathlib import Path

from conformance import brokers
from conformance.brokers import Broker
from leveret.protocol.amqp import methods as m
from leveret.protocol.amqp.codec import method_frame
from leveret.protocol.amqp.constants import PROTOCOL_HEADER
from leveret.protocol.amqp.properties import decode_properties
from leveret.router.bench.load import RAGGED, BenchError, BenchTarget, Load
from leveret.router.bench.processes import receive, start
from leveret.router.bench.traffic import Draft, drafts
from leveret.router.bench.wire import READ, TIMEOUT, BlockingConnection, publish_encoded

NUMBER = re.compile(rb"@(\d{8})@")
CUT = 9  # bytes of such a mark that may be at the end of a read
EXCHANGE = "amq.fanout"


@dataclass(frozen=True)
class Run:
    """So many subscribers, and messages with bodies of ``size`` bytes for all of them.

    ``path`` is where the broker takes WebSockets, if that is not where leveret does. ``over_stomp``: messages
    are published by STOMP over a WebSocket, else by AMQP.
    """

    broker: Broker
    protocol: str
    subscribers: int
    messages: int
    size: int = 100
    path: str = ""
    over_stomp: bool = False

    @property
    def load(self) -> Load:
        """Messages that differ, also in length."""
        return Load(self.size, exchange="fanout", kind=RAGGED)


@dataclass(frozen=True)
class Figures:
    """Deliveries a second; KiB that a subscriber takes up, and did at most while messages came."""

    rate: float
    idle: float
    peak: float


# -- what is said, as one WebSocket message of a client ------------------------------------------------------


def masked(payload: bytes) -> bytes:
    """A binary message with a mask of zeros, which leaves it as it is."""
    size = len(payload)
    length = bytes([0x80 | size]) if size < 126 else b"\xfe" + struct.pack(">H", size)
    return b"\x82" + length + bytes(4) + payload


def say_amqp(broker: Broker) -> bytes:
    """All that subscribing takes, without waiting for answers."""
    login = f"\0{broker.user}\0{broker.password}".encode()
    return b"".join(
        (
            PROTOCOL_HEADER,
            method_frame(0, m.ConnectionStartOk(response=login)),
            method_frame(0, m.ConnectionTuneOk(1, 131072, 0)),
            method_frame(0, m.ConnectionOpen(broker.vhost)),
            method_frame(1, m.ChannelOpen()),
            method_frame(1, m.QueueDeclare(exclusive=True)),
            method_frame(1, m.QueueBind("", EXCHANGE)),  # the queue that was declared last
            method_frame(1, m.BasicConsume("", "c", no_ack=True)),
        )
    )


def say_stomp(broker: Broker) -> bytes:
    """The same in STOMP."""
    login = f"login:{broker.user}\npasscode:{broker.password}\nhost:{broker.vhost}\n"
    connect = f"CONNECT\naccept-version:1.2\n{login}\n\0"
    subscribe = f"SUBSCRIBE\nid:0\ndestination:/exchange/{EXCHANGE}\nreceipt:bound\n\n\0"
    return (connect + subscribe).encode()


@dataclass(frozen=True)
class Protocol:
    """Where and how it is subscribed, and what is the last answer to that."""

    path: str
    name: str
    say: Callable[[Broker], bytes]
    done: bytes


PROTOCOLS = {
    "amqp": Protocol("/ws/amqp", "amqp", say_amqp, method_frame(1, m.BasicConsumeOk("c"))),
    "stomp": Protocol("/ws/stomp", "v12.stomp", say_stomp, b"RECEIPT\nreceipt-id:bound"),
}


# -- the subscribers -----------------------------------------------------------------------------------------


def open_websocket(run: Run) -> socket.socket:
    """Open a WebSocket of the run's protocol. Raises BenchError if the broker refuses it."""
    protocol = PROTOCOLS[run.protocol]
    made = socket.create_connection((run.broker.host, run.broker.http_port or 0), TIMEOUT)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    key = base64.b64encode(os.urandom(16)).decode()
    made.sendall(
        f"GET {run.path or protocol.path} HTTP/1.1\r\nHost: localhost\r\n"
        "Connection: Upgrade\r\nUpgrade: websocket\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
        f"Sec-WebSocket-Protocol: {protocol.name}\r\n\r\n".encode()
    )
    answer = read_until(made, b"\r\n\r\n")
    if not answer.startswith(b"HTTP/1.1 101"):
        raise BenchError(f"no WebSocket: {answer[:200]!r}")
    return made


def read_until(connection: socket.socket, end: bytes) -> bytes:
    """Return what is read up to and with ``end``."""
    data = b""
    while end not in data:
        if not (more := connection.recv(READ)):
            raise BenchError(f"the broker closed the connection: {data[-300:]!r}")
        data += more
    return data


class Subscriber:
    """One page: it counts the messages that follow one another from 0 on."""

    def __init__(self, run: Run) -> None:
        protocol = PROTOCOLS[run.protocol]
        self.count = 0
        self._tail = b""  # of the payload: where a mark may be cut
        self._frames = bytearray()
        self.socket = open_websocket(run)
        self.socket.sendall(masked(protocol.say(run.broker)))
        read_until(self.socket, protocol.done)

    def read(self) -> None:
        """Take what has come. Raises BenchError when a message is missing, or comes again."""
        data = self.socket.recv(READ)
        if not data:
            raise BenchError("the broker closed the connection")
        self._frames += data
        payload = self._tail + b"".join(iter(self._next_payload, b""))
        end = 0
        for found in NUMBER.finditer(payload):
            if int(found[1]) != self.count:
                raise BenchError(f"message {int(found[1])} came where {self.count} was due")
            self.count += 1
            end = found.end()
        self._tail = payload[max(end, len(payload) - CUT) :]

    def _next_payload(self) -> bytes:
        """The payload of the next whole frame, which is never empty here; nothing when there is none."""
        frames = self._frames
        if len(frames) < 2:
            return b""
        size, start = frames[1], 2
        if size > 125:
            start += 2 if size == 126 else 8
            size = int.from_bytes(frames[2:start])
        if len(frames) < start + size:
            return b""
        payload = bytes(frames[start : start + size])
        del frames[: start + size]
        return payload


def subscribe(run: Run, _number: int, pipe: Pipe) -> None:
    """Subscribe with all, say so, then count until each has everything; report when that was."""
    pages = [Subscriber(run) for _ in range(run.subscribers)]
    pipe.send(None)
    with selectors.DefaultSelector() as selector:
        for page in pages:
            selector.register(page.socket, selectors.EVENT_READ, page)
        waiting = len(pages)
        while waiting:
            ready = selector.select(TIMEOUT)
            if not ready:
                raise BenchError(f"{waiting} subscribers wait for messages")
            for key, _ in ready:
                key.data.read()
                if key.data.count == run.messages:
                    selector.unregister(key.fileobj)
                    waiting -= 1
    pipe.send(time.monotonic())
    pipe.recv()  # stay until the memory was looked at


# -- the measurement -----------------------------------------------------------------------------------------


def bodies(run: Run) -> list[tuple[Draft, bytes]]:
    """The messages of a run in their order, each with a body that holds its number."""
    drawn = drafts(run.load, "")
    made = []
    for number in range(run.messages):
        draft = drawn[number % len(drawn)]
        made.append((draft, f"@{number:08}@".encode().ljust(draft.size, b".")))
    return made


def as_amqp(run: Run, frame_max: int) -> bytes:
    """The messages as publishes."""
    return b"".join(
        publish_encoded(1, (EXCHANGE, draft.key), draft.properties, body, frame_max)
        for draft, body in bodies(run)
    )


def as_stomp(run: Run) -> bytes:
    """The messages as SEND frames, each a WebSocket message."""
    sent = []
    for draft, body in bodies(run):
        properties = decode_properties(draft.properties, 0)
        head = (
            f"SEND\ndestination:/exchange/{EXCHANGE}/{draft.key}\ncontent-type:{properties.content_type}\n"
            f"correlation-id:{properties.correlation_id}\ncontent-length:{len(body)}\n"
        )
        named = {name: value for name, value in (properties.headers or {}).items() if isinstance(value, str)}
        head += "".join(f"{name}:{value}\n" for name, value in named.items())
        sent.append(masked(f"{head}\n".encode() + body + b"\0"))
    return b"".join(sent)


@contextlib.contextmanager
def publisher(run: Run) -> Iterator[Callable[[], None]]:
    """What publishes all messages of a run, which are encoded beforehand."""
    broker = run.broker
    if run.over_stomp:
        connection = open_websocket(run)
        login = f"login:{broker.user}\npasscode:{broker.password}\nhost:{broker.vhost}\n"
        connection.sendall(masked(f"CONNECT\naccept-version:1.2\n{login}\n\0".encode()))
        read_until(connection, b"CONNECTED")
        frames = as_stomp(run)
        with connection:
            yield lambda: connection.sendall(frames)
        return
    target = BenchTarget(broker.host, broker.port, broker.user, broker.password, broker.vhost)
    client = BlockingConnection(target)
    publishes = as_amqp(run, client.frame_max)
    yield lambda: client.send(publishes)
    client.close()


def memory(pid: int | None, line: str) -> int:
    """A process's memory in KiB as the kernel says: VmRSS is now, VmHWM the most so far; 0 for None."""
    if pid is None:
        return 0
    text = Path(f"/proc/{pid}/status").read_text()
    return int(text.partition(f"{line}:")[2].split()[0])


def measure(run: Run) -> Figures:
    """One run on a broker that has no other clients. Raises BenchError when a message is lost or out of
    order.
    """
    pid = run.broker.pid
    with contextlib.ExitStack() as stack:
        publish_all = stack.enter_context(publisher(run))
        empty = memory(pid, "VmRSS")
        pipe = start(stack, subscribe, run, 0)
        receive(pipe, TIMEOUT + run.subscribers / 50)
        subscribed = memory(pid, "VmRSS")
        begin = time.monotonic()
        publish_all()
        end = receive(pipe, TIMEOUT + run.subscribers * run.messages / 1000)
        most = memory(pid, "VmHWM")
        pipe.send(None)
    rate = run.subscribers * run.messages / (end - begin)
    return Figures(rate, (subscribed - empty) / run.subscribers, (most - empty) / run.subscribers)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure each protocol on a broker of its own and print what was found."""
    parser = argparse.ArgumentParser(prog="python -m conformance.subscribers", description=__doc__)
    parser.add_argument("--subscribers", type=int, default=1000)
    parser.add_argument("--messages", type=int, default=100)
    parser.add_argument("--size", type=int, default=100, help="bytes of a body, 10 at least")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args(arguments)
    print(
        f"{given.subscribers} subscribers over WebSocket get {given.messages} messages of {given.size} bytes"
    )
    print(f"{'':8} {'deliveries/s':>14} {'KiB/subscriber':>16} {'KiB at most':>13}")
    for protocol in PROTOCOLS:
        figures = []
        for _ in range(given.rounds):
            with brokers.leveret() as broker:
                run = Run(broker, protocol, given.subscribers, given.messages, given.size)
                figures.append(measure(run))
        rate, idle, peak = (
            statistics.median(getattr(each, name) for each in figures) for name in ("rate", "idle", "peak")
        )
        print(f"{protocol:8} {rate:14,.0f} {idle:16.1f} {peak:13.1f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
