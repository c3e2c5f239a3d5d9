import pytest

from leveret.protocol.amqp.command import Publishes
from leveret.protocol.amqp.message import Message
from leveret.protocol.amqp.reader import CommandReader
from leveret.router.bench.load import KINDS, RAGGED, SAME, BenchError, Load
from leveret.router.bench.processes import low_bytes
from leveret.router.bench.publisher import PIECE, PublishBlock, PublishLane

FRAME_MAX = 4096


each_kind = pytest.mark.parametrize("kind", KINDS)


def messages(data) -> list[Message]:
    reader = CommandReader(0, 1 << 30)
    found = []
    for _, command in reader.receive(bytes(data)):
        found += command.messages if isinstance(command, Publishes) else [command]
    assert reader.error is None
    return found


def part(block, number, count, now=0) -> list[Message]:
    """So many messages from a number on, or those to the end of the block, in as many parts as that takes."""
    end = min(number + count, number - number % block.count + block.count)
    found = []
    while number < end:
        taken, data = block.part(number, end - number, now)
        assert len(data) <= PIECE or taken == 1
        found += messages(data)
        number += taken
    assert number == end
    return found


@each_kind
def test_a_block_is_publishes_with_their_numbers(kind):
    block = PublishBlock(Load(size=20, persistent=True, kind=kind), 3, "bench-0", FRAME_MAX)
    found = part(block, 0, 300)
    assert [message.body[-1] for message in found] == [number % 256 for number in range(300)]
    assert {(message.channel, message.routing_key) for message in found} == {(3, "bench-0")}
    assert {message.properties.delivery_mode for message in found} == {2}
    assert len({message.size for message in found}) == 1 or kind == RAGGED
    assert len({message.raw_properties for message in found}) == (1 if kind == SAME else 300)


@each_kind
def test_parts_end_with_the_block_and_go_on_with_the_next_number(kind):
    block = PublishBlock(Load(size=9, kind=kind), 1, "bench-0", FRAME_MAX)
    assert len(part(block, block.count - 2, 10)) == 2
    (first, *_) = part(block, block.count, 10)
    assert first.body[-1] == 0


@each_kind
def test_large_bodies_are_numbered_one_by_one(kind):
    block = PublishBlock(Load(size=2 << 20, kind=kind), 1, "bench-0", FRAME_MAX)
    assert block.count == (1 if kind == SAME else 8)
    for number in (0, 7, 300):
        (message,) = part(block, number, 1)
        assert message.body[-1] == number % 256
        assert message.size == 2 << 20 or kind == RAGGED


@each_kind
def test_one_of_so_many_says_when_it_was_published(kind):
    block = PublishBlock(Load(size=20, kind=kind), 1, "bench-0", FRAME_MAX)
    found = part(block, 60, 10, now=77)
    stamped = [int.from_bytes(message.body[:8]) == 77 for message in found]
    assert stamped == [number % 64 == 0 for number in range(60, 70)]


def test_all_do_at_a_rate():
    block = PublishBlock(Load(size=20, rate=10.0), 1, "bench-0", FRAME_MAX)
    assert {message.body[:8] for message in part(block, 0, 5, now=9)} == {(9).to_bytes(8)}


@each_kind
def test_new_keys_never_come_again(kind):
    load = Load(exchange="topic", bindings=10, new_keys=True, kind=kind)
    block = PublishBlock(load, 1, "", FRAME_MAX)
    keys = [message.routing_key for start in (0, block.count) for message in part(block, start, block.count)]
    assert len(set(keys)) == len(keys) == 2 * block.count


def test_confirms_in_any_order_make_room_in_the_window():
    lane = PublishLane(Load(size=20, window=100), 1, "bench-0", FRAME_MAX)
    lane.take(1000, now=0)
    assert lane.sent == 100
    lane.confirm(3, multiple=0)
    lane.confirm(1, multiple=0)
    assert lane.confirmed == 2
    lane.confirm(10, multiple=1)
    assert lane.confirmed == 10
    lane.take(5, now=0)
    assert lane.sent == 105


def test_a_window_beyond_the_end_of_the_block_is_filled():
    lane = PublishLane(Load(size=2000, window=10_000), 1, "bench-0", FRAME_MAX)
    assert lane.block.count < 10_000
    found = messages(b"".join(lane.take(10_000, now=0)))
    assert [message.body[-1] for message in found] == [number % 256 for number in range(10_000)]


@pytest.mark.parametrize("number", [0, 10, 12, 101])
def test_a_confirm_of_nothing_that_waits_is_noticed(number):
    lane = PublishLane(Load(size=20, window=100), 1, "bench-0", FRAME_MAX)
    lane.take(1000, now=0)
    lane.confirm(10, multiple=1)
    lane.confirm(12, multiple=0)
    with pytest.raises(BenchError):
        lane.confirm(number, multiple=0)


@pytest.mark.parametrize("count", [0, 1, 255, 256, 257, 1000])
def test_the_sum_of_low_bytes(count):
    assert low_bytes(count) == sum(number % 256 for number in range(count))
