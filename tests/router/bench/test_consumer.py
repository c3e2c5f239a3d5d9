"""What the consuming side counts, and what it must notice: lost, repeated, swapped and changed deliveries."""

import time

import pytest

from leveret.protocol.amqp import methods as m
from leveret.protocol.amqp.codec import method_frame
from leveret.protocol.amqp.properties import Properties
from leveret.router.bench.consumer import ConsumeConnection, ConsumerProcess
from leveret.router.bench.load import BenchError, BenchTarget, Load
from leveret.router.bench.processes import BenchRun, Counters
from leveret.router.bench.wire import delivery, refusal

SIZE = 20
PROPERTIES = Properties(delivery_mode=1)
FRAME_MAX = 131072


class Stream:
    """A connection that brings these bytes, in reads of ``step``; also its own socket."""

    def __init__(self, data: bytes, step: int) -> None:
        self.socket = self
        self.frame_max = FRAME_MAX
        self.sent: list[bytes] = []
        self._data = data
        self._step = step

    def recv_into(self, view):
        piece, self._data = self._data[: self._step], self._data[self._step :]
        view[: len(piece)] = piece
        return len(piece)

    def send(self, data):
        self.sent.append(data)

    def close(self):
        pass


@pytest.fixture
def consume(monkeypatch):
    """Have a link with these queues read a stream to its end; return the link."""

    def run(data: bytes, step: int, load: Load) -> ConsumeConnection:
        stream = Stream(data, step)
        monkeypatch.setattr(
            "leveret.router.bench.consumer.BlockingConnection", lambda target, channels: stream
        )
        now = time.monotonic()
        running = BenchRun(BenchTarget("none"), load, Counters(1))
        running.measure(now - 10, now + 1000)
        side = ConsumerProcess(running, 0)
        (link,) = side.links
        for _ in range(0, len(data), step):
            link.take()
        return link

    return run


def stream(deliveries, load):
    """Deliveries of channel, tag and number."""
    made = []
    for channel, tag, number in deliveries:
        body = time.monotonic_ns().to_bytes(8) + b"x" * (load.size - 9) + bytes([number % 256])
        route = "", load.queue_names()[channel - 1]
        made.append(delivery(channel, route, PROPERTIES, body, FRAME_MAX, tag=tag))
    return b"".join(made)


def plain(numbers):
    return [(1, place, number) for place, number in enumerate(numbers, 1)]


ONE = Load(size=SIZE)
TWO = Load(size=SIZE, queues=2)
MIXED = [(1 + number % 2, 1 + number // 2, number // 2) for number in range(600)]
STEPS = [7, 100, 4096, 1 << 17]


@pytest.mark.parametrize("step", STEPS)
def test_deliveries_of_one_queue_are_counted_whatever_the_reads_cut(consume, step):
    link = consume(stream(plain(range(1000)), ONE), step, ONE)
    link.finish()
    assert [lane.count for lane in link.lanes.values()] == [1000]


@pytest.mark.parametrize("step", STEPS)
def test_deliveries_of_several_queues_are_counted(consume, step):
    link = consume(stream(MIXED, TWO), step, TWO)
    link.finish()
    assert [lane.count for lane in link.lanes.values()] == [300, 300]


@pytest.mark.parametrize("step", [1 << 17, 4096])
@pytest.mark.parametrize(
    "deliveries",
    [
        pytest.param(plain(range(1000))[:500] + plain(range(1000))[501:], id="a tag left out"),
        pytest.param(plain([*range(500), *range(501, 1000)]), id="lost"),
        pytest.param(plain([*range(500), *range(499, 1000)]), id="repeated"),
        pytest.param(plain([*range(500), 501, 500, *range(502, 1000)]), id="swapped"),
        pytest.param([(1, 2, 1)], id="not the first"),
    ],
)
def test_a_wrong_order_is_noticed(consume, deliveries, step):
    with pytest.raises(BenchError):
        consume(stream(deliveries, ONE), step, ONE)


@pytest.mark.parametrize(
    "deliveries",
    [
        pytest.param(MIXED[:500] + MIXED[501:], id="lost"),
        pytest.param(MIXED[:500] + MIXED[499:], id="repeated"),
        pytest.param([*MIXED[:500], MIXED[502], MIXED[500]], id="swapped"),
        pytest.param([(3, 1, 0)], id="of no channel"),
    ],
)
def test_a_wrong_order_within_a_queue_is_noticed(consume, deliveries):
    load = Load(size=SIZE, queues=3) if deliveries[0][0] == 3 else TWO
    with pytest.raises(BenchError):
        consume(stream(deliveries, load), 4096, TWO)


def test_a_changed_frame_is_noticed(consume):
    data = bytearray(stream(plain(range(100)), ONE))
    data[-1] ^= 1
    with pytest.raises(BenchError):
        consume(bytes(data), 4096, ONE)


def test_where_publishers_share_a_queue_the_sum_of_numbers_tells_what_came(consume):
    load = Load(size=SIZE, publishers=2)
    numbers = [number // 2 for number in range(600)]
    link = consume(stream(plain(numbers), load), 4096, load)
    assert link.checksum() == sum(number % 256 for number in numbers)


def test_half_a_delivery_at_the_end_is_noticed(consume):
    link = consume(stream(plain(range(10)), ONE)[:-5], 4096, ONE)
    with pytest.raises(BenchError):
        link.finish()


@pytest.mark.parametrize(("load", "channels"), [(ONE, 1), (TWO, 2)])
def test_the_stamped_ones_tell_how_long_they_took(consume, load, channels):
    deliveries = plain(range(130)) if channels == 1 else [(1 + n % 2, 1 + n // 2, n // 2) for n in range(260)]
    link = consume(stream(deliveries, load), 4096, load)
    assert link._side.latencies.total_count == 3 * channels


@pytest.mark.parametrize(("ack", "tags"), [(1, [1, 2, 3]), (2, [2, 3]), (100, [3])])
def test_what_is_left_at_the_end_is_acknowledged(consume, ack, tags):
    load = Load(size=SIZE, ack=ack, prefetch=1000)
    link = consume(stream(plain(range(3)), load), 4096, load)
    link.finish()
    sent = b"".join(link.connection.sent)
    assert [int.from_bytes(sent[place + 11 : place + 19]) for place in range(0, len(sent), 21)] == tags


def test_a_refusal_is_told_in_the_brokers_words(consume):
    close = method_frame(1, m.ChannelClose(404, "NOT_FOUND - no queue"))
    with pytest.raises(BenchError, match="404 NOT_FOUND - no queue"):
        consume(stream(plain(range(3)), ONE) + close * 3, 1 << 17, ONE)
    assert refusal(b"nothing of the kind") == ""
