"""WebSockets for the fuzzer: frames made of any bytes, right ones and wrong ones, and whole connections.

An input is one byte of options and a script: each two bytes of it are an action and its size (``ACTIONS``),
so that most scripts get somewhere. With ``RAW`` among the options the rest is sent as it stands.
"""

import struct
import zlib
from collections.abc import Iterator
from functools import partial

import trio
from wsproto.connection import Connection, ConnectionType
from wsproto.extensions import PerMessageDeflate

from leveret.protocol.websocket import INFLATE, MOST, Deflate, Text, WebSocket
from leveret.router.settings import Settings, Websocket
from tests.fuzz.beside import StompPage, beside
from tests.router.server.client import Client
from tests.router.server.web import open_page

CONT, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
RAW, STOMP, COMPRESSED, CUT = 128, 64, 32, 16  # options; the lowest two say what becomes of text
MASK = b"\x12\x34\x56\x78"
MESSAGE_MAX = 5000  # bytes: some scripts exceed it
INFLATED = 1032 * INFLATE  # bytes that a step of compressed ones may become, by RFC 1951
DEFLATED = zlib.compressobj(9, wbits=-15)
BOMB = (DEFLATED.compress(bytes(1 << 22)) + DEFLATED.flush(zlib.Z_SYNC_FLUSH))[:-4]  # 4 MiB of zeros
DEFLATE = "permessage-deflate; client_no_context_takeover; server_no_context_takeover"


def frame(
    opcode: int,
    payload: bytes = b"",
    *,
    fin: bool = True,
    rsv: int = 0,
    mask: bool = True,
    size: int | None = None,
    wide: int = 0,
) -> bytes:
    """Return a client's frame. ``size`` is a wrong size for its header, ``wide`` the least bytes of that
    field.
    """
    told = len(payload) if size is None else size
    head = bytes([fin << 7 | rsv << 4 | opcode])
    if told < 126 and not wide:
        head += bytes([mask << 7 | told])
    elif told < 65536 and wide < 8:
        head += bytes([mask << 7 | 126]) + struct.pack("!H", told)
    else:
        head += bytes([mask << 7 | 127]) + struct.pack("!Q", told)
    if not mask:
        return head + payload
    return head + MASK + bytes(octet ^ MASK[index % 4] for index, octet in enumerate(payload))


def deflated(payload: bytes) -> bytes:
    """A message's payload, compressed (RFC 7692 7.2.1)."""
    deflate = zlib.compressobj(wbits=-15)
    return (deflate.compress(payload) + deflate.flush(zlib.Z_SYNC_FLUSH))[:-4]


RIGHT = (  # a whole message, the parts of one, and what may stand between them
    lambda part: frame(BINARY, part),
    lambda part: frame(TEXT, part),
    lambda part: frame(BINARY, part, fin=False),
    lambda part: frame(TEXT, part, fin=False),
    lambda part: frame(CONT, part, fin=False),
    lambda part: frame(CONT, part),
    lambda part: frame(PING, part[:125]),
    lambda part: frame(PONG, part[:125]),
    lambda part: frame(BINARY, deflated(part), rsv=4),
    lambda part: frame(BINARY, deflated(part), rsv=4, fin=False),
    lambda part: b"".join(frame(CONT, part[at : at + 1], fin=False) for at in range(len(part))),
)
WRONG = (
    lambda part: frame(BINARY, BOMB, rsv=4),
    lambda part: frame(BINARY, BOMB + part, rsv=4, fin=False),
    lambda part: frame(BINARY, part, rsv=4),  # what is not compressed and says that it is
    lambda part: frame(TEXT, b"\xff" + part),
    lambda part: frame(BINARY, part, mask=False),
    lambda part: frame(BINARY, part, rsv=2),
    lambda part: frame(3 + len(part) % 5, part),  # opcodes that are reserved
    lambda part: frame(11 + len(part) % 5, part[:125]),
    lambda part: frame(PING, part[:125], fin=False),
    lambda part: frame(PING, part.ljust(126)),
    lambda part: frame(PING, part[:125], rsv=4),
    lambda part: frame(BINARY, part, size=len(part) + 1),
    lambda part: frame(BINARY, part, size=max(0, len(part) - 1)),
    lambda part: frame(BINARY, part, size=1 << 62),
    lambda part: frame(BINARY, part, size=1 << 63),
    lambda part: frame(BINARY, part, wide=2),
    lambda part: frame(BINARY, part, wide=8),
    lambda part: frame(CLOSE),
    lambda part: frame(CLOSE, struct.pack("!H", 1000) + part[:123]),
    lambda part: frame(CLOSE, struct.pack("!H", len(part) * 40) + b"\xff"),
    lambda part: frame(CLOSE, b"\x03"),
    lambda part: part,
)
ACTIONS = (*RIGHT * 10, *WRONG)  # so that most of a script is read


def bytes_of(data: bytes, content: bytes) -> bytes:
    """What a client sends that follows a script, the payload of which is the content, piece by piece."""
    if not data or data[0] & RAW:
        return data[1:]
    out, at = [], 0
    for action, size in zip(data[1::2], data[2::2], strict=False):
        out.append(ACTIONS[action % len(ACTIONS)](content[at : at + size]))
        at += size
    return b"".join(out)


def script(*actions: tuple[int, int], options: int = 0) -> bytes:
    """The input that has actions carried out: of each its number and how many bytes of content it takes."""
    return bytes([options, *(number for action in actions for number in action)])


def seeds(content: bytes) -> Iterator[bytes]:
    """Inputs to begin with: everything right, whole and in parts, and what is wrong at the end of that."""
    whole = [(0, 200)] * (len(content) // 200 + 1)
    parts = [(2, 9), (6, 4), (4, 1), (7, 0), (10, 20), (5, 100), (8, 120), (9, 5), (4, 5), (5, 255), (0, 255)]
    for options in (0, STOMP, COMPRESSED, STOMP | COMPRESSED | CUT, 1, STOMP | 2, CUT):
        yield script(*parts, *whole, options=options)
    for number in range(len(WRONG)):
        wrong = (len(ACTIONS) - len(WRONG) + number, 50)
        yield script((2, 90), wrong, (5, 90), options=number % 2 * STOMP | COMPRESSED | number % 3)
    yield bytes([RAW]) + bytes_of(script(*parts), content)


# -- the wire alone ------------------------------------------------------------------------------------------


def wire(data: bytes, content: bytes) -> None:
    """Whatever comes is read alike in one piece and in many, in helpings of bounded size, or has an end.

    Which of two faults in one message is found first, and how much of that is read, is open.
    """
    options = data[0] if data else 0
    sent = bytes_of(data, content)
    whole, said = _read(options, [sent])
    for step in (1 + len(sent) // 2, 7):
        pieces, also = _read(options, [sent[at : at + step] for at in range(0, len(sent), step)])
        assert said == also, (said, also)
        shorter, longer = sorted((whole, pieces), key=len)
        assert longer.startswith(shorter) if said[1] else longer == shorter


def _read(options: int, pieces: list[bytes]) -> tuple[bytes, tuple[bool, bool]]:
    """The payload, whether there was an end, and whether by a fault."""
    deflate = None
    if options & COMPRESSED:
        deflate = Deflate(client_no_context_takeover=True, server_no_context_takeover=True)
        deflate.accept("permessage-deflate")
    text = (Text.REFUSED, Text.ACCEPTED, Text.SENT)[options % 4 % 3]
    socket = WebSocket(MESSAGE_MAX, text=text, deflate=deflate)
    payload = bytearray()
    for piece in pieces:
        socket.feed(piece)
        while socket.pending:
            read = socket.read()
            assert len(read) < MOST + max(len(piece), INFLATED)
            payload += read
        socket.take_control()
        socket.send(payload[-5:])
    said = socket.ended, socket.failed
    assert socket.close()
    assert not socket.send(b"late")
    return bytes(payload), said


# -- whole connections ---------------------------------------------------------------------------------------


def connections(data: bytes, amqp: bytes, stomp: bytes) -> None:
    """A page that sends this once it is logged in; see ``beside``."""
    options = data[0] if data else 0
    settings = Websocket(
        ping_interval=0, max_message_size=MESSAGE_MAX, compression=bool(options & COMPRESSED)
    )
    beside(
        bytes_of(data, stomp if options & STOMP else amqp),
        partial(_log_in, options=options),
        Settings(websocket=settings),
        cut=bool(options & CUT),
    )


async def _log_in(stream: trio.StapledStream, options: int) -> None:
    headers = {"Sec_WebSocket_Extensions": DEFLATE} if options & COMPRESSED else {}
    if options & STOMP:
        page = await open_page(stream, "/ws/stomp", Sec_WebSocket_Protocol="v12.stomp", **headers)
    else:
        page = await open_page(stream, **headers)
    if options & COMPRESSED:
        deflate = PerMessageDeflate()
        deflate.finalize(DEFLATE)
        page.wire = Connection(ConnectionType.CLIENT, [deflate])
    await (StompPage(page).log_in() if options & STOMP else Client(page).login())
