"""The Bloom filter of a chunk."""

import tracemalloc

import pytest

from leveret.protocol.amqp.message import Message
from leveret.protocol.amqp.properties import Properties
from leveret.protocol.errors import PreconditionFailed
from leveret.router.stream import filters
from leveret.router.stream.filters import check_filter, pack_filter, reader_filter
from leveret.router.stream.packer import Packer
from leveret.router.turns.backlog import at_once


@pytest.mark.parametrize("length", [1, 64, 65, 10_000])
def test_a_value_has_the_same_bits_however_often_it_comes(length):
    value = "v" * length
    assert pack_filter([value], 16) == pack_filter([value, value], 16)
    assert pack_filter([value], 16) != pack_filter(["w" * length], 16)


def test_long_values_are_not_kept_in_memory():
    tracemalloc.start()
    try:
        for number in range(200):
            pack_filter([f"{number}" + "x" * 100_000], 16)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 1_000_000


def pack_chunk_with(value):
    """The chunks of one message with a filter value, which has a large filter."""
    packer = Packer(255)
    packer.add(Message.build("", "s", Properties(headers={"x-stream-filter-value": value}), b""), 0)
    return packer.chunks(0, 1, 0)


def test_a_chunk_has_the_filter_of_the_values_of_its_messages():
    packer = Packer(20)
    values = ["a", None, "b" * 10_000]
    for offset, value in enumerate(values):
        headers = {} if value is None else {"x-stream-filter-value": value}
        packer.add(Message.build("", "s", Properties(headers=headers), b""), offset)
    [chunk] = packer.chunks(0, 3, 0)
    assert chunk.filter == pack_filter(values, 20)


def test_values_are_hashed_when_messages_are_added_and_once_for_a_reader(monkeypatch):
    hashed = []
    bits = filters._bits
    monkeypatch.setattr(filters, "_bits", lambda value, size: hashed.append(size) or bits(value, size))
    packer = Packer()
    value = "x" * 10_000
    for offset in range(3):
        headers = {"x-stream-filter-value": f"{value}{offset}"}
        packer.add(Message.build("", "s", Properties(headers=headers), b""), offset)
    assert hashed == [16] * 3
    chunks = [*packer.chunks(0, 2, 0), *packer.chunks(2, 3, 0)]
    assert hashed == [16] * 3
    reader = at_once(reader_filter({"x-stream-filter": [f"{value}1", f"{value}2"]}, "queue 's'"))
    assert [reader.may_be_in(chunk) for chunk in (*chunks, *chunks)] == [True] * 4
    assert hashed == [16] * 5


@pytest.mark.parametrize(
    ("values", "first", "later"),
    [(["a"], 2, 1), ([str(number) for number in range(1024)], 1025, 65), (["x" * 102_400], 102, 1)],
    ids=["one", "many", "long"],
)
def test_skipping_a_chunk_counts_as_work(values, first, later):
    [chunk] = pack_chunk_with("other")
    reader = at_once(reader_filter({"x-stream-filter": values}, "queue 's'"))
    assert reader.chunk_cost == first
    assert not reader.may_be_in(chunk)
    assert reader.chunk_cost == later


def test_a_reader_may_have_1024_values():
    values = [str(number) for number in range(1025)]
    check_filter({"x-stream-filter": values[1:]}, "queue 's'")
    with pytest.raises(PreconditionFailed) as caught:
        check_filter({"x-stream-filter": values}, "queue 's'")
    assert str(caught.value).endswith("'x-stream-filter' for queue 's': at most 1024 values are allowed")
