"""The durability measurement itself: what passes on a broker that keeps its word, and what it notices."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from conformance import brokers
from conformance.brokers import Broker
from conformance.durability import BACKLOG, PASSING, fill_and_drain, pass_through
from conformance.lanes import Outgoing, Run, Subscriber, Workload, delivery
from conformance.wire import WireError

WORKLOAD = Workload("a lane", size=20, window=100)


@pytest.fixture(scope="module")
def durable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A leveret with a data directory."""
    data: Path = tmp_path_factory.mktemp("data")
    with brokers.leveret(str(data)) as broker:
        yield broker


@pytest.mark.parametrize("name", PASSING)
def test_a_short_run_receives_all_that_was_confirmed(durable: Broker, name: str) -> None:
    workload = dataclasses.replace(PASSING[name], queues=min(PASSING[name].queues, 8))
    figures = pass_through(durable, workload, seconds=0.2)
    assert figures["received"] > 0
    assert figures["confirmed"] > 0


@pytest.mark.parametrize("name", BACKLOG)
def test_a_small_backlog_is_drained_whole(durable: Broker, name: str) -> None:
    figures = fill_and_drain(durable, BACKLOG[name], count=5003)
    assert figures["fill"] > 0
    assert figures["drain"] > 0


def test_confirms_in_any_order_make_room_in_the_window() -> None:
    lane = Outgoing(1, "queue", WORKLOAD)
    lane.fill(1000)
    assert lane.sent == 100
    lane.confirm(3, multiple=0)
    lane.confirm(1, multiple=0)
    assert lane.confirmed == 2
    lane.confirm(10, multiple=1)
    assert lane.confirmed == 10
    lane.fill(105)
    assert lane.sent == 105


@pytest.mark.parametrize("number", [0, 10, 12, 101])
def test_a_confirm_of_nothing_that_waits_is_noticed(number: int) -> None:
    lane = Outgoing(1, "queue", WORKLOAD)
    lane.fill(1000)
    lane.confirm(10, multiple=1)
    lane.confirm(12, multiple=0)
    with pytest.raises(WireError):
        lane.confirm(number, multiple=0)


class Stream:
    """A subscriber's connection that brings these bytes, in reads of ``step``."""

    def __init__(self, data: bytes, step: int) -> None:
        self.socket = self
        self._data = data
        self._step = step

    def recv_into(self, view: memoryview) -> int:
        piece, self._data = self._data[: self._step], self._data[self._step :]
        view[: len(piece)] = piece
        return len(piece)

    def send(self, data: bytes) -> None:
        pass


def count(data: bytes, step: int, monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """What a subscriber to two queues counts."""
    monkeypatch.setattr("conformance.lanes.Client", lambda broker, channels: Stream(data, step))
    subscriber = Subscriber(Run(Broker("none", "", 0), WORKLOAD, "queue"), ["queue-0", "queue-1"])
    for _ in range(0, len(data), step):
        subscriber.take()
    return {lane.queue: lane.count for lane in subscriber.lanes.values()}


def stream(*deliveries: tuple[int, int]) -> bytes:
    """Deliveries of channel and tag."""
    return b"".join(
        delivery(channel, f"queue-{channel - 1}", WORKLOAD.size, tag) for channel, tag in deliveries
    )


MIXED = [(1 + number % 2, 1 + number // 2) for number in range(600)]


@pytest.mark.parametrize("step", [7, 100, 4096, 1 << 17])
def test_deliveries_of_several_queues_are_counted(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    assert count(stream(*MIXED), step, monkeypatch) == {"queue-0": 300, "queue-1": 300}


@pytest.mark.parametrize(
    "deliveries",
    [
        pytest.param(MIXED[:500] + MIXED[501:], id="lost"),
        pytest.param(MIXED[:500] + MIXED[499:], id="repeated"),
        pytest.param([*MIXED[:500], MIXED[502], MIXED[500]], id="swapped"),
        pytest.param([(1, 2)], id="not the first"),
    ],
)
def test_a_wrong_order_within_a_queue_is_noticed(
    deliveries: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(WireError):
        count(stream(*deliveries), 4096, monkeypatch)
