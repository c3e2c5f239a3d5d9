"""Publishing side of a benchmark: blocks of publishes encoded once, sent as slices; confirms counted by the
read.

Responsible for the pace of publishing: the window of unconfirmed messages, the rate, the limit of the
backlog. Sending never blocks, so one process serves any number of connections.
"""

import math
import selectors
import time
from bisect import bisect_right
from itertools import accumulate
from multiprocessing.connection import Connection as Pipe
from struct import Struct

from leveret.protocol.amqp import methods as m
from leveret.router.bench.load import BLOCK, MARK, SAME, BenchError, Load
from leveret.router.bench.processes import BenchRun, Meter, low_bytes
from leveret.router.bench.traffic import drafts
from leveret.router.bench.wire import (
    FRAME_END,
    PATIENCE,
    READ,
    TIMEOUT,
    BlockingConnection,
    body_offset,
    publish_encoded,
    refusal,
)

# Most bytes of a block of equal messages with all the numbers that are written into it beforehand. If it
# would be larger, the block has each message once, and the numbers are written when it is sent.
LARGEST_BLOCK = 4 << 20
MANY = 2048  # publishes in a block of small messages that are all alike
PIECE = 1 << 18  # bytes for one send
BACKLOG_CHECK = 0.0005  # seconds between two looks at the backlog
SELECTABLE = 1024  # files below this number can be given to select()
CONFIRM = Struct(">BHIHHQBB")
_stamp = Struct(">Q").pack_into


class PublishBlock:
    """Publishes of the messages of a pool, with the numbers from 0 on, encoded one after another."""

    def __init__(self, load: Load, channel: int, queue: str, frame_max: int) -> None:
        drawn, name = drafts(load, queue), queue if load.exchange == "default" else ""

        def encoded(number: int) -> bytes:
            draft = drawn[number % len(drawn)]
            route = load.exchange_name, draft.key or name
            return publish_encoded(channel, route, draft.properties, draft.body(number), frame_max)

        self.count = _count(load, len(drawn), len(encoded(0)))
        self._numbered = self.count % BLOCK == 0
        pieces = [encoded(number) for number in range(self.count)]
        # where each publish begins, and the end of the last one
        self.starts = list(accumulate(map(len, pieces), initial=0))
        self._bodies = [start + body_offset(each) for start, each in zip(self.starts, pieces, strict=False)]
        self._template = b"".join(pieces)
        self._data = memoryview(bytearray(self._template))
        self._stamped = load.stamped
        self._new_keys = load.new_keys

    def part(self, number: int, count: int, now: int) -> tuple[int, memoryview]:
        """Return publishes from this number on: ``count``, or as many as ``PIECE`` and the block have.

        Return how many, and their bytes, which are valid until the next call. ``now`` (ns) is written into
        those that have a timestamp.
        """
        start = number % self.count
        fitting = bisect_right(self.starts, self.starts[start] + PIECE) - 1 - start
        count = max(1, min(count, self.count - start, fitting))
        if self._new_keys and not start:
            data = self._template.replace(MARK, b"%08x" % (number // self.count))
            self._data = memoryview(bytearray(data))
        if not self._numbered:
            for place in range(start, start + count):
                self._data[self.starts[place + 1] - 2] = (number + place - start) % BLOCK
        if every := self._stamped:
            for place in range(start + -number % every, start + count, every):
                _stamp(self._data, self._bodies[place], now)
        return count, self._data[self.starts[start] : self.starts[start + count]]


def _count(load: Load, drawn: int, step: int) -> int:
    """Return how many publishes a block has, with so many different ones, the first of ``step`` bytes."""
    if load.kind != SAME:
        return drawn
    whole = math.lcm(BLOCK, drawn)
    whole *= max(1, MANY // whole if whole * step <= PIECE // 2 else 1)
    return whole if whole * step <= LARGEST_BLOCK else drawn


class PublishLane:
    """One channel that publishes to one queue or exchange. Confirms may arrive in any order, each for one
    message or for all up to it.
    """

    def __init__(self, load: Load, channel: int, queue: str, frame_max: int) -> None:
        self.queue = queue
        self.sent = 0
        self.block = PublishBlock(load, channel, queue, frame_max)
        self._window = load.window or math.inf
        self._through = 0  # all numbers up to this one are confirmed
        self._ahead: set[int] = set()  # confirmed numbers beyond ``_through``

    @property
    def confirmed(self) -> int:
        return self._through + len(self._ahead)

    def confirm(self, number: int, *, multiple: int) -> None:
        """Count a confirm. Raises BenchError if it is for an unsent or already confirmed message."""
        if not self._through < number <= self.sent or number in self._ahead:
            where = self.queue or "the exchange"
            raise BenchError(f"{number} of {self.sent} to {where} was confirmed again or before it was sent")
        if multiple:
            self._through = number
            self._ahead = {each for each in self._ahead if each > self._through}
        else:
            self._ahead.add(number)
        while self._through + 1 in self._ahead:
            self._through += 1
            self._ahead.remove(self._through)

    def take(self, limit: float, now: int) -> list[bytes | memoryview]:
        """Return the publishes that may be sent now, ``limit`` at most; valid until the next call."""
        room = min(self._window - (self.sent - self.confirmed) if self._window < math.inf else limit, limit)
        parts: list[bytes | memoryview] = []
        while room >= 1:
            if parts:
                parts[-1] = bytes(parts[-1])  # the block is about to be overwritten
            count, part = self.block.part(self.sent, int(min(room, self.block.count)), now)
            self.sent += count
            room -= count
            parts.append(part)
            if self._window == math.inf:
                break
        return parts


class PublishConnection:
    """A publishing connection with a channel for each of its lanes."""

    def __init__(self, run: BenchRun, queues: list[str]) -> None:
        load = run.load
        self.connection = BlockingConnection(run.target, len(queues))
        frame_max = self.connection.frame_max
        self.lanes = [PublishLane(load, number, name, frame_max) for number, name in enumerate(queues, 1)]
        if load.window:
            requests = [(number, m.ConfirmSelect()) for number in range(1, len(queues) + 1)]
            self.connection.call_all(requests, m.ConfirmSelectOk)
        self.socket = self.connection.socket
        self.socket.setblocking(False)
        self.unsent = memoryview(b"")
        self.confirms = bool(load.window)
        self._received = bytearray()

    @property
    def sent(self) -> int:
        return sum([lane.sent for lane in self.lanes])

    def refill(self, limit: float) -> None:
        """Prepare up to ``limit`` messages for sending, as far as the limits allow."""
        now = time.monotonic_ns()
        parts: list[bytes | memoryview] = []
        for lane in self.lanes:
            if limit < 1:
                break
            before = lane.sent
            parts += lane.take(limit, now)
            limit -= lane.sent - before
        if parts:
            self.unsent = memoryview(parts[0] if len(parts) == 1 else b"".join(parts))

    def flush(self) -> None:
        """Send as much as the socket accepts."""
        try:
            while self.unsent:
                self.unsent = self.unsent[self.socket.send(self.unsent[:PIECE]) :]
        except BlockingIOError:
            pass

    def take(self) -> None:
        """Read and count confirms."""
        data = self.socket.recv(READ)
        received = self._received
        received += data
        whole = len(received) - len(received) % CONFIRM.size
        for _, channel, size, kind, name, number, multiple, end in CONFIRM.iter_unpack(received[:whole]):
            if (size, kind, name, end) != (13, 60, 80, FRAME_END) or not self.confirms:
                break
            self.lanes[channel - 1].confirm(number, multiple=multiple)
        else:
            if data:
                del received[:whole]
                return
        raise BenchError(refusal(bytes(received)) or "the broker closed the connection or refused a publish")


class PublisherProcess:
    """The publishers of one process. ``number`` is the number of the process."""

    def __init__(self, run: BenchRun, number: int) -> None:
        load = run.load
        self.run = run
        self.links = [
            PublishConnection(run, queues) for queues in load.publishes_to()[number :: load.processes]
        ]
        self.lanes = [lane for link in self.links for lane in link.lanes]
        self.sent = self.confirmed = 0
        self._most = load.count * len(self.lanes)
        self._rate = load.rate * len(self.links) / (load.publishers or 1)
        # select() has timeouts below a millisecond, which a rate and a backlog need.
        precise = not load.window and all(link.socket.fileno() < SELECTABLE for link in self.links)
        self._selector = selectors.SelectSelector() if precise else selectors.DefaultSelector()
        for link in self.links:
            self._selector.register(link.socket, selectors.EVENT_READ, link)
        self._started = self._moved = 0.0

    def begin(self) -> None:
        """Start publishing."""
        self._started = self._moved = time.monotonic()

    def turn(self, now: float) -> bool:
        """Send and receive as much as is possible now, and wait for more. Return False after all messages are
        sent and confirmed.
        """
        room = self._room(now)
        if room >= 1:
            self._fill(room)
        blocked = any(link.unsent for link in self.links)
        over = not blocked and (now >= self.run.end or self.sent >= self._most)
        if over and (not self.run.load.window or self.confirmed == self.sent):
            return False
        self._wait(now, TIMEOUT if blocked or over else self._pause(now, room))
        if self.run.load.window:
            self.confirmed = sum([lane.confirmed for lane in self.lanes])
        return True

    def _room(self, now: float) -> float:
        """Return the number of messages that may be sent now."""
        load, counters = self.run.load, self.run.counters
        room = self._most - self.sent
        if now >= self.run.end:
            return 0
        if self._rate:
            room = min(room, int((now - self._started) * self._rate) - self.sent)
        if not load.window and load.consumers:
            waiting = load.expected(sum(counters.sent)) - sum(counters.received)
            room = min(room, (load.backlog - waiting) / load.copies)
        return room

    def _pause(self, now: float, room: float) -> float:
        """Return the seconds to wait for incoming data before more may be sent."""
        if self._rate:
            return max(0.0, self._started + (self.sent + 1) / self._rate - now)
        if self.run.load.window:
            return TIMEOUT
        return 0 if room >= 1 else BACKLOG_CHECK

    def _fill(self, room: float) -> None:
        """Refill each publisher that has nothing left to send."""
        for link in self.links:
            if not link.unsent:
                before = link.sent
                link.refill(max(1, room / len(self.links)))
                link.flush()
                self.sent += link.sent - before
                if link.unsent:
                    self._selector.modify(link.socket, selectors.EVENT_READ | selectors.EVENT_WRITE, link)

    def _wait(self, now: float, timeout: float) -> None:
        """Wait for sockets, take confirms and send on. Raises BenchError if nothing moves for too long."""
        found = self._selector.select(timeout)
        if found or not (self.run.load.window or timeout == TIMEOUT):
            self._moved = now
        elif now - self._moved > 2 * TIMEOUT:
            raise BenchError(f"the broker accepted and confirmed nothing for {2 * TIMEOUT:.0f} s")
        for key, events in found:
            link = key.data
            if events & selectors.EVENT_READ:
                link.take()
            if events & selectors.EVENT_WRITE:
                link.flush()
                if not link.unsent:
                    self._selector.modify(link.socket, selectors.EVENT_READ, link)

    def close(self) -> None:
        """Close all connections in good order."""
        for link in self.links:
            link.socket.settimeout(PATIENCE)
            link.connection.close()


def publish_all(run: BenchRun, number: int, pipe: Pipe) -> None:
    """Publish until the run ends and all messages are confirmed; report the results."""
    side, meter, counters, confirms = PublisherProcess(run, number), Meter(run), run.counters, run.load.window
    pipe.send("ready")
    pipe.recv()
    side.begin()
    meter.note(0)
    while side.turn(time.monotonic()):
        counters.sent[number] = side.sent
        counters.confirmed[number] = side.confirmed
        meter.note(side.confirmed if confirms else side.sent)
    counters.sent[number] = side.sent
    meter.note(side.confirmed if confirms else side.sent, end=True)
    counts: dict[str, int] = {}
    for lane in side.lanes:
        counts[lane.queue] = counts.get(lane.queue, 0) + lane.sent
    # Report before the broker has answered to the close, which may take it long.
    pipe.send(meter.report(counts, sum(low_bytes(lane.sent) for lane in side.lanes)))
    side.close()
