"""The bytes of a message in a stream: its own with the header of its offset, against the generic splice."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leveret.protocol import buffers
from leveret.protocol.amqp.content_frames import pack_frames
from leveret.protocol.amqp.message import Message, pack_route
from leveret.protocol.amqp.properties import (
    Properties,
    decode_properties,
    encode_properties,
    splice_properties,
)
from leveret.protocol.amqp.table import REMOVE, Long
from leveret.router.stream.chunk import pack_chunk
from leveret.router.stream.entries import (
    CHANNEL,
    OFFSET,
    encode_entries,
    encode_entry,
    may_name_stream_header,
)
from tests.protocol.amqp.strategies import PROPERTIES

OFFSETS = st.integers(0, 2**63 - 1)


def build(properties: Properties, body: bytes = b"body", channel: int = CHANNEL) -> Message:
    return Message.from_frames(
        pack_route("x", "k"), pack_frames(channel, encode_properties(properties), body)
    )


@given(PROPERTIES, OFFSETS, st.binary(max_size=20), st.sampled_from([1, 2]))
def test_entry_has_the_message_with_its_offset(
    properties: Properties, offset: int, body: bytes, channel: int
) -> None:
    message = build(properties, body, channel)
    (entry,) = pack_chunk(offset, [encode_entry(message, offset)], 0).decode()
    stored = entry.message
    assert (stored.exchange, stored.routing_key, stored.body, stored.size) == ("x", "k", body, len(body))
    assert stored.headers[OFFSET] == offset
    if properties.headers is None:
        expected = splice_properties(message.raw_properties, headers={OFFSET: Long(offset)})
        assert stored.raw_properties == expected
    else:
        assert splice_properties(stored.raw_properties, headers={OFFSET: REMOVE}) == message.raw_properties


def test_a_message_in_a_mapping_is_encoded_as_one_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = [build(Properties(type="t", headers={"a": 1}), bytes(size)) for size in (9, 9, 8)]
    monkeypatch.setattr(buffers, "MAPPED", 1)
    mapped = []
    for message in plain:
        frames = buffers.make_buffer(len(message.frames))
        frames[:] = message.frames
        mapped.append(message.with_body_of(message.route, frames))  # type: ignore[arg-type]
    assert encode_entries(mapped[:2], 5) == encode_entries(plain[:2], 5)
    assert encode_entries(mapped, 5) == encode_entries(plain, 5)


@pytest.mark.parametrize(
    "headers",
    [{OFFSET: 7, "a": 1}, {"a": OFFSET}, {"a": b"\x0f" + OFFSET.encode()}, {"t": {OFFSET: "x"}}, {}],
)
def test_offset_replaces_a_header_of_the_publisher_with_its_name(headers: dict[str, object]) -> None:
    message = build(Properties(headers=headers, type="t"))  # type: ignore[arg-type]
    (entry,) = pack_chunk(9, [encode_entry(message, 9)], 0).decode()
    decoded = decode_properties(entry.message.raw_properties, 0)
    assert decoded == Properties(headers={**headers, OFFSET: 9}, type="t")  # type: ignore[arg-type]


FIRST = OFFSETS.filter(lambda first: first < 2**62)


@given(PROPERTIES, FIRST, st.integers(1, 5))
def test_messages_that_differ_in_their_bodies_are_encoded_together(
    properties: Properties, first: int, count: int
) -> None:
    messages = [build(properties, bytes([number]) * 5) for number in range(count)]
    one_by_one = [encode_entry(each, offset) for offset, each in enumerate(messages, first)]
    assert encode_entries(messages, first) == one_by_one


MESSAGES = st.builds(
    build, PROPERTIES, st.binary(max_size=20), st.sampled_from([CHANNEL, CHANNEL, CHANNEL, 2])
)


@given(MESSAGES, OFFSETS, OFFSETS)
def test_a_message_read_from_an_entry_has_the_same_entry_again(
    message: Message, offset: int, other: int
) -> None:
    entry = encode_entry(message, offset)
    (stored,) = pack_chunk(offset, [entry], 0).decode()
    again = Message.from_frames(stored.message.route, stored.message.frames)
    assert encode_entry(again, offset) == entry
    assert encode_entry(again, other) == encode_entry(message, other)


@given(st.lists(MESSAGES, min_size=1, max_size=6), FIRST)
def test_messages_that_differ_in_their_properties_are_encoded_together(
    messages: list[Message], first: int
) -> None:
    one_by_one = [encode_entry(each, offset) for offset, each in enumerate(messages, first)]
    assert encode_entries(messages, first) == one_by_one


@given(st.lists(st.text(max_size=30), min_size=1, max_size=4), FIRST)
def test_messages_of_one_content_type_with_different_headers_are_encoded_together(
    texts: list[str], first: int
) -> None:
    messages = [
        build(Properties(content_type="text/plain", headers={"id": text, "n": len(text)}), text.encode())
        for text in texts
    ]
    one_by_one = [encode_entry(each, offset) for offset, each in enumerate(messages, first)]
    assert encode_entries(messages, first) == one_by_one


@pytest.mark.parametrize(
    ("name", "found"),
    [
        (OFFSET, True),
        ("x-stream-filter-value", True),
        ("x-publisher-name", True),
        ("x-publishing-id", True),
        ("x-other", False),
    ],
)
def test_stream_headers_are_found_in_one_of_several_messages(name: str, found: bool) -> None:
    messages = [build(Properties(headers={"a": 1})), build(Properties(headers={name: 1}))]
    assert may_name_stream_header(messages) is found


def test_frames_of_a_large_message_may_be_a_bytearray() -> None:
    message = build(Properties(headers={"a": 1}))
    entry = encode_entry(message, 3)
    message.frames = bytearray(message.frames)
    assert encode_entry(message, 3) == entry
