"""The consuming side counts deliveries, and detects lost, repeated, swapped and changed ones."""

import time
from dataclasses import replace

import pytest

from leveret.protocol.amqp import methods as m
from leveret.protocol.amqp.codec import method_frame
from leveret.router.bench.consumer import ConsumeConnection, ConsumerProcess
from leveret.router.bench.load import KINDS, RAGGED, SAME, BenchError, BenchTarget, Load
from leveret.router.bench.processes import BenchRun, Counters
from leveret.router.bench.traffic import drafts
from leveret.router.bench.wire import CONSUMER_TAG, delivery, refusal

SIZE = 20
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
        run.side = side = ConsumerProcess(running, 0)
        (link,) = side.links
        for _ in range(0, len(data), step):
            link.take()
        return link

    return run


def stream(deliveries, load):
    """Deliveries of channel, tag and number."""
    names = load.queue_names()
    made = []
    for channel, tag, number in deliveries:
        drawn = drafts(load, names[(channel - 1) % len(names)])
        draft = drawn[number % len(drawn)]
        body = time.monotonic_ns().to_bytes(8) + draft.body(number)[8:]
        route = "", names[channel - 1]
        made.append(delivery(channel, route, draft.properties, body, FRAME_MAX, tag=tag))
    return b"".join(made)


def plain(numbers):
    return [(1, place, number) for place, number in enumerate(numbers, 1)]


MIXED = [(1 + number % 2, 1 + number // 2, number // 2) for number in range(600)]
STEPS = [7, 100, 4096, 1 << 17]
ONE = Load(size=SIZE, kind=SAME)
TWO = Load(size=SIZE, queues=2, kind=SAME)
each_kind = pytest.mark.parametrize("kind", KINDS)


@each_kind
@pytest.mark.parametrize("step", STEPS)
def test_deliveries_of_one_queue_are_counted_whatever_the_reads_cut(consume, step, kind):
    load = replace(ONE, kind=kind)
    link = consume(stream(plain(range(1000)), load), step, load)
    link.finish()
    assert [lane.count for lane in link.lanes.values()] == [1000]


@each_kind
@pytest.mark.parametrize("step", STEPS)
def test_deliveries_of_several_queues_are_counted(consume, step, kind):
    load = replace(TWO, kind=kind)
    link = consume(stream(MIXED, load), step, load)
    link.finish()
    assert [lane.count for lane in link.lanes.values()] == [300, 300]


@each_kind
@pytest.mark.parametrize("size", [70_000, 300_000])
@pytest.mark.parametrize("step", [4096, 1 << 18])
def test_deliveries_of_large_bodies_are_counted(consume, size, step, kind):
    load = Load(size=size, kind=kind)
    link = consume(stream(plain(range(20)), load), step, load)
    link.finish()
    assert [lane.count for lane in link.lanes.values()] == [20]


@pytest.mark.parametrize("damaged", [1, 2])
def test_a_large_body_that_ends_otherwise_is_noticed(consume, damaged):
    load = Load(size=300_000, kind=RAGGED)
    data = bytearray(stream(plain(range(3)), load))
    data[-damaged] ^= 1
    with pytest.raises(BenchError):
        consume(bytes(data), 4096, load)


def test_a_body_of_another_size_is_noticed(consume):
    load = Load(size=SIZE, kind=RAGGED)
    other = replace(load, seed=2)
    first = stream(plain(range(1)), load)
    with pytest.raises(BenchError):
        consume(first + stream([(1, 2, 1), (1, 3, 2), (1, 4, 3)], other), 4096, load)


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
@each_kind
def test_a_wrong_order_is_noticed(consume, deliveries, step, kind):
    load = replace(ONE, kind=kind)
    with pytest.raises(BenchError):
        consume(stream(deliveries, load), step, load)


@pytest.mark.parametrize(
    "deliveries",
    [
        pytest.param(MIXED[:500] + MIXED[501:], id="lost"),
        pytest.param(MIXED[:500] + MIXED[499:], id="repeated"),
        pytest.param([*MIXED[:500], MIXED[502], MIXED[500]], id="swapped"),
        pytest.param([(3, 1, 0)], id="of no channel"),
    ],
)
@each_kind
def test_a_wrong_order_within_a_queue_is_noticed(consume, deliveries, kind):
    load = replace(TWO, kind=kind, queues=3 if deliveries[0][0] == 3 else 2)
    with pytest.raises(BenchError):
        consume(stream(deliveries, load), 4096, replace(load, queues=2))


@each_kind
def test_a_changed_frame_is_noticed(consume, kind):
    load = replace(ONE, kind=kind)
    data = bytearray(stream(plain(range(100)), load))
    data[-1] ^= 1
    with pytest.raises(BenchError):
        consume(bytes(data), 4096, load)


@each_kind
def test_where_publishers_share_a_queue_the_sum_of_numbers_shows_losses(consume, kind):
    load = Load(size=SIZE, publishers=2, kind=kind)
    numbers = [number // 2 for number in range(600)]
    link = consume(stream(plain(numbers), load), 4096, load)
    assert link.checksum() == sum(number % 256 for number in numbers)


@each_kind
def test_half_a_delivery_at_the_end_is_noticed(consume, kind):
    load = replace(ONE, kind=kind)
    link = consume(stream(plain(range(10)), load)[:-5], 4096, load)
    with pytest.raises(BenchError):
        link.finish()


@each_kind
@pytest.mark.parametrize(("load", "channels"), [(ONE, 1), (TWO, 2)])
def test_latencies_are_those_of_stamped_messages(consume, load, channels, kind):
    load = replace(load, kind=kind)
    deliveries = plain(range(130)) if channels == 1 else [(1 + n % 2, 1 + n // 2, n // 2) for n in range(260)]
    consume(stream(deliveries, load), 4096, load)
    assert consume.side.latencies.total_count == 3 * channels


@pytest.mark.parametrize(("ack", "tags"), [(1, [1, 2, 3]), (2, [2, 3]), (100, [3])])
def test_what_is_left_at_the_end_is_acknowledged(consume, ack, tags):
    load = Load(size=SIZE, ack=ack, prefetch=1000)
    link = consume(stream(plain(range(3)), load), 4096, load)
    link.finish()
    sent = b"".join(link.connection.sent)
    assert [int.from_bytes(sent[place + 11 : place + 19]) for place in range(0, len(sent), 21)] == tags


@each_kind
@pytest.mark.parametrize("load", [ONE, TWO])
@pytest.mark.parametrize(
    ("end", "reason"),
    [
        (m.ChannelClose(404, "NOT_FOUND - no queue"), "404 NOT_FOUND - no queue"),
        (m.BasicCancel(CONSUMER_TAG, True), "cancelled a consumer"),
    ],
)
def test_the_end_of_a_consumer_is_noticed_at_once(consume, load, end, reason, kind):
    load = replace(load, kind=kind)
    with pytest.raises(BenchError, match=reason):
        consume(stream(plain(range(3)), load) + method_frame(1, end), 1 << 17, load)
    assert refusal(b"nothing of the kind") == ""
