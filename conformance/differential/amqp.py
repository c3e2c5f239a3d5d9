"""One AMQP connection of a scenario: sends anything, however wrong, and tells what comes back.

Owns the socket and the splitting into frames, methods and contents; how what came is put in order for a
transcript is ``transcript``'s. Methods are packed and taken apart by ``protocol``'s codec, tables and
properties by ``tables``.
"""

import contextlib
import re
import socket
import struct
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from msgspec.structs import replace

from conformance.differential.tables import (
    block,
    encode_properties,
    encode_table,
    show_bytes,
    show_properties,
)
from conformance.differential.transcript import Event
from leveret.protocol.amqp import methods as m
from leveret.protocol.amqp.codec import decode_method, encode_method
from leveret.protocol.errors import AmqpError

HEADER = b"AMQP\x00\x00\x09\x01"
CAPABILITIES = {
    "authentication_failure_close": True,
    "basic.nack": True,
    "connection.blocked": True,
    "consumer_cancel_notify": True,
    "publisher_confirms": True,
}
CONTENTS = m.BasicDeliver | m.BasicGetOk | m.BasicReturn
EMPTY_TABLE = bytes(4)


@dataclass
class Publish:
    """A basic.publish and its content; ``properties`` by name, headers with any types."""

    method: m.BasicPublish
    body: bytes
    properties: Mapping[str, Any] = field(default_factory=dict)
    piece: int = 100_000  # bytes of the body in one frame

    def frames(self, channel: int) -> bytes:
        return method_frame(channel, self.method) + content_frames(
            channel, self.body, encode_properties(self.properties), piece=self.piece
        )

    def __str__(self) -> str:
        given = {name: value for name, value in self.properties.items() if value is not None}
        shown = [show_method(self.method), *(f"{name}={value!r}" for name, value in given.items())]
        return f"{' '.join(shown)} {show_bytes(self.body)}"


@dataclass
class Raw:
    """Bytes as they are, and what a transcript calls them."""

    data: bytes
    label: str

    def __str__(self) -> str:
        return self.label


Item = m.Method | Publish | Raw


def frame(kind: int, channel: int, payload: bytes, end: int = 0xCE) -> bytes:
    """A frame of any kind."""
    return struct.pack(">BHI", kind, channel, len(payload)) + payload + bytes([end])


def method_frame(channel: int, method: m.Method) -> bytes:
    """A method as a frame; the values of ``arguments`` may be ``Typed``."""
    arguments = getattr(method, "arguments", None)
    if not arguments:
        return frame(1, channel, encode_method(method))
    payload = encode_method(replace(method, arguments={}))
    assert payload.endswith(EMPTY_TABLE)
    return frame(1, channel, payload[: -len(EMPTY_TABLE)] + encode_table(arguments))


def content_frames(
    channel: int, body: bytes, properties: bytes = b"\0\0", *, size: int | None = None, piece: int = 100_000
) -> bytes:
    """A content header and body frames of ``piece`` bytes; ``size`` is what the header claims."""
    claimed = len(body) if size is None else size
    pieces = [body[start : start + piece] for start in range(0, len(body), piece)]
    header = frame(2, channel, struct.pack(">HHQ", 60, 0, claimed) + properties)
    return header + b"".join(frame(3, channel, each) for each in pieces)


def show_method(method: m.Method, *, whole: bool = False) -> str:
    """The name of a method and its fields; of what was sent only those that say something."""
    shown = []
    for name in method.__struct_fields__:
        value = getattr(method, name)
        if whole or value not in ("", 0, False, b"", {}):
            shown.append(f"{name.rstrip('_')}={value!r}")
    return " ".join([method.NAME, *shown])


def reply_names(item: Item) -> bool:
    """Whether a broker answers this with a method of its own."""
    if (
        isinstance(item, Publish | Raw)
        or getattr(item, "nowait", False)
        or isinstance(item, m.BasicRecoverAsync)
    ):
        return False
    return isinstance(item, m.BasicGet) or hasattr(m, f"{type(item).__name__}Ok")


class AmqpPeer:
    """A connection as a scenario holds it; sending goes through ``Play``, which waits for the answers.

    It answers channel.close and connection.close by itself unless ``answers`` is off.
    """

    def __init__(self, name: str, address: tuple[str, int]) -> None:
        self.name = name
        self.answers = True
        self.beats = False  # whether heartbeats are told
        self.socket = socket.create_connection(address, timeout=30)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.came: list[Event] = []
        self.received: list[m.Method] = []  # every method, for scenarios that need a value of one
        self.reply_to = ""  # of the last content that had one
        self.frames: Counter[int] = Counter()  # by type
        self.ended = False
        self._expected: Counter[int] = Counter()
        self._pending = bytearray()
        self._contents: dict[int, tuple[m.Method, str, int, bytearray]] = {}

    # -- for Play --------------------------------------------------------------------------------------------

    def waiting(self) -> bool:
        """Whether an answer is still to come."""
        return not self.ended and self._expected.total() > 0

    def send(self, items: list[Item], channel: int) -> None:
        """Send in one piece."""
        for item in items:
            if reply_names(item):
                self._expected[channel] += 1
        self.write(b"".join(packed(item, channel) for item in items))

    def write(self, data: bytes) -> None:
        """Send bytes; what the broker said before it hung up can still be read."""
        with contextlib.suppress(OSError):
            self.socket.sendall(data)

    def read(self) -> None:
        """Take what has come."""
        try:
            data = self.socket.recv(1 << 18)
        except OSError:
            data = b""
        if not data:
            self.ended = True
            self._tell(0, "hung up")
            return
        self._pending += data
        if self._pending.startswith(HEADER[:4]) and not self.received:
            self._tell(0, f"protocol header {bytes(self._pending)!r}")
            self._pending.clear()
        self._split()

    def hang_up(self) -> None:
        """Close the socket."""
        self.ended = True
        self.socket.close()

    # -- reading ---------------------------------------------------------------------------------------------

    def _split(self) -> None:
        while len(self._pending) >= 8:
            kind, channel, size = struct.unpack_from(">BHI", self._pending)
            if len(self._pending) < size + 8:
                return
            payload, end = bytes(self._pending[7 : 7 + size]), self._pending[7 + size]
            del self._pending[: size + 8]
            if end != 0xCE:
                self._tell(channel, f"a frame that ends with {end:#x}")
            self.frames[kind] += 1
            self._take(kind, channel, payload)

    def _take(self, kind: int, channel: int, payload: bytes) -> None:
        if kind == 1:
            self._method(channel, payload)
        elif kind == 8:
            if self.beats:
                self._tell(channel, "heartbeat")
        elif kind in (2, 3) and channel in self._contents:
            method, shown, size, body = self._contents.pop(channel)
            if kind == 2:
                (size,) = struct.unpack_from(">Q", payload, 4)
                shown = show_properties(payload[12:])
                if match := re.search(r"reply_to='([^']+)'", shown):
                    self.reply_to = match[1]
            else:
                body += payload
            if len(body) < size:
                self._contents[channel] = method, shown, size, body
            else:
                self._complete(channel, method, f"{shown} {show_bytes(bytes(body))}".strip())
        else:
            self._tell(channel, f"frame of type {kind} {payload!r}")

    def _method(self, channel: int, payload: bytes) -> None:
        try:
            method = decode_method(payload, 0, len(payload))
        except AmqpError as problem:
            self._tell(channel, f"undecodable method {payload!r}: {problem}")
            return
        self.received.append(method)
        if isinstance(method, CONTENTS):
            self._contents[channel] = method, "", 1 << 62, bytearray()
        else:
            self._complete(channel, method, "")

    def _complete(self, channel: int, method: m.Method, content: str) -> None:
        text = f"{show_method(method, whole=True)} {content}".strip()
        if isinstance(method, m.BasicDeliver):
            self.came.append(Event(channel, text, "delivery", method.consumer_tag))
            return
        if isinstance(method, m.BasicAck | m.BasicNack):
            verb = "confirmed" if isinstance(method, m.BasicAck) else "refused"
            self.came.append(Event(channel, text, verb, tag=method.delivery_tag, multiple=method.multiple))
            return
        if isinstance(method, m.BasicGetOk | m.BasicGetEmpty) or method.NAME.endswith("-ok"):
            self._expected[channel] -= self._expected[channel] > 0
        self._tell(channel, text)
        if isinstance(method, m.ChannelClose):
            self._expected[channel] = 0
            if self.answers:
                self.write(method_frame(channel, m.ChannelCloseOk()))
        elif isinstance(method, m.ConnectionClose):
            self._expected.clear()
            if self.answers:
                self.write(method_frame(0, m.ConnectionCloseOk()))

    def _tell(self, channel: int, text: str) -> None:
        self.came.append(Event(channel, text))

    def last(self, kind: type[m.Method]) -> Any:
        """The last method of this class that came."""
        return next(method for method in reversed(self.received) if isinstance(method, kind))


def packed(item: Item, channel: int) -> bytes:
    """The bytes of one item."""
    match item:
        case Publish():
            return item.frames(channel)
        case Raw():
            return item.data
        case _:
            return method_frame(channel, item)


def start_ok(user: str, password: str, capabilities: Mapping[str, Any]) -> Raw:
    """connection.start-ok with the mechanism PLAIN."""
    properties = encode_table({"capabilities": dict(capabilities)})
    login = f"\0{user}\0{password}".encode("utf-8", "surrogateescape")
    payload = struct.pack(">HH", 10, 11) + properties + b"\x05PLAIN" + block(login) + b"\x05en_US"
    return Raw(frame(1, 0, payload), f"connection.start-ok {user}")
