import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from leveret.protocol.amqp.large_body import LargeBody
from leveret.protocol.stomp.errors import StompError
from leveret.protocol.stomp.frames import (
    BEFORE_LOGIN,
    V1_0,
    V1_1,
    V1_2,
    VERSIONS,
    Frame,
    FrameLimits,
    FrameReader,
    encode_frame,
)

SMALL = FrameLimits(command=10, head=100, headers=4, body=20)


def read(data, version=V1_2, limits=SMALL):
    reader = FrameReader(limits, version)
    reader.feed(data)
    frames = []
    while (frame := reader.next_frame()) is not None:
        frames.append(frame)
    return frames


READ = {
    "no headers": (b"SEND\n\n\0", Frame("SEND")),
    "a body up to the NUL": (b"SEND\na:b\n\nxyz\0", Frame("SEND", {"a": "b"}, b"xyz")),
    "a body of a length, with NULs": (
        b"SEND\ncontent-length:3\n\nx\0z\0",
        Frame("SEND", {"content-length": "3"}, b"x\0z"),
    ),
    "a length with spaces": (b"S\ncontent-length: 1 \n\nx\0", Frame("S", {"content-length": " 1 "}, b"x")),
    "carriage returns": (b"SEND\r\na:b\r\nc:\r\n\r\nx\r\n\0", Frame("SEND", {"a": "b", "c": ""}, b"x\r\n")),
    "line ends, heart-beats and NULs before it": (b"\n\r\n\0\n\nSEND\n\n\0", Frame("SEND")),
    "spaces": (b"SEND\n a : b \n\n\0", Frame("SEND", {" a ": " b "})),
    "colons in a value": (b"SEND\na:b:c\n\n\0", Frame("SEND", {"a": "b:c"})),
    "the first of repeated headers": (b"SEND\na:1\na:2\nb:3\n\n\0", Frame("SEND", {"a": "1", "b": "3"})),
    "escapes": (b"SEND\n\\c\\n:\\r\\\\n\n\n\0", Frame("SEND", {":\n": "\r\\n"})),
    "no escapes in CONNECT": (b"CONNECT\na:\\c\\t\n\n\0", Frame("CONNECT", {"a": "\\c\\t"})),
    "UTF-8": ("SEND\nä:ö\n\n\0".encode(), Frame("SEND", {"ä": "ö"})),
    "no UTF-8": (b"SEND\na:\xff\n\n\0", Frame("SEND", {"a": "\udcff"})),
}
MALFORMED = {
    "a line without colon": (b"SEND\nabc\n\n\0", "There is no colon in line 2, which should be a header"),
    "a later line without colon": (
        b"SEND\r\na:b\r\nabc\r\n\r\n\0",
        "There is no colon in line 3, which should be a header",
    ),
    "an unknown escape": (b"SEND\na:\\t\n\n\0", "The header in line 2 has an unknown escape sequence"),
    "an unfinished escape": (b"SEND\na:b\\\n\n\0", "The header in line 2 has an unknown escape sequence"),
    "an escape in a name": (b"SEND\na\\x:b\n\n\0", "The header in line 2 has an unknown escape sequence"),
    "a negative length": (b"SEND\ncontent-length:-1\n\n\0", "content-length is no number of bytes: '-1'"),
    "a length in words": (b"SEND\ncontent-length:one\n\n\0", "content-length is no number of bytes: 'one'"),
    "an empty length": (b"SEND\ncontent-length:\n\n\0", "content-length is no number of bytes: ''"),
    "a length in other digits": (
        "SEND\ncontent-length:\u0661\n\n\0".encode(),
        "content-length is no number of bytes: '\u0661'",
    ),
    "an absurd length": (
        b"SEND\ncontent-length:" + b"9" * 40 + b"\n\n\0",
        f"content-length is no number of bytes: '{'9' * 40}'",
    ),
    "a body longer than its length": (
        b"SEND\ncontent-length:1\n\nxy\0",
        "There is no NUL behind a body of 1 bytes (content-length)",
    ),
    "no empty line": (b"SEND\na:b\0", "There is no empty line behind the headers"),
    "a long command": (b"x" * 12, "A command is a line of 10 characters at most"),
    "a long command in a line": (b"x" * 11 + b"\n\n\0", "A command is a line of 10 characters at most"),
    "another protocol": (b"AMQP\0\0\x09\x01", "There is no empty line behind the headers"),
}
TOO_LARGE = {
    "too many headers": (b"SEND\na:\nb:\nc:\nd:\ne:\n\n\0", "A frame may have 4 headers"),
    "too long a head": (b"SEND\na:" + b"b" * 100, "Command and headers may have 100 bytes together"),
    "too long a length": (b"SEND\ncontent-length:21\n\n", "A body may have 20 bytes"),
    "too long a body": (b"SEND\n\n" + b"x" * 21, "A body may have 20 bytes"),
    "too long a body, complete": (b"SEND\n\n" + b"x" * 21 + b"\0", "A body may have 20 bytes"),
}


@pytest.mark.parametrize(("data", "frame"), READ.values(), ids=READ)
def test_frames_are_read(data, frame):
    assert read(data) == [frame]
    assert read(data + data) == [frame, frame]


@pytest.mark.parametrize(("data", "frame"), READ.values(), ids=READ)
def test_frames_are_read_byte_by_byte(data, frame):
    reader = FrameReader(SMALL)
    for number in range(len(data) - 1):
        reader.feed(data[number : number + 1])
        assert reader.next_frame() is None
    reader.feed(data[-1:])
    assert reader.next_frame() == frame


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize(
    ("message", "data", "detail"),
    [("Malformed frame", *case) for case in MALFORMED.values()]
    + [("Frame too large", *case) for case in TOO_LARGE.values()],
    ids=[*MALFORMED, *TOO_LARGE],
)
def test_what_is_no_frame_is_refused(message, data, detail, whole):
    reader = FrameReader(SMALL)
    with pytest.raises(StompError) as caught:  # noqa: PT012 - whichever piece it shows in
        for number in range(1 if whole else len(data)):
            reader.feed(data if whole else data[number : number + 1])
            reader.next_frame()
    assert (str(caught.value), caught.value.detail) == (message, detail)


@pytest.mark.parametrize(
    ("version", "value"), [(V1_0, "\\c\\n\\r"), (V1_1, None), (V1_2, ":\n\r")], ids=VERSIONS
)
def test_each_version_has_its_own_escapes(version, value):
    data = b"SEND\na:\\c\\n\\r\n\n\0"
    if value is None:
        with pytest.raises(StompError):
            read(data, version)
    else:
        assert read(data, version) == [Frame("SEND", {"a": value})]


ESCAPES = {V1_0: {}, V1_1: {"n": "\n", "c": ":", "\\": "\\"}}
ESCAPES[V1_2] = ESCAPES[V1_1] | {"r": "\r"}


def unescaped(text, escapes):
    """The text without escapes, character by character; None if it has an unknown one."""
    plain, characters = "", iter(text)
    for character in characters:
        found = escapes.get(next(characters, "")) if character == "\\" and escapes else character
        if found is None:
            return None
        plain += found
    return plain


@given(st.sampled_from(VERSIONS), st.text("\\\\\\ncrx", max_size=12))
@example(V1_2, "\\" * 5)
@example(V1_2, "\\" * 4 + "n")
def test_escapes_are_replaced_from_left_to_right(version, text):
    data = f"SEND\na:{text}\n\n\0".encode()
    value = unescaped(text, ESCAPES[version])
    if value is None:
        with pytest.raises(StompError, match="Malformed frame"):
            read(data, version)
    else:
        assert read(data, version) == [Frame("SEND", {"a": value})]


def test_the_size_of_a_head_is_that_of_the_last_frame():
    reader = FrameReader(SMALL)
    reader.feed(b"\nSEND\na:b\n\nx\0SEND\n\n\0")
    assert reader.next_frame() is not None
    assert reader.head_size == len(b"SEND\na:b")
    assert reader.next_frame() is not None
    assert reader.head_size == len(b"SEND")


def test_1_0_ignores_spaces_before_a_value():
    assert read(b"SEND\na:  b \n\n\0", V1_0) == [Frame("SEND", {"a": "b "})]


@pytest.mark.parametrize(("version", "kept"), [(V1_0, "b\r"), (V1_1, "b\r"), (V1_2, "b")], ids=VERSIONS)
def test_a_carriage_return_ends_a_line_if_the_frame_or_the_version_says_so(version, kept):
    assert read(b"SEND\na:b\r\n\n\0", version) == [Frame("SEND", {"a": kept})]
    assert read(b"SEND\r\na:b\r\n\r\n\0", version) == [Frame("SEND", {"a": "b"})]


def test_the_version_and_the_limits_may_change_between_frames():
    reader = FrameReader(BEFORE_LOGIN)
    reader.feed(b"CONNECT\n\n\0SEND\na:\\c\n\n" + b"x" * 2000 + b"\0")
    assert reader.next_frame() == Frame("CONNECT")
    reader.version, reader.limits = V1_0, FrameLimits()
    assert reader.next_frame() == Frame("SEND", {"a": "\\c"}, b"x" * 2000)


def test_a_frame_is_incomplete_from_the_end_of_its_headers_on():
    reader = FrameReader(SMALL)
    for piece, incomplete in ((b"SEND\n", False), (b"\n", True), (b"x", True), (b"\0", False)):
        reader.feed(piece)
        reader.next_frame()
        assert reader.incomplete() is incomplete


@pytest.mark.parametrize(
    ("version", "line"),
    [
        (V1_0, b"a\\cb:c:d\\n\\re\\f\n"),
        (V1_1, b"a\\cb:c\\cd\\n\re\\\\f\n"),
        (V1_2, b"a\\cb:c\\cd\\n\\re\\\\f\n"),
    ],
    ids=VERSIONS,
)
def test_headers_are_escaped_as_the_version_wants(version, line):
    frame = Frame("MESSAGE", {"a:b": "c:d\n\re\0\\f"}, b"x")
    assert encode_frame(frame, version) == b"MESSAGE\n" + line + b"content-length:1\n\nx\0\n"


def test_connected_is_not_escaped():
    assert encode_frame(Frame("CONNECTED", {"a": "b:c\\"}), V1_2) == b"CONNECTED\na:b:c\\\n\n\0\n"


def test_the_length_is_that_of_the_body():
    assert (
        encode_frame(Frame("SEND", {"content-length": "7"}, b"x"), V1_2) == b"SEND\ncontent-length:1\n\nx\0\n"
    )
    assert encode_frame(Frame("SEND", {"content-length": "7"}), V1_2) == b"SEND\n\n\0\n"


def texts(version):
    """What headers of a version can hold; names do not begin with a blank, which some receivers drop."""
    excluded = {V1_0: "\n\r\0:", V1_1: "\0", V1_2: "\0"}[version]
    return st.text(st.characters(exclude_characters=excluded, exclude_categories=["Cs"]), max_size=8)


@st.composite
def frames(draw, version):
    value = texts(version).map(lambda text: text.lstrip(" ") if version == V1_0 else text)
    headers = draw(
        st.dictionaries(texts(version).filter(lambda name: name != "content-length"), value, max_size=4)
    )
    return Frame(draw(st.sampled_from(("SEND", "MESSAGE", "ACK"))), headers, draw(st.binary(max_size=20)))


@st.composite
def exchanges(draw):
    version = draw(st.sampled_from(VERSIONS))
    return (
        version,
        draw(st.lists(frames(version), max_size=4)),
        draw(st.lists(st.integers(1, 40), min_size=1)),
    )


@pytest.mark.slow
@given(exchanges())
def test_what_was_encoded_is_read_again_in_whatever_pieces_it_comes(exchange):
    version, sent, sizes = exchange
    data = b"".join(encode_frame(frame, version) for frame in sent)
    reader = FrameReader(FrameLimits(), version)
    came = []
    while data:
        for size in sizes:
            reader.feed(data[:size])
            data = data[size:]
            while (frame := reader.next_frame()) is not None:
                frame.headers.pop("content-length", None)
                came.append(frame)
    assert came == sent


def buffered(frame, size, arrived):
    """Buffers for bodies of 20 bytes or more, after a quarter has arrived."""
    return LargeBody(0, b"head", size, size) if size >= 20 and arrived * 4 >= size else None


@pytest.mark.parametrize("step", [1, 7, 30, 100])
@pytest.mark.parametrize("size", [5, 20, 90])
def test_a_large_body_is_collected_in_its_buffer(size, step):
    body = bytes(range(size))
    sent = b"SEND\ncontent-length:%d\n\n%b\0\n" % (size, body)
    reader, found = FrameReader(FrameLimits(), make_buffer=buffered), []
    data = sent * 3 + b"SEND\n\nx\0"
    for start in range(0, len(data), step):
        reader.feed(data[start : start + step])
        assert reader.held <= size + 1000
        while (frame := reader.next_frame()) is not None:
            found.append(frame)
    assert [bytes(frame.body) for frame in found] == [body] * 3 + [b"x"]
    assert reader.held == 0
    for frame in found:
        assert frame.content is None or bytes(frame.content).startswith(b"head")
    if size < 20 or step <= 7:
        assert {frame.content is not None for frame in found[:-1]} == {size >= 20}


def test_a_large_body_must_end_with_a_nul():
    reader = FrameReader(FrameLimits(), make_buffer=buffered)
    reader.feed(b"SEND\ncontent-length:30\n\n" + bytes(20))
    assert reader.next_frame() is None
    reader.feed(bytes(10) + b"x")
    with pytest.raises(StompError):
        reader.next_frame()


@given(st.binary(max_size=200), st.integers(1, 200))
def test_any_bytes_are_frames_or_refused_the_same_way_however_they_are_cut(data, cut):
    def outcome(pieces):
        reader, found = FrameReader(SMALL), []
        try:
            for piece in pieces:
                reader.feed(piece)
                while (frame := reader.next_frame()) is not None:
                    found.append(frame)
        except StompError as error:
            return found, str(error)
        return found, None

    assert outcome([data]) == outcome([data[:cut], data[cut:]])
