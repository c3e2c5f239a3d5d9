from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leveret.protocol import buffers
from leveret.protocol.amqp import methods as m
from leveret.protocol.amqp.content_frames import pack_frames, reframe
from leveret.protocol.amqp.message import CACHED_BYTES, Message, ParsedMessage, pack_route, unpack_route
from leveret.protocol.amqp.properties import Properties, encode_properties
from leveret.protocol.amqp.reader import CommandReader
from leveret.protocol.amqp.traits import DIRECT_REPLY_TO, traits_of
from tests.protocol.amqp.frames import body, header, publish
from tests.protocol.amqp.strategies import PROPERTIES, SHORT_TEXT, escaped

BODIES = st.binary(max_size=300)
RAW = encode_properties(Properties(content_type="text/plain", headers={"a": 1}))


@given(escaped(255), escaped(255))
def test_a_route_survives_packing(exchange, routing_key):
    assert unpack_route(pack_route(exchange, routing_key)) == (exchange, routing_key)


@given(SHORT_TEXT, SHORT_TEXT, PROPERTIES, BODIES, st.booleans())
def test_a_built_message_has_its_parts(exchange, routing_key, properties, data, mandatory):
    message = Message.build(exchange, routing_key, properties, data, mandatory=mandatory)
    assert (message.exchange, message.routing_key) == (exchange, routing_key)
    assert (message.body, message.size) == (data, len(data))
    assert (message.properties, message.raw_properties) == (properties, encode_properties(properties))
    assert message.headers == (properties.headers or {})
    assert message.traits is traits_of(properties)
    assert (message.mandatory, message.immediate) == (mandatory, False)


@given(PROPERTIES, BODIES, st.integers(0, 65535), st.sampled_from((0, 9, 4096)))
def test_what_begins_with_a_kept_messages_header_needs_no_reading(properties, data, channel, frame_max):
    raw = encode_properties(properties)
    kept = Message.from_frames(b"\x01e\x01k", pack_frames(channel, raw, data, frame_max))
    frames = pack_frames(channel, raw, data[::-1])
    assert frames.startswith(kept.header_frame)
    quick, slow = kept.with_body_of(b"\0\x01q", frames), Message.from_frames(b"\0\x01q", frames)
    for name in ParsedMessage.__slots__:
        assert getattr(quick, name) == getattr(slow, name)


KEYS = st.lists(escaped(300), min_size=1, max_size=4)


@given(PROPERTIES, BODIES, KEYS, st.integers(0, 65535), st.sampled_from((0, 50, 4096)))
def test_blind_keys_are_kept_with_a_message_and_never_sent(properties, data, keys, channel, frame_max):
    raw = encode_properties(properties)
    built = Message.build("e", "k", properties, data)
    blind = built.rewritten("x", "y", raw, keys)
    again = Message.from_frames(blind.route, blind.frames)
    after = again.with_body_of(blind.route, blind.rewritten("x", "y", raw, ["other"]).frames)
    for each in (blind, again):
        assert each.blind_keys == keys
    assert after.blind_keys == ["other"]
    assert built.blind_keys == again.rewritten("x", "y", raw).blind_keys == ()
    for each in (blind, again, after):
        assert (each.exchange, each.routing_key, each.body, each.size) == ("x", "y", data, len(data))
        assert (each.properties, each.raw_properties) == (properties, raw)
        assert each.traits is traits_of(properties)
        assert each.channel != channel
        assert each.framed_for(channel, frame_max) == pack_frames(channel, raw, data, frame_max)


@given(BODIES, st.integers(0, 65535), st.sampled_from((0, 9, 10, 50, 4096)))
def test_frames_are_header_and_body_cut_to_size(data, channel, frame_max):
    piece = frame_max - 8 if frame_max else 0
    expected = header(channel, len(data), RAW) + (body(channel, data, piece) if data else b"")
    assert pack_frames(channel, RAW, data, frame_max) == expected


def sent(data, piece, sender_max):
    """A message as the reader makes it of frames of ``piece`` bytes of body."""
    ((_, message),) = CommandReader(sender_max, 1 << 20).receive(publish(3, data, piece=piece))
    return message


@given(
    st.binary(max_size=20_000),
    st.sampled_from((0, 1, 100, 4088)),
    st.sampled_from((3, 4)),
    st.sampled_from((0, 4096, 8192, 131072)),
)
def test_a_message_is_framed_for_any_receiver(data, piece, channel, frame_max):
    message = sent(data, piece, 131072)
    frames = message.framed_for(channel, frame_max)
    reader = CommandReader(frame_max - 8 if frame_max else 0, 1 << 20)
    reader.receive(b"\1" + channel.to_bytes(2, "big") + b"\0\0\0\x09\0\x3c\0\x28\0\0\0\0\0\xce")
    ((number, received),) = reader.receive(frames)
    assert reader.error is None
    assert (number, received.body, received.properties) == (channel, data, message.properties)
    assert message.framed_for(channel, frame_max, b"a method frame") == b"a method frame" + frames


def test_what_fits_is_sent_as_it_came():
    message = sent(b"abc", 0, 4096)
    assert message.framed_for(3, 4096) is message.frames
    assert message.framed_for(3, 0) is message.frames


def test_many_small_frames_of_one_channel_are_sent_as_they_came():
    message = sent(bytes(50_000), 4088, 4096)
    assert message.framed_for(3, 4096) is message.frames
    assert message.framed_for(3, 131072) is message.frames


@pytest.mark.parametrize("data", [b"", b"abc", bytes(9000)], ids=len)
def test_a_rewritten_message_keeps_its_body_alone(data):
    message = sent(data, 4088, 4096)
    other = message.rewritten("x", "k", RAW)
    assert (other.exchange, other.routing_key, other.body) == ("x", "k", data)
    assert other.raw_properties == RAW
    assert other.properties.headers == {"a": 1}
    assert other.bits == 0


@pytest.mark.parametrize(
    ("mandatory", "immediate"), [(False, False), (True, False), (False, True), (True, True)]
)
def test_flags(mandatory, immediate):
    method = m.BasicPublish("x", "k", mandatory, immediate)
    ((_, message),) = CommandReader(0, 99).receive(publish(1, b"x", method=method))
    assert (message.mandatory, message.immediate) == (mandatory, immediate)


@given(PROPERTIES, st.integers(0, 6000), st.sampled_from((0, 5000)))
def test_some_headers_are_read_as_they_are_among_all(properties, filler, size):
    headers = (properties.headers or {}) | {"filler": "x" * filler}
    properties = replace(properties, headers=headers)
    message = Message.build("", "", properties, bytes(size))
    for name in (*headers, "CC"):
        assert message.some_headers(name, "x-death").get(name) == headers.get(name)
        assert message.header(name) == headers.get(name)
        assert (name in message.some_headers(name)) == (name in headers)


def test_of_headers_with_one_name_the_first_is_read():
    table = (
        b"\x02CCV"
        + b"\x01aI\x00\x00\x00\x01"
        + b"\x00V" * CACHED_BYTES
        + b"\x01aI\x00\x00\x00\x02"
        + b"\x02CCt\x01"
    )
    raw = b"\x20\x00" + len(table).to_bytes(4) + table
    message = Message.from_frames(b"\0\0", pack_frames(1, raw, b""))
    assert message.some_headers("a", "CC", "b") == {"a": 1, "CC": None}


@given(PROPERTIES, st.sampled_from(("CC", "BCC", "other")), st.integers(0, 6000))
def test_rewritten_messages_have_the_traits_of_their_properties(properties, name, filler):
    headers = (properties.headers or {}) | {"filler": "x" * filler, name: ["key"]}
    raw = encode_properties(replace(properties, headers=headers))
    message = Message.build("", "", Properties(), b"").rewritten("", "", raw)
    found, expected = message.traits, traits_of(message.properties)
    assert all(
        getattr(found, each) == getattr(expected, each) for each in found.__slots__ if each != "handling"
    )


@given(PROPERTIES, BODIES, st.integers(0, 65534), st.sampled_from((0, 50)), st.booleans())
def test_a_reply_address_is_replaced_as_rewriting_does_it(properties, data, channel, frame_max, again):
    changes = {"correlation_id": "\x15" + DIRECT_REPLY_TO} if again else {}
    properties = replace(properties, reply_to=DIRECT_REPLY_TO, **changes)
    frames = pack_frames(channel, encode_properties(properties), data, frame_max)
    message = Message.from_frames(b"\0\x01q", frames)
    quick = message.with_reply_address("elsewhere")
    assert (quick is None) == again
    if quick is None:
        return
    slow = message.rewritten("", "q", encode_properties(replace(properties, reply_to="elsewhere")))
    for name in ("route", "bits", "size", "raw_properties", "body"):
        assert getattr(quick, name) == getattr(slow, name)
    assert quick.channel == channel
    assert quick.framed_for(channel + 1, 0) == slow.framed_for(channel + 1, 0)
    assert all(
        getattr(quick.traits, each) == getattr(slow.traits, each)
        for each in slow.traits.__slots__
        if each != "handling"
    )


@given(PROPERTIES, st.binary(min_size=1, max_size=9000), st.sampled_from((1, 7)), st.sampled_from((0, 500)))
def test_a_message_in_a_mapping_is_what_it_is_in_bytes(properties, data, channel, frame_max):
    properties = replace(properties, reply_to=DIRECT_REPLY_TO, headers={"a": 1, "b": [2]})
    raw = encode_properties(properties)
    plain = Message.from_frames(b"\x01e\x01k", pack_frames(1, raw, data, 1000))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(buffers, "MAPPED", 1)
        buffer = buffers.make_buffer(len(plain.frames))
    assert isinstance(buffer, buffers.MappedBuffer)
    buffer[:] = plain.frames
    mapped = Message.from_frames(b"\x01e\x01k", buffer)
    for name in ("body", "raw_properties", "properties", "headers", "header_frame", "size"):
        assert getattr(mapped, name) == getattr(plain, name), name
    assert mapped.header("b") == [2]
    for change in (lambda it: it.rewritten("x", "y", RAW), lambda it: it.with_reply_address("here")):
        one, other = change(mapped), change(plain)
        assert (one is None and other is None) or one.frames == other.frames
    parts = mapped.framed_parts(channel, frame_max)
    assert b"".join(parts) == plain.framed_for(channel, frame_max)
    assert bytes(mapped.framed_for(channel, frame_max)) == plain.framed_for(channel, frame_max)


@given(st.lists(st.binary(max_size=50)), st.integers(1, 60))
def test_a_body_in_pieces_is_framed_as_a_whole_one(pieces, most):
    assert b"".join(reframe(3, pieces, most)) == body(3, b"".join(pieces), most) * any(pieces)
