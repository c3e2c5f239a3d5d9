"""Large bodies that are read into their message's buffer: the same commands and faults as the generic way."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leveret.protocol import buffers
from leveret.protocol.amqp import large_body
from leveret.protocol.amqp import methods as m
from leveret.protocol.amqp.codec import method_frame
from leveret.protocol.amqp.reader import CommandReader, Scope
from tests.protocol.amqp.frames import all_shown, body, frame, header, publish

FRAME_MAX = 4096
PIECE = FRAME_MAX - 8
BODY_MAX = 1 << 20
HEARTBEAT = frame(8, 0, b"")


@pytest.fixture(autouse=True, scope="module")
def small():
    """Bodies are large from 10,000 bytes on, and too large to join from 60,000 on."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(large_body, "SMALLEST", 10_000)
        patch.setattr(large_body, "PIECE", 16_000)
        for module in (large_body, buffers):
            patch.setattr(module, "MAPPED", 60_000)
        yield


def reader(frame_max=FRAME_MAX, **options):
    return CommandReader(frame_max, BODY_MAX, together=True, **options)


class Fed:
    """A reader with a socket; ``buffered`` counts the bytes that were read into a buffer of it."""

    def __init__(self, made=None):
        self.reader = made or reader()
        self.commands = []
        self.buffered = 0

    def feed(self, stream, size):
        while stream and self.reader.error is None:
            room = self.reader.body_room()
            if room is None:
                data, stream = stream[:size], stream[size:]
            else:
                count = min(size, len(room), len(stream))
                room[:count] = stream[:count]
                self.buffered += count
                data, stream = self.reader.body_arrived(count), stream[count:]
            self.commands += self.reader.receive(data)
        return self


def generic(stream):
    """The commands of a stream on the generic way, and its fault."""
    made = reader()
    return all_shown(made.receive(stream)), str(made.error)


def content(size, *, channel=1, piece=PIECE):
    """A publish whose body has no two equal frames."""
    data = b"".join([number.to_bytes(4, "big") for number in range(-(-size // 4))])[:size]
    return publish(channel, data, piece=piece)


SIZES = (10_000, 3 * PIECE, 3 * PIECE - 1, 3 * PIECE + 1, 100_000)


@pytest.mark.parametrize("step", [700, 4096, 5000, 1 << 20])
@pytest.mark.parametrize("size", SIZES)
def test_large_bodies_are_read_into_their_message(size, step):
    stream = content(size) * 3 + method_frame(1, m.BasicQos())
    fed = Fed().feed(stream, step)
    assert (all_shown(fed.commands), str(fed.reader.error)) == generic(stream)
    assert bool(fed.buffered) == (step < size)
    assert (fed.reader.held, fed.reader.incomplete()) == (0, False)


def test_a_body_in_one_frame_is_read_into_its_message():
    stream = content(50_000, piece=0)
    fed = Fed(reader(0)).feed(stream, 4000)
    assert fed.commands[0][1].frames == stream[len(method_frame(1, m.BasicPublish())) :]
    assert fed.buffered == len(stream) - 4000


BETWEEN = [HEARTBEAT, method_frame(2, m.ChannelOpen()), content(30, channel=2), frame(3, 1, b"")]


@pytest.mark.parametrize("between", BETWEEN, ids=["heartbeat", "method", "content", "empty frame"])
@pytest.mark.parametrize("behind", range(5))
def test_other_frames_between_those_of_a_body_are_handled_in_their_order(between, behind):
    whole = content(5 * PIECE)
    cut = len(whole) - behind * (PIECE + 8)
    stream = whole[:cut] + between + whole[cut:] + content(20_000)
    fed = Fed().feed(stream, 5000)
    assert (all_shown(fed.commands), str(fed.reader.error)) == generic(stream)
    assert fed.buffered


@pytest.mark.parametrize("damage", [b"\xff", b"\x00", b"\x01"])
@pytest.mark.parametrize("place", [-1, -1 - PIECE - 8, -PIECE - 8, -PIECE - 7, -PIECE - 3])
def test_damaged_frames_are_the_faults_that_they_are_otherwise(place, damage):
    whole = content(5 * PIECE)
    at = len(whole) + place
    stream = whole[:at] + damage + whole[at + 1 :] + content(20_000)
    fed = Fed().feed(stream, 5000)
    assert fed.buffered
    found, fault = generic(stream)
    assert (all_shown(fed.commands), str(fed.reader.error)) == (found, fault)


@given(
    st.lists(
        st.sampled_from([*map(content, (5, 9000, *SIZES)), content(30_000, piece=500), *BETWEEN]), max_size=5
    ),
    st.integers(1, 9000),
    st.integers(0, 3 * PIECE),
)
def test_any_stream_in_reads_of_any_size_is_what_it_is_otherwise(parts, step, cut):
    stream = b"".join(parts)
    stream = stream[: len(stream) - cut] if cut % 3 == 0 else stream
    fed = Fed().feed(stream, step)
    assert (all_shown(fed.commands), str(fed.reader.error)) == generic(stream)


def test_a_header_costs_no_memory_until_a_share_of_its_body_has_arrived():
    fed, size = Fed(), 200_000
    begin = method_frame(1, m.BasicPublish()) + header(1, size)
    fed.feed(begin + body(1, bytes(PIECE)), 1 << 20)
    assert fed.reader.body_room() is None
    assert fed.reader.held < 3 * PIECE
    fed.feed(body(1, bytes(PIECE)) * 3, 1 << 20)
    assert fed.reader.body_room() is not None
    assert size < fed.reader.held < 1.1 * size + 10 * PIECE, "the buffer counts as a whole"


def test_after_frames_that_do_not_fit_a_message_has_no_further_buffer():
    whole = content(100_000)
    cut = len(method_frame(1, m.BasicPublish()) + header(1, 1)) + 5 * (PIECE + 8)
    fed = Fed().feed(whole[:cut] + HEARTBEAT, 5000)
    before = fed.buffered
    assert before
    fed.feed(whole[cut:], 5000)
    assert fed.buffered == before
    assert [type(command).__name__ for _, command in fed.commands] == ["Heartbeat", "ParsedMessage"]


@pytest.mark.parametrize("cut", [20_000, 20_001, 24_000, 5 * (PIECE + 8)])
def test_closing_in_the_middle_of_a_body_skips_its_rest(cut):
    close, whole = method_frame(0, m.ConnectionCloseOk()), content(60_000)
    fed = Fed().feed(whole[:cut], 5000)
    assert fed.buffered
    fed.reader.scope = Scope.CLOSES
    fed.reader.drop_contents()
    assert fed.reader.held == 0 or fed.reader.held < PIECE
    fed.feed(whole[cut:] + close, 5000)
    assert [type(command) for _, command in fed.commands] == [m.ConnectionCloseOk]


def test_a_lost_connection_frees_the_buffer():
    fed = Fed().feed(content(60_000)[:30_000], 5000)
    fed.reader.forget()
    assert (fed.reader.held, fed.reader.body_room()) == (0, None)


@pytest.mark.parametrize("piece", [500, PIECE, PIECE - 1])
def test_a_body_that_is_too_large_to_join_has_a_mapping_however_it_arrives(piece):
    stream = content(100_000, piece=piece)
    made, commands = reader(), []
    for start in range(0, len(stream), 5000):
        commands += made.receive(stream[start : start + 5000])
    ((_, message),) = commands
    assert isinstance(message.frames, buffers.MappedBuffer)
    assert bytes(message.frames) == content(100_000)[-len(message.frames) :]


def test_after_other_frames_the_rest_of_a_body_is_added_to_its_buffer():
    whole = content(100_000)
    fed = Fed().feed(whole[:60_000], 5000)
    assert fed.buffered
    at = len(method_frame(1, m.BasicPublish()) + header(1, 1)) + 15 * (PIECE + 8)
    fed.feed(whole[60_000:at] + HEARTBEAT + whole[at:], 5000)
    (_, message) = fed.commands[-1]
    assert isinstance(message.frames, buffers.MappedBuffer)
    assert (fed.reader.held, fed.reader.incomplete()) == (0, False)
