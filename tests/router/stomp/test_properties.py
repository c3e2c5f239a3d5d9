import pytest
from hypothesis import given
from hypothesis import strategies as st

from leveret.protocol.amqp.content_frames import pack_frames
from leveret.protocol.amqp.message import Message, pack_route
from leveret.protocol.amqp.properties import Properties, decode_properties, encode_properties
from leveret.protocol.stomp.errors import StompError
from leveret.protocol.stomp.frames import V1_1, V1_2, VERSIONS, FrameLimits, FrameReader, encode_headers
from leveret.router.stomp.header_lines import header_lines, lines_in_slices
from leveret.router.stomp.properties import NUMBERS, OWN, TEXTS, pack_properties
from leveret.router.turns.backlog import at_once
from tests.protocol.amqp.strategies import PROPERTIES, VALUES

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=60)
own_names = texts.filter(lambda name: name not in {*TEXTS, *NUMBERS, *OWN, "persistent"})


@st.composite
def send_headers(draw):
    """Headers of a SEND frame that a MESSAGE frame tells as they are."""
    headers = draw(st.dictionaries(own_names, texts, max_size=4))
    headers |= draw(st.dictionaries(st.sampled_from(sorted(TEXTS)), texts))
    if "reply-to" in headers:
        headers["reply-to"] = "/" + headers["reply-to"]
    for name, (_, size) in NUMBERS.items():
        if draw(st.booleans()):
            headers[name] = str(draw(st.integers(0, 256**size - 1)))
    if draw(st.booleans()):
        headers["persistent"] = "true"
    return headers


def packed(headers: dict[str, str], body: bytes = b"") -> Message:
    """The message of a SEND frame with these headers."""
    return Message.from_frames(pack_route("", "q"), pack_frames(0, pack_properties(headers), body))


def read(message: Message, version: str = V1_2) -> dict[str, str]:
    """The headers of the message's lines, as a client reads them, without the destination."""
    reader = FrameReader(FrameLimits(head=1 << 20), version)
    reader.feed(b"MESSAGE\n" + header_lines(message, version) + b"\n\0")
    frame = reader.next_frame()
    assert frame is not None
    assert frame.headers.pop("destination") == "/queue/q"
    return frame.headers


@given(send_headers(), st.sampled_from([V1_1, V1_2]))
def test_headers_survive_being_properties(headers, version):
    if version == V1_1 and any("\r" in text for pair in headers.items() for text in pair):
        return  # version 1.1 has no escape for it
    assert read(packed(headers), version) == headers


def expected(properties: Properties) -> dict[str, str]:
    """The headers for decoded properties. A mapped name wins over a header of the message."""
    found = {}
    names = {name: name.removeprefix("amqp-").replace("-", "_") for name in (*TEXTS, *NUMBERS)}
    for header, field in names.items():
        value = getattr(properties, field)
        if value is not None:
            found[header] = str(value)
    if "reply-to" in found and not found["reply-to"].startswith("/"):
        found["reply-to"] = "/reply-queue/" + found["reply-to"]
    if properties.delivery_mode == 2:
        found["persistent"] = "true"
    for name, value in (properties.headers or {}).items():
        if isinstance(value, bytes):
            value = value.decode("utf-8", "surrogateescape")  # noqa: PLW2901
        elif isinstance(value, bool):
            value = str(value).lower()  # noqa: PLW2901
        if isinstance(value, str | int | float) and name not in OWN:
            found.setdefault(name, str(value))
    return found


mapped_names = st.sampled_from([*TEXTS, *NUMBERS, *OWN, "persistent", "own"])


@given(PROPERTIES, st.dictionaries(mapped_names, VALUES), st.sampled_from(VERSIONS))
def test_lines_of_raw_properties_are_those_of_the_decoded_ones(properties, more, version):
    if properties.headers is not None:
        properties.headers |= more
    message = Message.build("", "q", properties, b"")
    decoded = decode_properties(message.raw_properties, 0)
    lines = encode_headers({"destination": "/queue/q", **expected(decoded)}, version)
    assert sorted(header_lines(message, version).split(b"\n")) == sorted(lines.split(b"\n"))


@given(send_headers())
def test_properties_are_packed_as_the_codec_packs_them(headers):
    raw = pack_properties(headers)
    assert encode_properties(decode_properties(raw, 0)) == raw


def test_there_is_always_a_table_of_headers():
    raw = pack_properties({"destination": "/queue/q", "persistent": "false"})
    assert decode_properties(raw, 0) == Properties(headers={})


@pytest.mark.parametrize(
    "headers",
    [
        {"priority": "256"},
        {"priority": "-1"},
        {"priority": "1.0"},
        {"priority": ""},
        {"priority": "\u0663"},
        {"timestamp": str(2**64)},
        {"timestamp": "9" * 5000},
        {"content-type": "x" * 256},
        {"x" * 256: "y"},
    ],
    ids=str,
)
def test_what_no_property_can_hold_is_refused(headers):
    with pytest.raises(StompError, match="Invalid header"):
        pack_properties(headers)


@given(PROPERTIES, st.dictionaries(mapped_names, VALUES), st.sampled_from(VERSIONS), st.integers(1, 3))
def test_lines_in_slices_are_those_made_at_once(properties, more, version, size):
    if properties.headers is not None:
        properties.headers |= more
    message = Message.build("", "q", properties, b"")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("leveret.router.stomp.header_lines.SLICE", size)
        assert at_once(lines_in_slices(message, version)) == header_lines(message, version)


def test_lines_of_messages_alike_are_made_once():
    one, other = (Message.build("", "q", Properties(type="t"), body) for body in (b"1", b"2"))
    assert header_lines(one, V1_2) is header_lines(other, V1_2)
    assert header_lines(one, V1_2) == b"destination:/queue/q\ntype:t\n"
    assert header_lines(Message.build("", "p", Properties(), b""), V1_2) == b"destination:/queue/p\n"
