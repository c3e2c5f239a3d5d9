import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leveret.protocol.amqp import methods as m
from leveret.protocol.amqp.ack_reader import ACK_HEAD
from leveret.protocol.amqp.codec import encode_method, method_frame
from leveret.protocol.amqp.command import Acks, Delivery, Heartbeat, Oversized, Publishes
from leveret.protocol.amqp.incomplete_content import LARGE
from leveret.protocol.amqp.message import Message
from leveret.protocol.amqp.properties import Properties
from leveret.protocol.amqp.reader import CommandReader, Scope
from leveret.protocol.errors import ResourceError
from tests.protocol.amqp.frames import all_shown, body, each, frame, header, publish
from tests.protocol.amqp.strategies import PROPERTIES, SHORT_TEXT, methods

BODY_MAX = 100_000
PUBLISH = method_frame(1, m.BasicPublish())
HEARTBEAT = frame(8, 0, b"")


def reader(frame_max=4096, body_max=BODY_MAX, **options):
    return CommandReader(frame_max, body_max, **options)


def read(data, **options):
    """All commands of ``data``, and the reader."""
    made = reader(**options)
    return made.receive(data), made


def on_each_channel(commands):
    """All commands, those of one channel after the other: acknowledgements are grouped by channel."""
    return sorted(all_shown(commands), key=lambda command: command[0])


# -- commands ------------------------------------------------------------------------------------------------

CHANNELS = st.integers(1, 4)
PUBLISHES = st.builds(
    publish,
    CHANNELS,
    st.binary(max_size=300),
    method=st.builds(m.BasicPublish, SHORT_TEXT, SHORT_TEXT, st.booleans(), st.booleans()),
    properties=PROPERTIES,
    piece=st.sampled_from((0, 1, 7, 100)),
)
PLAIN_METHODS = st.sampled_from([cls for cls in m.METHODS.values() if not cls.CONTENT]).flatmap(methods)
FRAMES = st.one_of(
    PUBLISHES,
    st.builds(method_frame, CHANNELS, PLAIN_METHODS),
    st.builds(method_frame, CHANNELS, st.builds(m.BasicAck, st.integers(0, 2**64 - 1), st.booleans())),
    st.just(HEARTBEAT),
)


@pytest.mark.slow
@given(st.lists(FRAMES, max_size=6), st.data())
def test_chunks_of_any_size_give_the_same_commands(frames, data):
    stream = b"".join(frames)
    whole, _ = read(stream, frame_max=0, together=True)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    chunked = reader(0)
    commands = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        commands += chunked.receive(stream[start:end])
    assert on_each_channel(commands) == on_each_channel(whole)
    assert chunked.error is None


@given(st.lists(FRAMES, max_size=6), st.integers(1, 5), st.booleans(), st.data())
def test_a_bound_on_the_frames_of_a_call_changes_no_command(frames, at_once, together, data):
    stream = b"".join(frames)
    whole, _ = read(stream, frame_max=0, together=together)
    bounded = reader(0, together=together, at_once=at_once)
    cut = data.draw(st.integers(0, len(stream)))
    commands = []
    for piece in (stream[:cut], stream[cut:]):
        commands += bounded.receive(piece)
        while bounded.more:
            commands += bounded.receive(b"")
    assert on_each_channel(commands) == on_each_channel(whole)
    assert (bounded.error, bounded.held, bounded.incomplete()) == (None, 0, False)


@pytest.mark.parametrize(
    "tiny", [HEARTBEAT, frame(3, 1, b"x"), publish(1, b""), method_frame(1, m.BasicAck(1))]
)
def test_a_call_parses_no_more_frames_than_its_bound(tiny):
    made = reader(at_once=10)
    made.receive(method_frame(1, m.BasicPublish()) + header(1, 300) if tiny[0] == 3 else b"")
    calls = 0
    commands = made.receive(tiny * 300)
    while made.more:
        calls += 1
        assert len(commands) <= 10
        commands = made.receive(b"")
    assert (calls >= 29, made.error, made.held) == (True, None, 0)


LARGE_PUBLISHES = st.builds(
    lambda channel, size, piece: publish(channel, bytes(range(256)) * (size // 256), piece=piece),
    CHANNELS,
    st.sampled_from((256, 30 * 256, LARGE + 256, 40_960, 409_600)),
    st.sampled_from((40_952, 40_000, LARGE, 5_000)),
)


@pytest.mark.slow
@given(st.lists(LARGE_PUBLISHES, min_size=1, max_size=5), st.data())
def test_chunks_of_any_size_give_the_same_large_bodies(publishes, data):
    stream = b"".join(publishes)
    limits = {"frame_max": 40_960, "body_max": 1 << 20, "together": True}
    whole, _ = read(stream, **limits)
    assert len(list(each(whole))) == len(publishes)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    chunked = reader(**limits)
    commands = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        commands += chunked.receive(stream[start:end])
    assert on_each_channel(commands) == on_each_channel(whole)
    for _, message in each(commands):
        assert message.body == bytes(range(256)) * (message.size // 256)
        assert message.framed_for(message.channel, 40_960) is message.frames


@pytest.mark.parametrize("at", [1, LARGE // 2, LARGE + 40])
def test_a_fault_in_a_large_frame_received_in_pieces_is_reported_once_and_skipped(at):
    bad = publish(1, b"a" * LARGE)[:-1] + b"\0"
    stream = publish(1, b"b" * LARGE) + bad + HEARTBEAT
    made = reader(frame_max=LARGE + 8)
    where = len(stream) - len(bad) - len(HEARTBEAT) + at
    first = made.receive(stream[:where])
    assert [message.body for _, message in first] == [b"b" * LARGE]
    assert made.receive(stream[where:]) == []
    assert "invalid_frame_end_marker" in str(made.error)
    made.error = None
    assert made.receive(b"") == [(0, Heartbeat())]


def test_what_came_behind_the_opening_is_read_when_that_is_done_however_large():
    declare = m.QueueDeclare("q", arguments={"text": "x" * LARGE})
    made = reader(frame_max=0, scope=Scope.CONTROL)
    stream = method_frame(0, m.ConnectionOpen("/")) + method_frame(1, declare) + HEARTBEAT
    assert made.receive(stream) == [(0, m.ConnectionOpen("/"))]
    made.scope = Scope.CHANNELS
    assert made.receive(b"") == [(1, declare), (0, Heartbeat())]


@given(st.lists(FRAMES, max_size=4))
def test_single_bytes_give_the_same_commands(frames):
    stream = b"".join(frames)
    dripped = reader(0)
    commands = [command for at in range(len(stream)) for command in dripped.receive(stream[at : at + 1])]
    assert all_shown(commands) == all_shown(read(stream, frame_max=0)[0])


@given(
    st.builds(m.BasicPublish, SHORT_TEXT, SHORT_TEXT, st.booleans(), st.booleans()),
    st.binary(min_size=1, max_size=300),
    PROPERTIES,
)
def test_a_publish_in_one_read_equals_one_in_three(method, data, properties):
    frames = method_frame(1, method), publish(1, data, properties=properties)[len(PUBLISH) :]
    at_once = reader(0).receive(b"".join(frames))
    slow = reader(0)
    assert slow.receive(frames[0]) == []
    assert all_shown(slow.receive(frames[1])) == all_shown(at_once)
    (channel, message), *others = at_once
    assert not others
    assert isinstance(message, Message)
    assert (channel, message.exchange, message.routing_key) == (1, method.exchange, method.routing_key)
    assert (message.mandatory, message.immediate) == (method.mandatory, method.immediate)
    assert (message.body, message.properties) == (data, properties)


ALIKE = (publish(1, b"abc"), publish(1, b"xyz"), publish(2, b"abc"), publish(1, b"a" * 9, piece=4), HEARTBEAT)


@given(st.lists(st.sampled_from((*ALIKE, PUBLISH + header(1, 3), body(1, b"abc"))), max_size=8))
def test_publishes_that_begin_alike_are_read_as_single_bytes_are(frames):
    stream = b"".join(frames)
    commands, made = read(stream, frame_max=0, together=True)
    dripped = reader(0)
    singly = [command for at in range(len(stream)) for command in dripped.receive(stream[at : at + 1])]
    assert all_shown(commands) == all_shown(singly)
    assert str(made.error) == str(dripped.error)


def test_a_publish_like_the_last_one_is_skipped_once_the_connection_closes():
    made = reader()
    assert len(made.receive(publish(1, b"x"))) == 1
    made.scope = Scope.CLOSES
    assert made.receive(publish(1, b"x")) == []


def test_unused_bits_of_a_publish_mean_nothing():
    payload = encode_method(m.BasicPublish("", "q"))[:-1] + b"\xfc"
    whole, _ = read(frame(1, 1, payload) + header(1, 1) + body(1, b"x"))
    slow = reader()
    slow.receive(frame(1, 1, payload))
    assert all_shown(slow.receive(header(1, 1) + body(1, b"x"))) == all_shown(whole)
    assert whole[0][1].bits == 0


def test_a_body_without_bytes_is_complete_with_its_header():
    commands, _ = read(PUBLISH + header(1, 0))
    assert [(channel, message.body) for channel, message in commands] == [(1, b"")]


def test_channels_interleave():
    first, second = method_frame(1, m.BasicPublish("", "a")), method_frame(2, m.BasicPublish("", "b"))
    commands, _ = read(
        first
        + second
        + header(2, 4)
        + header(1, 2)
        + body(2, b"xx")
        + body(1, b"yy")
        + HEARTBEAT
        + body(2, b"zz")
    )
    assert [channel for channel, _ in commands] == [1, 0, 2]
    assert [commands[0][1].body, commands[2][1].body] == [b"yy", b"xxzz"]


def test_empty_body_frames_are_read_past_and_not_kept():
    plain, _ = read(publish(1, b"abcdef", piece=3))
    commands, _ = read(PUBLISH + header(1, 6) + (body(1, b"abc") + frame(3, 1, b"") * 50 + body(1, b"def")))
    assert all_shown(commands) == all_shown(plain)


def test_a_body_in_tiny_frames_is_kept_in_full_ones():
    commands, _ = read(publish(1, bytes(10_000), piece=1))
    assert all_shown(commands) == all_shown(read(publish(1, bytes(10_000), piece=4088))[0])


def test_an_oversized_body_is_skipped_and_reported_with_its_size():
    made = reader(body_max=10)
    commands = made.receive(publish(1, b"12345678901", piece=4) + publish(1, b"1234567890"))
    assert commands[0] == (1, Oversized(11))
    assert commands[1][1].body == b"1234567890"


def begun(channel, size, sent):
    """A publish with a body of which a part is sent."""
    return publish(channel, bytes(size), piece=sent)[: -(size - sent) - 8 * -(-(size - sent) // sent)]


def test_bodies_begun_on_many_channels_have_a_bound_together():
    made = reader(body_max=100)
    for channel in range(1, 11):
        assert made.receive(begun(channel, 100, 80)) == []
    assert (made.error, made._begun) == (None, 800)
    assert made.receive(begun(11, 100, 80)) == []
    assert isinstance(made.error, ResourceError)
    made.forget()
    assert made._begun == 0


def test_complete_bodies_do_not_count_as_begun():
    made = reader(body_max=100)
    for channel in range(1, 100):
        (command,) = made.receive(publish(channel, bytes(100), piece=60))
        assert command[1].size == 100
    assert (made.error, made._begun) == (None, 0)


def test_a_body_that_is_too_large_takes_no_memory_however_much_it_promises():
    made = reader(body_max=100)
    for channel in range(1, 100):
        assert made.receive(begun(channel, 1000, 500)) == []
    assert (made.error, made._begun) == (None, 0)


@pytest.mark.parametrize("method", [m.BasicDeliver("t", 1), m.BasicGetOk(1), m.BasicReturn(312, "NO_ROUTE")])
def test_a_client_reads_contents_from_a_server(method):
    commands, _ = read(publish(3, b"abc", method=method, piece=2))
    assert [(channel, command.method, command.message.body) for channel, command in commands] == [
        (3, method, b"abc")
    ]
    assert isinstance(commands[0][1], Delivery)


@pytest.mark.parametrize("method", [m.ConnectionBlocked("low on memory"), m.ConnectionUnblocked()])
def test_a_client_reads_that_it_is_blocked(method):
    assert read(method_frame(0, method))[0] == [(0, method)]


def test_content_methods_on_channel_0_await_no_content():
    stream = publish(0, b"abc")
    commands, made = read(stream)
    assert commands == [(0, m.BasicPublish())]
    assert str(made.error).startswith("UNEXPECTED_FRAME - type 2, all octets = ")


@pytest.mark.slow
@given(st.lists(PROPERTIES, min_size=1, max_size=5))
def test_properties_seen_before_are_decoded_to_the_same_values(several):
    made = reader(0)
    twice = [made.receive(publish(1, b"x", properties=each))[0][1] for each in several + several]
    assert [message.properties for message in twice] == several + several


# -- faults --------------------------------------------------------------------------------------------------

TOO_LARGE = "FRAME_ERROR - type {}, all octets = <<>>: {{frame_too_large,{},4088}}"
EXPECTED_METHOD = "UNEXPECTED_FRAME - expected method frame, got non method frame instead"
EXPECTED_HEADER = (
    "UNEXPECTED_FRAME - expected content header for class 60, got non content header frame instead"
)
EXPECTED_BODY = "UNEXPECTED_FRAME - expected content body, got non content body frame instead"
BODYLESS = method_frame(1, m.BasicGet("q"))

FAULTS = [
    # frames
    (frame(9, 1, b"abcd"), 'FRAME_ERROR - type 9, all octets = <<"abcd">>: unknown_frame', (0, 0)),
    (frame(0, 0, b""), "FRAME_ERROR - type 0, all octets = <<>>: unknown_frame", (0, 0)),
    (frame(1, 1, b"\0\x32"), "FRAME_ERROR - type 1, all octets = <<0,50>>: unknown_frame", (0, 0)),
    (frame(1, 0, b""), "FRAME_ERROR - type 1, all octets = <<>>: unknown_frame", (0, 0)),
    (frame(2, 1, b"\0\x3c"), "FRAME_ERROR - type 2, all octets = <<0,60>>: unknown_frame", (0, 0)),
    (frame(8, 0, b"abc"), 'FRAME_ERROR - type 8, all octets = <<"abc">>: unknown_frame', (0, 0)),
    (frame(8, 1, b""), "UNEXPECTED_FRAME - type 8, all octets = <<>>", (0, 0)),
    (frame(3, 0, b'a"\\'), 'UNEXPECTED_FRAME - type 3, all octets = <<"a\\"\\\\">>', (0, 0)),
    (frame(3, 0, b"a\xff"), "UNEXPECTED_FRAME - type 3, all octets = <<97,255>>", (0, 0)),
    (struct.pack(">BHI", 3, 1, 4097), TOO_LARGE.format(3, 4097), (0, 0)),
    (struct.pack(">BHI", 1, 1, 0xFFFFFFFF), TOO_LARGE.format(1, 0xFFFFFFFF), (0, 0)),
    (
        frame(1, 1, b"\0\x32\0\x0a", end=0),
        "FRAME_ERROR - type 1, all octets = <<0,50,0,10>>: {invalid_frame_end_marker,0}",
        (0, 0),
    ),
    # methods
    (frame(1, 1, b"\0\x32\0\x0a\0\0\5ab"), "FRAME_ERROR - cannot decode <<0,0,5,97,98>>", (50, 10)),
    (
        frame(1, 1, encode_method(m.BasicGet("q")) + b"\0"),
        "FRAME_ERROR - cannot decode <<0,0,1,113,0,0>>",
        (60, 70),
    ),
    (frame(1, 1, b"\0\x3c\0\x28"), "FRAME_ERROR - cannot decode <<>>", (60, 40)),
    (frame(1, 1, b"\0\x3c\0\x28\0\0\xff"), "FRAME_ERROR - cannot decode <<0,0,255>>", (60, 40)),
    (
        method_frame(1, m.QueueDeclare("\udcff")),
        "FRAME_ERROR - Malformed UTF-8 in shortstr",
        (0, 0),
    ),
    (frame(1, 1, b"\0\x3c\0\xc8"), "NOT_IMPLEMENTED - unknown method 200 of class 60", (0, 0)),
    # contents
    (header(1, 5), EXPECTED_METHOD, (0, 0)),
    (body(1, b"x"), EXPECTED_METHOD, (0, 0)),
    (publish(1) + frame(3, 1, b""), EXPECTED_METHOD, (0, 0)),
    (PUBLISH + BODYLESS, EXPECTED_HEADER, (60, 40)),
    (PUBLISH + publish(1, b"x"), EXPECTED_HEADER, (60, 40)),
    (PUBLISH + body(1, b"x"), EXPECTED_HEADER, (60, 40)),
    (PUBLISH + header(1, 1, weight=1), EXPECTED_HEADER, (60, 40)),
    (
        PUBLISH + header(1, 1, class_id=50) + body(1, b"x"),
        "UNEXPECTED_FRAME - expected content header for class 60, got one for class 50 instead",
        (60, 40),
    ),
    (PUBLISH + header(1, 5) + BODYLESS, EXPECTED_BODY, (60, 40)),
    (PUBLISH + header(1, 5) + header(1, 5), EXPECTED_BODY, (60, 40)),
    (PUBLISH + header(1, 5) + body(1, b"123456"), EXPECTED_BODY, (60, 40)),
    (PUBLISH + header(1, 5) + body(1, b"1234") + body(1, b"56"), EXPECTED_BODY, (60, 40)),
    (method_frame(1, m.BasicDeliver()) + BODYLESS, EXPECTED_HEADER, (60, 60)),
    # properties: flags that announce what is not there, and bytes that no flag announces
    (
        PUBLISH + header(1, 1, b"\x80\0") + body(1, b"x"),
        "SYNTAX_ERROR - truncated message properties",
        (60, 40),
    ),
    (PUBLISH + header(1, 1, b"") + body(1, b"x"), "SYNTAX_ERROR - truncated message properties", (60, 40)),
    (
        PUBLISH + header(1, 1, b"\0\0\0") + body(1, b"x"),
        "SYNTAX_ERROR - message properties do not match their flags",
        (60, 40),
    ),
    (
        PUBLISH + header(1, 1, b"\x20\0\0\0\0\3\1aQ") + body(1, b"x"),
        "SYNTAX_ERROR - unknown field type b'Q'",
        (60, 40),
    ),
]


@pytest.mark.parametrize("stepwise", [False, True], ids=["whole", "byte by byte"])
@pytest.mark.parametrize(
    ("stream", "text", "ids"), FAULTS, ids=lambda value: value if isinstance(value, str) else ""
)
def test_a_fault_has_the_error_text_of_rabbitmq(stream, text, ids, stepwise):
    made = reader()
    stream = publish(1, b"before") + stream
    commands = []
    for chunk in [stream[at : at + 1] for at in range(len(stream))] if stepwise else [stream]:
        commands += made.receive(chunk)
    assert commands[0][1].body == b"before"
    assert str(made.error) == text
    cause = made.error.cause
    assert ((cause.CLASS_ID, cause.METHOD_ID) if cause else (0, 0)) == ids
    assert made.error.scope == "connection"


def test_a_payload_may_be_as_large_as_a_frame():
    # Eight bytes more than the specification allows, as in RabbitMQ.
    commands, made = read(publish(1, bytes(4096)))
    assert made.error is None
    assert commands[0][1].size == 4096


def test_nothing_is_read_behind_a_fault():
    made = reader()
    assert made.receive(frame(9, 0, b"") + HEARTBEAT) == []
    assert made.receive(HEARTBEAT) == []


def test_once_a_fault_is_handled_reading_goes_on_behind_it():
    made = reader()
    made.receive(frame(9, 0, b"") + HEARTBEAT)
    made.error = None
    assert made.receive(b"") == [(0, Heartbeat())]


@given(st.binary(max_size=200), st.lists(FRAMES, max_size=2))
def test_no_bytes_make_it_fail_otherwise(junk, frames):
    made = reader()
    for chunk in (b"".join(frames), junk, junk):
        made.receive(chunk)
        made.error = None


@given(FRAMES, st.data())
def test_no_damaged_frame_makes_it_fail_otherwise(stream, data):
    damaged = bytearray(stream)
    damaged[data.draw(st.integers(0, len(stream) - 1))] = data.draw(st.integers(0, 255))
    reader().receive(bytes(damaged))


# -- scopes --------------------------------------------------------------------------------------------------


def test_before_channels_are_open_commands_come_one_at_a_time():
    made = reader(scope=Scope.CONTROL)
    stream = (
        HEARTBEAT + method_frame(0, m.ConnectionStartOk()) + method_frame(0, m.ConnectionTuneOk()) + PUBLISH
    )
    assert made.receive(stream) == [(0, Heartbeat()), (0, m.ConnectionStartOk())]
    assert made.receive(b"") == [(0, m.ConnectionTuneOk())]
    made.scope = Scope.CHANNELS
    assert made.receive(header(1, 0))[0][0] == 1


def test_a_limit_that_a_command_changes_holds_for_the_next():
    made = reader(4096, scope=Scope.CONTROL)
    made.receive(method_frame(0, m.ConnectionOpen()) + publish(1, bytes(8192)))
    made.scope, made.frame_max = Scope.CHANNELS, 131072
    assert [message.size for _, message in made.receive(b"")] == [8192]


@pytest.mark.parametrize(
    "stream", [PUBLISH, publish(1, b"x"), method_frame(1, m.BasicAck(1)), header(1, 9), body(1, b"x")]
)
def test_before_channels_are_open_nothing_is_kept_for_them(stream):
    commands, made = read(stream, scope=Scope.CONTROL)
    assert commands == []
    assert str(made.error).startswith(f"UNEXPECTED_FRAME - type {stream[0]}, all octets = <<")


def test_while_closing_everything_else_is_skipped():
    made = reader(scope=Scope.CLOSES)
    ignored = (
        publish(1, b"x")
        + header(2, 9)
        + frame(9, 9, b"abc")
        + HEARTBEAT
        + method_frame(0, m.ConnectionOpen())
    )
    assert made.receive(ignored + method_frame(0, m.ConnectionCloseOk())) == [(0, m.ConnectionCloseOk())]
    assert made.receive(ignored + method_frame(0, m.ConnectionClose())) == [(0, m.ConnectionClose())]


# -- bounds --------------------------------------------------------------------------------------------------


def held(made):
    """Bytes that wait in a reader."""
    return sum(map(len, made._waiting))


def test_a_frame_header_that_announces_too_much_is_refused_by_itself():
    made = reader()
    assert made.receive(struct.pack(">BHI", 1, 0, 0xFFFFFFFF)) == []
    assert made.error is not None
    made.receive(bytes(100_000))
    assert held(made) == 0


def test_incomplete_contents_are_bounded_by_the_number_of_channels():
    made = reader(contents_max=2)
    stream = b"".join(method_frame(number, m.BasicPublish()) for number in (7, 8, 9))
    made.receive(stream)
    assert (
        str(made.error)
        == "NOT_ALLOWED - number of channels opened (2) has reached the negotiated channel_max (2)"
    )


def test_a_slow_drip_is_joined_once():
    made = reader(1_000_000, body_max=1_000_000)
    stream = publish(1, bytes(200_000))
    made.receive(stream[: len(PUBLISH) + 30])
    joins = 0
    for at in range(len(PUBLISH) + 30, len(stream)):
        before = len(made._waiting)
        commands = made.receive(stream[at : at + 1])
        joins += len(made._waiting) < before + 1
    assert commands[0][1].size == 200_000
    assert joins <= 4  # when the frame's head, its size and its end are there


# -- what is read together -----------------------------------------------------------------------------------


ONE = m.BasicPublish("x", "a")
NEW_ROUTES = [m.BasicPublish("x", "b"), m.BasicPublish("y", "a"), m.BasicPublish("x", "a", mandatory=True)]
NEW_TRAITS = [
    {"delivery_mode": 2},
    {"expiration": "1"},
    {"user_id": "u"},
    {"headers": {"CC": []}},
    {"reply_to": "amq.rabbitmq.reply-to"},
]


def sizes(commands):
    """The number of messages of each command."""
    return [len(each.messages) if isinstance(each, Publishes) else 1 for _, each in commands]


def test_publishes_of_one_route_are_one_command_whatever_their_lengths_and_values():
    bodies = [b"a", b"bb", b"ccc", b"ddd", b"eee", b"f"]
    sent = [
        publish(1, body, method=ONE, properties=Properties(message_id=body.decode(), headers={"n": number}))
        for number, body in enumerate(bodies)
    ]
    ((channel, command),), _ = read(b"".join(sent), together=True)
    assert (channel, [each.body for each in command.messages]) == (1, bodies)
    assert [each.headers["n"] for each in command.messages] == [0, 1, 2, 3, 4, 5]
    assert [each.properties.message_id for each in command.messages] == [body.decode() for body in bodies]


@pytest.mark.parametrize("length", [1, 6])
@pytest.mark.parametrize("method", NEW_ROUTES)
def test_a_publish_of_another_route_begins_a_new_command(method, length):
    stream = publish(1, b"a", method=ONE) * length + publish(1, b"a", method=method) * 2
    commands, _ = read(stream + publish(1, b"a", method=ONE), together=True)
    assert sizes(commands) == [length, 2, 1]


@pytest.mark.parametrize("length", [1, 6])
@pytest.mark.parametrize("properties", NEW_TRAITS)
def test_a_publish_that_is_handled_differently_begins_a_new_command(properties, length):
    plain = publish(1, b"a", properties=Properties(headers={}))
    stream = plain * length + publish(1, b"a", properties=Properties(**{"headers": {}} | properties)) * 2
    assert sizes(read(stream + plain, together=True)[0]) == [length, 2, 1]


@pytest.mark.parametrize("length", [1, 6])
@pytest.mark.parametrize("properties", [{"priority": 1}, {"delivery_mode": 1}, {"headers": None}])
def test_a_publish_of_other_traits_that_is_handled_alike_is_a_part_of_the_command(properties, length):
    plain = publish(1, b"a", properties=Properties(headers={}))
    stream = plain * length + publish(1, b"a", properties=Properties(**{"headers": {}} | properties)) * 2
    ((_, command),) = read(stream + plain, together=True)[0]
    found = [(each.traits.priority, each.traits.has_headers) for each in command.messages]
    other = properties.get("priority", 0), properties.get("headers", {}) is not None
    assert found == [(0, True)] * length + [other] * 2 + [(0, True)]


def test_a_publish_of_another_channel_begins_a_new_command():
    stream = publish(1, b"a") * 2 + publish(2, b"a") * 2 + publish(1, b"a")
    commands, _ = read(stream, together=True)
    assert [channel for channel, _ in commands] == [1, 2, 1]
    assert sizes(commands) == [2, 2, 1]


def test_acknowledgements_of_single_messages_are_one_command_on_their_channel():
    stream = b"".join(method_frame(1, m.BasicAck(tag)) for tag in (5, 4, 9))
    stream += method_frame(2, m.BasicAck(1)) + method_frame(1, m.BasicAck(12, multiple=True))
    commands, _ = read(stream, together=True)
    assert commands == [(1, Acks([5, 4, 9])), (2, m.BasicAck(1)), (1, m.BasicAck(12, multiple=True))]


def test_acknowledgements_on_several_channels_are_one_command_on_each():
    acks = [(1, 5), (2, 1), (3, 7), (1, 4), (2, 2)]
    commands, _ = read(b"".join(method_frame(number, m.BasicAck(tag)) for number, tag in acks), together=True)
    assert commands == [(1, Acks([5, 4])), (2, Acks([1, 2])), (3, m.BasicAck(7))]


ACKS = st.tuples(st.integers(0, 3), st.integers(0, 9), st.sampled_from([0, 0, 0, 0, 1, 2])).map(
    lambda drawn: b"\x01%b%b%b%c\xce" % (drawn[0].to_bytes(2), ACK_HEAD, drawn[1].to_bytes(8), drawn[2])
)
BESIDE = [
    publish(1, b"a"),
    publish(2, b"a")[:-10],
    method_frame(3, m.BasicNack(1)),
    HEARTBEAT,
    b"\x01",
    b"\xce",
]


@given(st.lists(ACKS | st.sampled_from(BESIDE), max_size=12).map(b"".join), st.integers(1, 100))
def test_acknowledgements_are_read_on_each_channel_as_they_are_frame_by_frame(stream, steps):
    made = reader(together=True)
    commands = []
    for start in range(0, len(stream), steps):
        commands += made.receive(stream[start : start + steps])
    one_by_one, other = read(stream)
    assert on_each_channel(commands) == on_each_channel(one_by_one)
    assert str(made.error) == str(other.error)


def test_an_acknowledgement_that_is_not_complete_yet_waits():
    acks = [method_frame(1, m.BasicAck(tag)) for tag in (1, 2, 3)]
    made = reader(together=True)
    assert made.receive(b"".join(acks)[:-1]) == [(1, Acks([1, 2]))]
    assert made.receive(acks[2][-1:]) == [(1, m.BasicAck(3))]


def test_a_bad_end_among_acknowledgements_comes_after_those_before_it():
    acks = [method_frame(1, m.BasicAck(tag)) for tag in (1, 2, 3)]
    commands, made = read(acks[0] + acks[1] + acks[2][:-1] + b"\0", together=True)
    assert commands == [(1, Acks([1, 2]))]
    assert made.error is not None


def test_commands_are_not_combined_by_default():
    stream = (
        publish(1, b"a") + publish(1, b"b") + method_frame(1, m.BasicAck(1)) + method_frame(1, m.BasicAck(2))
    )
    apart, together = read(stream)[0], read(stream, together=True)[0]
    assert (len(apart), len(together)) == (4, 2)
    assert all_shown(apart) == all_shown(together)
