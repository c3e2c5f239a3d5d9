"""Frames from a client, fed whole and in any pieces. The numbers are those of the Autobahn test suite."""

import base64
import struct
import zlib
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsproto.connection import Connection, ConnectionType
from wsproto.events import CloseConnection, Message, Pong

from leveret.protocol.http import HttpError, Request
from leveret.protocol.websocket import EVENTS, INFLATE, MOST, PONGS, Deflate, Text, WebSocket, accept

CONT, TEXT, BIN, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
MASK = b"\x12\x34\x56\x78"
MAX = 1000
PROTOCOL_ERROR, UNSUPPORTED, NOT_UTF8, TOO_BIG = 1002, 1003, 1007, 1009


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0, mask: bool = True) -> bytes:
    """A client's frame."""
    head = bytes([fin << 7 | rsv << 4 | opcode])
    size, bit = len(payload), mask << 7
    if size < 126:
        head += bytes([bit | size])
    elif size < 65536:
        head += bytes([bit | 126]) + struct.pack("!H", size)
    else:
        head += bytes([bit | 127]) + struct.pack("!Q", size)
    if not mask:
        return head + payload
    return head + MASK + bytes(octet ^ MASK[index % 4] for index, octet in enumerate(payload))


def close(code: int, reason: bytes = b"") -> bytes:
    return frame(CLOSE, struct.pack("!H", code) + reason)


def part(opcode: int, payload: bytes = b"") -> bytes:
    return frame(opcode, payload, fin=False)


class Side:
    """A WebSocket, and what its client got."""

    def __init__(self, **options) -> None:
        self.wire = WebSocket(MAX, **options)
        self.client = Connection(ConnectionType.CLIENT)
        self.payload = b""

    def feed(self, *chunks: bytes) -> "Side":
        for chunk in chunks:
            self.wire.feed(chunk)
            while self.wire.pending:
                self.payload += self.wire.read()
        return self

    def got(self, *data: bytes) -> list:
        """What these bytes say to the client."""
        self.client.receive_data(b"".join(data))
        return list(self.client.events())

    @property
    def verdict(self) -> int | None:
        """The code that it closes with, None if it does not."""
        if not self.wire.ended:
            return None
        (event,) = self.got(self.wire.close())
        assert isinstance(event, CloseConnection)
        return event.code


# -- what arrives --------------------------------------------------------------------------------------------

FINE = {
    "1.2 binary": (frame(BIN, b"ab"), b"ab"),
    "1.2.1 empty": (frame(BIN), b""),
    "1.2 of 126": (frame(BIN, bytes(126)), bytes(126)),
    "several messages": (frame(BIN, b"ab") + frame(BIN) + frame(BIN, b"c"), b"abc"),
    "2.2 ping": (frame(PING, b"x") + frame(BIN, b"ab"), b"ab"),
    "2.4 ping of 125": (frame(PING, bytes(125)) + frame(BIN, b"ab"), b"ab"),
    "2.7 unasked pong": (frame(PONG, b"x") + frame(BIN, b"ab"), b"ab"),
    "5.6 ping between fragments": (part(BIN, b"a") + frame(PING, b"x") + frame(CONT, b"b"), b"ab"),
    "5.8 pings between fragments": (
        part(BIN, b"a") + frame(PING) + part(CONT, b"b") + frame(PONG) + part(CONT) + frame(CONT, b"c"),
        b"abc",
    ),
    "fragments of nothing": (part(BIN) + part(CONT) + frame(CONT), b""),
}


@pytest.mark.parametrize(("data", "payload"), FINE.values(), ids=FINE.keys())
def test_payload(data, payload):
    for side in (Side().feed(data), Side().feed(*(data[n : n + 1] for n in range(len(data))))):
        assert side.payload == payload
        assert side.verdict is None


WRONG = {
    "1.1 text": (frame(TEXT, b"ab"), UNSUPPORTED),
    "2.5 ping of 126": (frame(PING, bytes(126)), PROTOCOL_ERROR),
    "3.1 reserved bit 3": (frame(BIN, b"x", rsv=1), PROTOCOL_ERROR),
    "3.3 reserved bit 2": (frame(BIN, b"x", rsv=2), PROTOCOL_ERROR),
    "3.7 reserved bit 1": (frame(BIN, b"x", rsv=4), PROTOCOL_ERROR),
    "3.5 reserved bit of a ping": (frame(PING, rsv=4), PROTOCOL_ERROR),
    "4.1 reserved opcode": (frame(3), PROTOCOL_ERROR),
    "4.2 reserved control opcode": (frame(11), PROTOCOL_ERROR),
    "5.1 fragmented ping": (part(PING), PROTOCOL_ERROR),
    "5.9 continuation of nothing": (frame(CONT, b"x"), PROTOCOL_ERROR),
    "5.15 continuation of a whole": (frame(BIN, b"ab") + frame(CONT, b"x"), PROTOCOL_ERROR),
    "5.18 message in a message": (part(BIN) + frame(BIN), PROTOCOL_ERROR),
    "no mask": (frame(BIN, b"x", mask=False), PROTOCOL_ERROR),
    "length in too many bytes": (b"\x82\xfe\x00\x01" + MASK + b"x", PROTOCOL_ERROR),
    "length of 2**63": (b"\x82\xff\x80" + bytes(7) + MASK, PROTOCOL_ERROR),
    "7.3.2 close of one byte": (frame(CLOSE, b"\x03"), PROTOCOL_ERROR),
    "7.3.6 close of 126": (close(1000, bytes(124)), PROTOCOL_ERROR),
    "7.5.1 reason that is not UTF-8": (close(1000, b"\xce\xba\xff"), NOT_UTF8),
    "too big": (frame(BIN, bytes(MAX + 1)), TOO_BIG),
    "too big in fragments": (part(BIN, bytes(MAX)) + part(CONT) + frame(CONT, b"x"), TOO_BIG),
    **{
        f"7.9 code {code}": (close(code), PROTOCOL_ERROR)
        for code in (0, 999, 1004, 1005, 1006, 1016, 2999, 5000)
    },
}


@pytest.mark.parametrize(("data", "code"), WRONG.values(), ids=WRONG.keys())
def test_fault_ends_it_with_its_code(data, code):
    behind = frame(BIN, b"behind")
    whole = Side().feed(data + behind)
    assert whole.verdict == code
    assert b"behind" not in whole.payload
    single = Side().feed(*(data[n : n + 1] for n in range(len(data))))
    assert single.verdict == code


def test_largest_message_may_be_followed_by_another():
    side = Side().feed(frame(BIN, bytes(MAX)) + part(BIN, bytes(MAX - 1)) + frame(CONT, b"x"))
    assert len(side.payload) == 2 * MAX
    assert side.verdict is None


def test_size_is_refused_before_all_of_it_has_come():
    side = Side().feed(b"\x82\xff" + struct.pack("!Q", 2**62) + MASK, bytes(MAX))
    assert side.verdict is None
    assert side.feed(b"x").verdict == TOO_BIG


@pytest.mark.parametrize("code", [1000, 1001, 1003, 1007, 1011, 3000, 4999])
def test_close_is_answered_with_its_code(code):
    side = Side().feed(close(code, "why é".encode()) + frame(BIN, b"behind"))
    assert (side.payload, side.wire.failed) == (b"", False)
    assert side.verdict == code
    assert side.wire.close() == b""


def test_close_without_a_code_is_answered():
    assert Side().feed(frame(CLOSE)).verdict in (1000, 1005)


def test_close_of_the_server_is_over_when_it_is_answered():
    side = Side()
    assert [event.code for event in side.got(side.wire.close(1001))] == [1001]
    assert side.wire.send(b"late") == b""
    side.feed(frame(BIN, b"still sent"), close(1001))
    assert side.payload == b"still sent"
    assert side.wire.ended
    assert side.wire.close() == b""
    side.feed(frame(BIN, b"behind"))
    assert side.payload == b"still sent"


# -- pings ---------------------------------------------------------------------------------------------------


def test_pings_are_answered_with_their_payload():
    side = Side().feed(frame(PING, b"a") + part(BIN, b"x") + frame(PING, b"b"))
    assert side.got(side.wire.take_control()) == [Pong(b"a"), Pong(b"b")]
    assert side.wire.take_control() == b""


def test_of_many_pings_the_last_are_answered():
    side = Side().feed(b"".join(frame(PING, b"%d" % n) for n in range(PONGS + 5)))
    assert side.got(side.wire.take_control()) == [Pong(b"%d" % n) for n in range(5, PONGS + 5)]


def test_nothing_but_the_close_is_sent_after_a_fault():
    side = Side().feed(frame(PING, b"a") + frame(CONT))
    assert (side.wire.take_control(), side.wire.ping(), side.wire.send(b"x")) == (b"", b"", b"")
    assert side.verdict == PROTOCOL_ERROR


# -- text ----------------------------------------------------------------------------------------------------

UTF8 = {
    "whole": (frame(TEXT, "κόσμε".encode()), None),
    "6.2 split within a character": (part(TEXT, b"\xce") + frame(CONT, b"\xba"), None),
    "6.3 not UTF-8": (frame(TEXT, b"\xce\xba\xff"), NOT_UTF8),
    "6.4.1 at once, not at the end": (part(TEXT, b"\xf4\x90"), NOT_UTF8),
    "6.6 cut off": (frame(TEXT, b"\xce"), NOT_UTF8),
    "6.12 surrogate": (frame(TEXT, b"\xed\xa0\x80"), NOT_UTF8),
    "overlong": (frame(TEXT, b"\xc0\xaf"), NOT_UTF8),
    "binary may be anything": (frame(BIN, b"\xff"), None),
}


@pytest.mark.parametrize(("data", "code"), UTF8.values(), ids=UTF8.keys())
def test_text(data, code):
    assert Side(text=Text.SENT).feed(data).verdict == code
    assert Side(text=Text.SENT).feed(*(data[n : n + 1] for n in range(len(data)))).verdict == code


def sent(side: Side, *chunks: bytes) -> list[str | bytes]:
    """The messages in which these chunks arrive."""
    events = side.got(*(side.wire.send(chunk) for chunk in chunks))
    assert all(isinstance(event, Message) and event.message_finished for event in events)
    return [event.data for event in events]


def test_text_is_sent_as_text_wherever_it_is_split():
    data = "MESSAGE\n\né𝄞\0".encode()
    for cut in range(len(data)):
        messages = sent(Side(text=Text.SENT), data[:cut], data[cut:])
        assert "".join(messages).encode() == data


def test_text_is_taken_and_answered_in_binary_where_that_is_wanted():
    side = Side(text=Text.ACCEPTED).feed(frame(TEXT, b"text"), frame(BIN, b"binary"))
    assert (side.payload, side.verdict) == (b"textbinary", None)
    assert sent(Side(text=Text.ACCEPTED), b"answer") == [b"answer"]


def test_what_is_no_text_is_sent_as_binary():
    messages = sent(Side(text=Text.SENT), b"a", "é".encode()[:1], b"\xff", b"b")
    assert messages == ["a", "é".encode()[:1] + b"\xff", "b"]


# -- how much at a time --------------------------------------------------------------------------------------


@pytest.mark.parametrize("small", [frame(PING), frame(PONG), frame(BIN), frame(BIN, b"x")])
def test_many_small_frames_are_read_in_pieces(small):
    side = WebSocket(MAX)
    side.feed(small * (3 * EVENTS + 1))
    reads = 0
    while side.pending:
        side.read()
        reads += 1
    assert reads == 4


# -- any pieces ----------------------------------------------------------------------------------------------

messages = st.lists(st.lists(st.binary(max_size=200), min_size=1, max_size=4), max_size=5)


@given(messages, st.data())
def test_payload_is_the_same_in_any_pieces(messages, data):
    stream = b""
    for fragments in messages:
        for number, payload in enumerate(fragments):
            opcode, last = (CONT if number else BIN), number == len(fragments) - 1
            stream += frame(opcode, payload, fin=last) + frame(PING, b"p")
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=10))
    side = Side().feed(*(stream[a:b] for a, b in pairwise([0, *sorted(cuts), len(stream)])))
    assert side.payload == b"".join(b"".join(fragments) for fragments in messages)
    assert side.verdict is None


@given(st.binary(max_size=300))
def test_anything_ends_with_a_code_or_goes_on(data):
    side = Side(text=Text.SENT).feed(data)
    assert side.wire.failed or side.verdict in (None, *range(1000, 5000))


# -- compression ---------------------------------------------------------------------------------------------


def deflate() -> Deflate:
    both = Deflate(client_no_context_takeover=True, server_no_context_takeover=True)
    assert both.accept("permessage-deflate") is not None
    return both


def deflated(payload: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return (packer.compress(payload) + packer.flush(zlib.Z_SYNC_FLUSH))[:-4]


def test_compressed_messages_are_inflated():
    first, second = deflated(b"hello " * 50), deflated(b"world")
    side = Side(deflate=deflate())
    side.feed(frame(BIN, first, rsv=4) + frame(BIN, b"plain") + frame(BIN, second, rsv=4))
    assert side.payload == b"hello " * 50 + b"plain" + b"world"


def test_ping_within_a_compressed_message_changes_nothing():
    packed = deflated(bytes(range(200)))
    data = frame(BIN, packed[:9], fin=False, rsv=4) + frame(PING, b"x") + frame(CONT, packed[9:])
    side = Side(deflate=deflate()).feed(data)
    assert (side.payload, side.verdict) == (bytes(range(200)), None)
    assert Side(deflate=deflate()).feed(frame(PING, rsv=4)).verdict == PROTOCOL_ERROR


def test_a_few_bytes_that_inflate_to_many_are_refused_early():
    bomb = frame(BIN, deflated(bytes(100_000_000)), rsv=4)
    assert len(bomb) > 90 * INFLATE
    side = Side(deflate=deflate())
    assert side.feed(bomb).payload == b""
    assert side.verdict == TOO_BIG
    assert len(side.wire._wire._proto._frame_decoder.buffer) <= INFLATE


def test_what_inflates_to_much_is_read_in_pieces():
    side = WebSocket(1 << 25, deflate=deflate())
    side.feed(frame(BIN, deflated(bytes(1 << 24)), rsv=4))
    sizes = []
    while side.pending:
        sizes.append(len(side.read()))
    assert sum(sizes) == 1 << 24
    assert max(sizes) <= MOST + 1100 * INFLATE


def test_what_cannot_be_inflated_is_a_fault():
    assert Side(deflate=deflate()).feed(frame(BIN, b"\xff\xff\xff", rsv=4)).verdict == NOT_UTF8


def test_sent_messages_are_compressed_each_on_its_own():
    side = Side(deflate=deflate())
    for payload in (b"a" * 1000, b"b" * 1000):
        data = side.wire.send(payload)
        assert len(data) < 100
        assert data[0] == 0x80 | 0x40 | BIN
        assert zlib.decompressobj(wbits=-15).decompress(data[2:] + b"\0\0\xff\xff") == payload


# -- the opening handshake -----------------------------------------------------------------------------------

OPENING = {
    "upgrade": "websocket",
    "connection": "keep-alive, Upgrade",
    "sec-websocket-version": "13",
    "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
    "sec-websocket-protocol": "amqp",
}


def request(method: str = "GET", **changes: str | None) -> Request:
    headers = OPENING | {
        f"sec-websocket-{key}" if key not in OPENING else key: v for key, v in changes.items()
    }
    return Request(method, "/ws", ("ws",), "", {key: v for key, v in headers.items() if v is not None})


def test_opening_of_the_rfc_is_accepted():
    opening = accept(request(), ("amqp",))
    assert dict(opening.headers) == {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Accept": "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
        "Sec-WebSocket-Protocol": "amqp",
    }


@pytest.mark.parametrize(
    ("offered", "chosen"), [("v12.stomp, v11.stomp", "v12.stomp"), ("x, v11.stomp", "v11.stomp"), (None, "")]
)
def test_first_subprotocol_that_is_spoken_is_chosen(offered, chosen):
    opening = accept(request(protocol=offered), ("v11.stomp", "v12.stomp"))
    assert opening.protocol == chosen
    assert ("Sec-WebSocket-Protocol" in dict(opening.headers)) == bool(chosen)


@pytest.mark.parametrize(
    ("asked", "status", "header"),
    [
        (request("POST"), 405, "Allow"),
        (request(upgrade=None), 426, "Upgrade"),
        (request(upgrade="h2c"), 426, "Upgrade"),
        (request(connection="close"), 400, None),
        (request(version="8"), 426, "Sec-WebSocket-Version"),
        (request(version=None), 426, "Sec-WebSocket-Version"),
        (request(key=None), 400, None),
        (request(key="c2hvcnQ="), 400, None),
        (request(key="not base64 at all!!!!!!!"), 400, None),
        (request(key="é" * 24), 400, None),
        (request(protocol="mqtt"), 400, None),
    ],
)
def test_opening_is_refused(asked, status, header):
    with pytest.raises(HttpError) as caught:
        accept(asked, ("amqp",))
    assert caught.value.status == status
    assert header is None or header in dict(caught.value.headers)


@pytest.mark.parametrize(
    ("offer", "agreed"),
    [
        ("permessage-deflate", True),
        ("permessage-deflate; client_max_window_bits", True),
        ("permessage-deflate; server_max_window_bits=10", True),
        ("permessage-deflate; server_max_window_bits=8, permessage-deflate", True),
        ("permessage-deflate; server_max_window_bits=8", False),
        ("permessage-deflate; server_max_window_bits=99", False),
        ("permessage-deflate; server_max_window_bits=x", False),
        ("x-webkit-deflate-frame", False),
        (None, False),
    ],
)
def test_compression_is_agreed_on(offer, agreed):
    opening = accept(request(extensions=offer), ("amqp",), compression=True)
    assert (opening.deflate is not None) == agreed
    answer = dict(opening.headers).get("Sec-WebSocket-Extensions", "")
    assert ("client_no_context_takeover" in answer) == agreed
    assert accept(request(extensions=offer), ("amqp",)).deflate is None


def test_opening_with_other_words_for_the_same():
    nonce = base64.b64encode(bytes(16)).decode()
    assert accept(request(upgrade="WebSocket", connection="UPGRADE", key=nonce), ("amqp",)).protocol == "amqp"
