"""The throughput measurement itself: it must notice deliveries that are lost, repeated or changed."""

import pytest

from conformance.brokers import Broker
from conformance.throughput import CONSUMER_TAG, WORKLOADS, Columns, delivery, measure
from conformance.wire import WireError, shortstr

COUNT = 1000
SIZE = 100


def stream(tags: list[int]) -> bytes:
    """The deliveries with these tags, one behind the other."""
    return b"".join(delivery("queue", SIZE, tag) for tag in tags)


def check(data: bytes, step: int) -> Columns:
    """Check the data in reads of ``step`` bytes."""
    columns = Columns(delivery("queue", SIZE, 1), tag_offset=11 + len(shortstr(CONSUMER_TAG)))
    for start in range(0, len(data), step):
        columns.check(memoryview(data[start : start + step]))
    return columns


TAGS = list(range(1, COUNT + 1))


@pytest.mark.parametrize("step", [1, 7, 180, 4096, 1 << 20])
def test_deliveries_in_order_are_counted_whatever_the_reads_cut(step: int) -> None:
    assert check(stream(TAGS), step).count == COUNT


@pytest.mark.parametrize(
    "tags",
    [
        pytest.param(TAGS[:500] + TAGS[501:], id="lost"),
        pytest.param(TAGS[:500] + TAGS[499:], id="repeated"),
        pytest.param([*TAGS[:500], 502, 501, *TAGS[502:]], id="swapped"),
    ],
)
@pytest.mark.parametrize("step", [1, 4096, 1 << 20])
def test_a_wrong_order_is_noticed(tags: list[int], step: int) -> None:
    with pytest.raises(WireError):
        check(stream(tags), step)


def test_a_changed_frame_is_noticed() -> None:
    data = bytearray(stream(TAGS))
    data[-1] ^= 1
    with pytest.raises(WireError):
        check(bytes(data), 4096)


@pytest.mark.parametrize("workload", WORKLOADS)
def test_a_short_run_moves_messages_with_every_kind_of_acknowledgement(broker: Broker, workload: str) -> None:
    result = measure(broker, WORKLOADS[workload], seconds=0.2, size=SIZE, backlog=5000)
    assert result.received > 0
