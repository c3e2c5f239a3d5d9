import pytest
from hypothesis import given
from hypothesis import strategies as st

from leveret.protocol.amqp.message import Message
from leveret.protocol.amqp.properties import Properties
from leveret.protocol.stomp.errors import StompError
from leveret.protocol.stomp.frames import V1_2
from leveret.router.stomp.properties import NUMBERS, OWN, TEXTS, header_lines, headers_of, properties_of

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=60)
own_names = texts.filter(lambda name: name not in {*TEXTS, *NUMBERS, *OWN, "persistent"})


@st.composite
def send_headers(draw):
    """Headers of a SEND frame that a MESSAGE frame tells as they are."""
    headers = draw(st.dictionaries(own_names, texts, max_size=4))
    headers |= draw(st.dictionaries(st.sampled_from(sorted(TEXTS)), texts))
    if "reply-to" in headers:
        headers["reply-to"] = "/" + headers["reply-to"]
    for name, (_, highest) in NUMBERS.items():
        if draw(st.booleans()):
            headers[name] = str(draw(st.integers(0, highest)))
    if draw(st.booleans()):
        headers["persistent"] = "true"
    return headers


@given(send_headers())
def test_headers_survive_being_properties(headers):
    assert headers_of(properties_of(headers)) == headers


@given(send_headers())
def test_headers_survive_being_stored(headers):
    message = Message.build("", "q", properties_of(headers), b"")
    read = Message.from_frames(message.route, message.frames)
    assert headers_of(read.properties) == headers


def test_there_is_always_a_table_of_headers():
    assert properties_of({"destination": "/queue/q", "persistent": "false"}) == Properties(headers={})


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
        properties_of(headers)


def test_lines_are_the_same_whether_properties_were_built_or_decoded():
    built = Message.build("", "q", properties_of({"a": "b" * 300, "n": "1", "persistent": "true"}), b"")
    read = Message.from_frames(built.route, built.frames)
    assert header_lines(built, V1_2) == header_lines(read, V1_2)


def test_lines_of_messages_alike_are_made_once():
    one, other = (Message.build("", "q", Properties(type="t"), body) for body in (b"1", b"2"))
    assert header_lines(one, V1_2) is header_lines(other, V1_2)
    assert header_lines(one, V1_2) == b"destination:/queue/q\ntype:t\n"
    assert header_lines(Message.build("", "p", Properties(), b""), V1_2) == b"destination:/queue/p\n"
