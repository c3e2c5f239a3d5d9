"""The server's side of a WebSocket, sans-IO, on wsproto: the opening handshake, then bytes <-> payload.

Responsible for sizes, the kinds of messages and the handling of errors. The messages form a stream: their
boundaries mean nothing here, so none is assembled. Not for timeouts (see ``router/server/websocket.py``).

Nearly all messages are one complete frame without compression. These are read here, in 1.5 us each; wsproto
takes 9 us. wsproto handles all other frames.

Sources: RFC 6455; RFC 7692 for compression.
"""

import base64
import binascii
import codecs
import re
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Event, Ping, Pong, TextMessage
from wsproto.extensions import PerMessageDeflate
from wsproto.frame_protocol import CloseReason, FrameDecoder, FrameProtocol, Opcode, RsvBits
from wsproto.utilities import generate_accept_token

from leveret.protocol.http import HttpError, Request

VERSION = "13"
_OPCODE = re.compile(r"<Opcode\.(\w+): \d+>")
INFLATE = 1024  # compressed bytes read at a time: each may become a thousand
MOST = 1 << 16  # bytes of payload after which a read ends
EVENTS = 256  # parts of messages after which a read ends, too: some milliseconds
TEXT_FRAME, BINARY_FRAME = 0x81, 0x82  # first octet of a message in one frame without compression
CONTROL, FINAL = 0x08, 0x80  # bits of the first octet: a control frame; the last frame of a message
MASKED = 0x80  # the bit in the second octet, beside the length
LENGTH_16, LENGTH_64 = 126, 127  # lengths that stand for a length in the next two or eight octets
KEY = 4  # bytes of the key of a masked frame
PONGS = 16  # pongs that may wait to be sent; RFC 6455 5.5.3: the latest is enough


class Deflate(PerMessageDeflate):
    """wsproto's compression, corrected: a ping within a compressed message does not end its compression."""

    def frame_inbound_header(
        self, proto: FrameDecoder | FrameProtocol, opcode: Opcode, rsv: RsvBits, payload_length: int
    ) -> CloseReason | RsvBits:
        if not opcode.iscontrol():
            return super().frame_inbound_header(proto, opcode, rsv, payload_length)
        self._inbound_is_compressible = False
        return CloseReason.PROTOCOL_ERROR if rsv.rsv1 else RsvBits(True, False, False)

    def frame_inbound_complete(
        self, proto: FrameDecoder | FrameProtocol, fin: bool
    ) -> bytes | CloseReason | None:
        return super().frame_inbound_complete(proto, fin) if self._inbound_is_compressible else None


def _reason(fault: CloseConnection) -> str:
    """Return the reason of a fault in the words of the RFC instead of wsproto's."""
    if fault.code == CloseReason.INVALID_FRAME_PAYLOAD_DATA:
        return "what should be UTF-8 is not, or cannot be inflated"
    return _OPCODE.sub(r"\1", fault.reason or "")


@dataclass(frozen=True, slots=True)
class Opening:
    """An accepted opening handshake: the headers of its 101, the subprotocol ("" for none), compression."""

    headers: tuple[tuple[str, str], ...]
    protocol: str
    deflate: Deflate | None


def accept(request: Request, protocols: Sequence[str], *, compression: bool = False) -> Opening:
    """Accept a request for a WebSocket that names one of these subprotocols, or none.

    Raises HttpError with 400, 405 or 426 (RFC 6455 4.2 and 4.4).
    """
    if request.method != "GET":
        raise HttpError(405, headers=(("Allow", "GET"),))
    if "websocket" not in map(str.lower, request.listed("upgrade")):
        wanted = (("Upgrade", "websocket"), ("Connection", "Upgrade"))
        raise HttpError(426, "WebSocket is spoken at this path", wanted)
    if "upgrade" not in map(str.lower, request.listed("connection")):
        raise HttpError(400, "Upgrade without Connection: Upgrade")
    if request.headers.get("sec-websocket-version") != VERSION:
        raise HttpError(426, headers=(("Sec-WebSocket-Version", VERSION), ("Upgrade", "websocket")))
    key = request.headers.get("sec-websocket-key", "")
    if not _is_nonce(key):
        raise HttpError(400, "Sec-WebSocket-Key is not 16 bytes in base64")
    offered = request.listed("sec-websocket-protocol")
    protocol = next((name for name in offered if name in protocols), "")
    if offered and not protocol:
        raise HttpError(400, f"the subprotocols here: {', '.join(protocols)}")
    headers = [
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Accept", generate_accept_token(key.encode()).decode()),
    ]
    if protocol:
        headers.append(("Sec-WebSocket-Protocol", protocol))
    deflate = None
    if compression and (agreed := _agree(request.listed("sec-websocket-extensions"))) is not None:
        deflate, parameters = agreed
        headers.append(("Sec-WebSocket-Extensions", f"{deflate.name}; {parameters}"))
    return Opening(tuple(headers), protocol, deflate)


def _is_nonce(key: str) -> bool:
    try:
        return len(base64.b64decode(key, validate=True)) == 16
    except (binascii.Error, ValueError):
        return False


def _agree(offers: Sequence[str]) -> tuple[Deflate, str] | None:
    """Agree to the first compression offer that can be met, without a window kept between messages."""
    for offer in offers:
        if offer.partition(";")[0].strip() != Deflate.name:
            continue
        deflate = Deflate(client_no_context_takeover=True, server_no_context_takeover=True)
        try:
            parameters = deflate.accept(offer)
        except ValueError:
            continue
        if isinstance(parameters, str) and deflate.server_max_window_bits > 8:  # zlib has no raw 8
            return deflate, parameters
    return None


def unmasked(data: bytes, key: bytes) -> bytes:
    """Return the payload of a masked frame (RFC 6455 5.3)."""
    size = len(data)
    mask = int.from_bytes((key * (size // KEY + 1))[:size])
    return (int.from_bytes(data) ^ mask).to_bytes(size)


class Text(Enum):
    """Handling of text messages. Binary messages are always accepted."""

    REFUSED = "refused"
    ACCEPTED = "accepted"  # only binary messages are sent
    SENT = "sent"  # accepted; payload that is text is sent as text, other payload as binary


class WebSocket:
    """An open WebSocket.

    ``feed`` received bytes, then ``read`` payload as long as there is some or ``pending`` is True; ``send``
    payload. ``take_control`` returns the control frames to send. ``ended`` is True if nothing more will be
    received: the peer has closed, made an error, or is gone.
    """

    def __init__(
        self, message_max: int, *, text: Text = Text.REFUSED, deflate: Deflate | None = None
    ) -> None:
        self.ended = False
        self.failed = False
        self.pending = False
        self._wire = Connection(ConnectionType.SERVER, [deflate] if deflate else [])
        self._step = INFLATE if deflate else 0
        self._unread = b""  # received bytes; those before ``_offset`` are read
        self._offset = 0
        self._left = 0  # bytes of the frame that wsproto has the beginning of
        self._continues = False  # True within a message of several frames
        self._events: Iterator[Event] = iter(())
        self._message_max = message_max
        self._text = text
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._size = 0  # bytes of the message that is being received
        self._pongs: deque[bytes] = deque(maxlen=PONGS)
        self._code: int = CloseReason.NORMAL_CLOSURE  # close code for the end
        self._reason = ""

    def feed(self, data: bytes) -> None:
        """Add received bytes. Bytes after ``ended`` are ignored."""
        if not self.ended:
            self._unread = self._unread[self._offset :] + data if self._unread else data
            self._offset = 0
            self.pending = True

    def read(self) -> bytes:
        """Return some payload, for a few milliseconds of work; empty if the bytes read held none."""
        parts: list[bytes | bytearray] = []
        size, left = 0, EVENTS
        while left and size < MOST and not self.ended:
            event = next(self._events, None)
            if event is not None:
                size += self._take(event, parts)
                left -= 1
            elif payload := self._next_message():
                parts.append(payload)
                size += len(payload)
                left -= 1
            elif data := self._next_step():
                self._wire.receive_data(data)
                self._events = iter(self._wire.events())
            else:
                self.pending = False
                break
        if self.ended:
            self._unread = b""
            self.pending = False
        return b"".join(parts)

    def _next_message(self) -> bytes:
        """Remove and return the payload of the message at the beginning of the unread bytes.

        Returns no bytes if the message is empty or not acceptable, or is not one complete frame without
        compression: wsproto then handles the frame.
        """
        data, at = self._unread, self._offset
        if self._left or self._continues or self._step or len(data) - at < 2:
            return b""
        kind, length, start = data[at], data[at + 1] - MASKED, at + 2
        if kind != BINARY_FRAME and (kind != TEXT_FRAME or self._text is Text.REFUSED):
            return b""
        shortest, longest = 1, min(LENGTH_16 - 1, self._message_max)
        if length == LENGTH_16:
            length, start = int.from_bytes(data[start : start + 2]), start + 2
            shortest, longest = LENGTH_16, self._message_max
        end = start + KEY + length
        if not shortest <= length <= longest or end > len(data):
            return b""
        payload = unmasked(data[start + KEY : end], data[start : start + KEY])
        if kind == TEXT_FRAME and not payload.isascii():
            try:
                payload.decode()
            except UnicodeDecodeError:
                return b""
        self._forget(end)
        return payload

    def _next_step(self) -> bytes:
        """Remove and return the next bytes for wsproto: the next bytes of one frame, or, if they may be
        compressed, at most ``INFLATE`` bytes.

        Returns no bytes if the header of a frame is incomplete.
        """
        data, at = self._unread, self._offset
        if self._step:
            end = min(at + self._step, len(data))
        else:
            if not self._left:
                self._left = self._frame_size()
            end = min(at + self._left, len(data))
            self._left -= end - at
        self._forget(end)
        return data[at:end]

    def _frame_size(self) -> int:
        """Return the bytes of the frame that the unread bytes begin with; 0 if its header is incomplete."""
        data, at = self._unread, self._offset
        if len(data) - at < 2:
            return 0
        kind, length, size = data[at], data[at + 1] & 0x7F, 2
        if length >= LENGTH_16:
            size = 4 if length == LENGTH_16 else 10
            if len(data) - at < size:
                return 0
            length = int.from_bytes(data[at + 2 : at + size])
        if not kind & CONTROL:
            self._continues = not kind & FINAL
        return size + (KEY if data[at + 1] & MASKED else 0) + length

    def _forget(self, end: int) -> None:
        """Remove the unread bytes before an offset."""
        self._offset = end
        if end == len(self._unread):
            self._unread, self._offset = b"", 0

    def _take(self, event: Event, parts: list[bytes | bytearray]) -> int:
        """Handle an event; return the bytes of payload in it."""
        if isinstance(event, BytesMessage | TextMessage):
            return self._take_payload(event, parts)
        if isinstance(event, Ping):
            self._pongs.append(bytes(event.payload))
        elif isinstance(event, CloseConnection):
            if self._wire.state is ConnectionState.OPEN:  # wsproto's event for malformed frames
                self.fail(event.code, _reason(event))
            else:
                self._code, self.ended = event.code, True
        return 0

    def _take_payload(self, event: BytesMessage | TextMessage, parts: list[bytes | bytearray]) -> int:
        if isinstance(event.data, str):
            if self._text is Text.REFUSED:
                self.fail(CloseReason.UNSUPPORTED_DATA, "only binary messages are taken here")
                return 0
            payload: bytes | bytearray = event.data.encode()
        else:
            payload = event.data
        self._size += len(payload)
        if self._size > self._message_max:
            self.fail(CloseReason.MESSAGE_TOO_BIG, f"a message may have {self._message_max} bytes")
            return 0
        if event.message_finished:
            self._size = 0
        parts.append(payload)
        return len(payload)

    @property
    def open(self) -> bool:
        """True if payload can be sent and the peer would read it."""
        return self._wire.state is ConnectionState.OPEN and not self.ended

    def send(self, data: bytes) -> bytes:
        """Return the bytes of a message with this payload; empty if the peer would not read it."""
        if not self.open:
            return b""
        if self._text is not Text.SENT:
            return self._wire.send(BytesMessage(data))
        try:
            text = self._decoder.decode(data)  # keeps an incomplete character for the next message
        except UnicodeDecodeError:
            held, _ = self._decoder.getstate()
            self._decoder.reset()
            return self._wire.send(BytesMessage(held + data))
        return self._wire.send(TextMessage(text)) if text else b""

    def take_control(self) -> bytes:
        """Return the pongs that are due."""
        if not (self._pongs and self.open):
            return b""
        out = b"".join(self._wire.send(Pong(payload)) for payload in self._pongs)
        self._pongs.clear()
        return out

    def ping(self) -> bytes:
        """Return the bytes of a ping."""
        return self._wire.send(Ping()) if self.open else b""

    @property
    def fault(self) -> tuple[int, str]:
        """The close code and reason of a WebSocket that ``failed``."""
        return int(self._code), self._reason

    def fail(self, code: int, reason: str) -> None:
        """Stop receiving and sending, except for the close frame, which carries ``code`` and ``reason``."""
        if not self.ended:
            self.ended = self.failed = True
            self._code, self._reason = code, reason

    def lost(self) -> None:
        """Mark the stream of the peer as ended, with or without a close frame."""
        self.ended = True

    def close(self, code: int = CloseReason.NORMAL_CLOSURE) -> bytes:
        """Return the close frame of this side.

        Its code is the code of the peer's close frame, or else of the fault, or else ``code``.
        """
        if self._wire.state not in (ConnectionState.OPEN, ConnectionState.REMOTE_CLOSING):
            return b""
        said = self._code if self.ended else code
        return self._wire.send(CloseConnection(said, self._reason or None))
