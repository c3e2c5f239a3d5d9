"""STOMP frames: parsing them from a stream of bytes, and writing them.

Responsible for the bytes, their limits, and the escapes in header names and values, which depend on the
version. Either side of a connection uses it. Not for the meaning of commands and headers, except
``content-length`` (see ``router/stomp``). An error names the line of a header, not its text, which may be a
password.

Sources: STOMP 1.0; STOMP 1.1 and 1.2, "Value Encoding", "Standard Headers" and "Augmented BNF". As in
RabbitMQ, CR LF ends lines in every version, NULs and line ends may stand between frames, and bytes that are
not UTF-8 are kept (as surrogate escapes).
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from leveret.protocol.buffers import Buffer
from leveret.protocol.stomp.errors import StompError
from leveret.protocol.stomp.values import SHOWN, find_number

V1_0, V1_1, V1_2 = "1.0", "1.1", "1.2"
VERSIONS = (V1_0, V1_1, V1_2)

# The commands that every version writes alike, so that 1.0 and later understand each other
UNESCAPED = frozenset(("CONNECT", "CONNECTED"))
Escapes: TypeAlias = tuple[tuple[str, str], ...]  # escapes, and the characters that they stand for
# All escapes but that of the backslash, which is a second backslash.
_ESCAPED = {
    V1_1: (("\\n", "\n"), ("\\c", ":")),
    V1_2: (("\\n", "\n"), ("\\c", ":"), ("\\r", "\r")),
}
# For receivers without escapes, characters that would end a line or a name are escaped as in later versions.
_LOSSY_VALUE = (("\\n", "\n"), ("\\r", "\r"))
_LOSSY_NAME = (*_LOSSY_VALUE, ("\\c", ":"))
_BACKSLASH = (("\\\\", "\\"),)  # is escaped first, so that other escapes stay as they are
_BETWEEN = re.compile(rb"[\r\n\0]*")
_HEAD_END = re.compile(rb"\n\r?\n")
HEAD_COPIES = 2  # of the headers of an incomplete frame: some characters take up two bytes
HEADER_COST = 112  # bytes that a header takes up besides its characters
END = b"\0\n"  # the line feed is not part of the frame; RabbitMQ sends it to make raw output readable
HEARTBEAT = b"\n"


@dataclass(slots=True)
class Frame:
    """One frame. If a header is repeated, only its first value is used and kept.

    ``content`` is the buffer that a large body was collected in, or None (see ``BodyBuffer``).
    """

    command: str
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | memoryview = b""
    content: Buffer | None = None


class BodyBuffer(Protocol):
    """A buffer for a large body. ``frames`` is the body and what surrounds it."""

    frames: Buffer

    def add(self, data: bytes | bytearray | memoryview) -> None:
        """Add bytes of the body."""

    def body(self) -> memoryview:
        """Return the complete body."""


# Returns a buffer for the body of a frame, of its size, from its first bytes on; None if it needs none (yet).
MakeBuffer: TypeAlias = Callable[[Frame, int, int], BodyBuffer | None]


@dataclass(frozen=True, slots=True)
class FrameLimits:
    """Limits of a frame."""

    command: int = 64  # bytes
    head: int = 131072  # bytes of command and headers
    headers: int = 1000  # number
    body: int = 16777216  # bytes


BEFORE_LOGIN = FrameLimits(head=8192, headers=64, body=1024)


class FrameReader:
    """A parser: ``feed`` adds bytes, ``next_frame`` returns frames one by one. ``head_size`` is the number of
    bytes of the last frame's command and headers.

    ``version`` and ``limits`` may change between two frames. ``make_buffer`` makes the buffers of large
    bodies whose length is known.
    """

    def __init__(
        self, limits: FrameLimits, version: str = V1_2, make_buffer: MakeBuffer = lambda *_: None
    ) -> None:
        self.limits = limits
        self.version = version
        self._data = bytearray()
        self._start = 0  # offset of the first byte that was not parsed
        self.head_size = 0
        self._seen = 0  # the search for the end of the head or body resumes here
        self._frame: Frame | None = None  # the frame whose body is incomplete
        self._head = 0  # bytes of memory that its headers take up
        self._length: int | None = None  # bytes of the incomplete body; None: up to the first NUL
        self._make_buffer = make_buffer
        self._buffer: BodyBuffer | None = None  # of the incomplete body
        self._missing = 0  # bytes that are not in it yet

    def feed(self, data: bytes) -> None:
        """Add received bytes."""
        if self._missing:
            part = memoryview(data)[: self._missing]
            self._add_to_buffer(part)
            self._data += memoryview(data)[len(part) :]
        else:
            self._data += data

    def _add_to_buffer(self, part: bytes | memoryview) -> None:
        assert self._buffer is not None
        self._buffer.add(part)
        self._missing -= len(part)

    def next_frame(self) -> Frame | None:
        """Return the next complete frame, or None.

        Raises StompError for bytes that are no frame or exceed the limits; no frame after them can be read.
        """
        if self._frame is None and not self._read_head():
            self._drop_read()
            return None
        frame, start = self._frame, self._start
        assert frame is not None
        if self._length is None:
            end = self._data.find(0, max(start, self._seen))
            if end < 0:
                self._seen = len(self._data)
                self._check_body(len(self._data) - start)
                self._drop_read()
                return None
            self._check_body(end - start)
        else:
            end = start + (self._length if self._buffer is None else 0)
            if end >= len(self._data) or self._missing:
                self._drop_read()
                if self._buffer is None:
                    self._begin_buffer(frame, self._length)
                return None
            if self._data[end]:
                raise _malformed(f"There is no NUL behind a body of {self._length} bytes (content-length)")
        if self._buffer is not None:
            frame.body, frame.content = self._buffer.body(), self._buffer.frames
            self._buffer = None
        else:
            frame.body = bytes(memoryview(self._data)[start:end])
        self._start = self._seen = end + 1
        self._frame = None
        return frame

    def _begin_buffer(self, frame: Frame, length: int) -> None:
        """Move the beginning of a body to a buffer, if it is large: joining all of it would take long."""
        self._buffer = self._make_buffer(frame, length, len(self._data))
        if self._buffer is not None:
            self._missing = length
            self._add_to_buffer(bytes(self._data))
            self._data.clear()
            self._seen = 0

    @property
    def held(self) -> int:
        """Return the bytes of memory that incomplete frames take up."""
        collected = self._length - self._missing if self._buffer is not None and self._length else 0
        return collected + len(self._data) - self._start + (self._head if self._frame is not None else 0)

    def incomplete(self) -> bool:
        """Return True if a frame's headers are complete and its body is not."""
        return self._frame is not None

    def forget(self) -> None:
        """Drop all bytes that were not parsed."""
        self._data = bytearray()
        self._start = self._seen = self._missing = 0
        self._frame = self._buffer = None

    def _drop_read(self) -> None:
        """Free the memory of parsed bytes: a client may send a large frame and then nothing for hours."""
        if self._start:
            del self._data[: self._start]
            self._seen -= self._start
            self._start = 0

    def _read_head(self) -> bool:
        """Parse command and headers, if they are complete."""
        data, limits = self._data, self.limits
        found = _BETWEEN.match(data, self._start)
        assert found is not None
        start = self._start = found.end()
        head_end = _HEAD_END.search(data, max(start, self._seen - 2))
        end = len(data) if head_end is None else head_end.start()
        if end - start > limits.head:
            raise _too_large(f"Command and headers may have {limits.head} bytes together")
        if data.find(0, start, end) >= 0:
            raise _malformed("There is no empty line behind the headers")
        if head_end is None:
            self._seen = end
            line_end = data.find(b"\n", start, start + limits.command + 2)
            if line_end < 0 and end - start > limits.command + 1:
                raise _no_command(limits)
            return False
        self._frame = self._parse_head(data[start:end].decode("utf-8", "surrogateescape"))
        self.head_size = end - start
        self._start = self._seen = head_end.end()
        self._length = self._content_length(self._frame)
        self._head = HEAD_COPIES * (end - start) + HEADER_COST * len(self._frame.headers)
        return True

    def _parse_head(self, text: str) -> Frame:
        """Return the frame without its body."""
        command, *lines = text.split("\n")
        if "\r" in text and (command.endswith("\r") or self.version == V1_2):
            command = command.removesuffix("\r")
            lines = [line.removesuffix("\r") for line in lines]
        if len(command) > self.limits.command:
            raise _no_command(self.limits)
        if len(lines) > self.limits.headers:
            raise _too_large(f"A frame may have {self.limits.headers} headers")
        escapes = None if command in UNESCAPED or "\\" not in text else _ESCAPED.get(self.version)
        headers: dict[str, str] = {}
        for number, line in enumerate(lines, 2):  # the command is in the first line
            name, colon, value = line.partition(":")
            if not colon:
                raise _malformed(f"There is no colon in line {number}, which should be a header")
            if escapes is not None and "\\" in line:
                try:
                    name, value = _unescape(name, escapes), _unescape(value, escapes)
                except ValueError:
                    raise _malformed(f"The header in line {number} has an unknown escape sequence") from None
            headers.setdefault(name, value.lstrip(" ") if self.version == V1_0 else value)
        return Frame(command, headers)

    def _content_length(self, frame: Frame) -> int | None:
        text = frame.headers.get("content-length")
        if text is None:
            return None
        size = find_number(text)
        if size is None or size < 0:
            raise _malformed(f"content-length is no number of bytes: {text[:SHOWN]!r}")
        self._check_body(size)
        return size

    def _check_body(self, size: int) -> None:
        if size > self.limits.body:
            raise _too_large(f"A body may have {self.limits.body} bytes")


def _malformed(detail: str) -> StompError:
    return StompError("Malformed frame", detail)


def _too_large(detail: str) -> StompError:
    return StompError("Frame too large", detail)


def _no_command(limits: FrameLimits) -> StompError:
    return _malformed(f"A command is a line of {limits.command} characters at most")


def _unescape(text: str, escapes: Escapes) -> str:
    """Replace all escapes. Raises ValueError for an unknown one.

    A head of 128 KiB may consist of escapes: a call for each would take 50 ms.
    """
    text = text.replace("\\\\", "\0")  # a head has no NULs
    if text.count("\\") != sum(text.count(escape) for escape, _ in escapes):
        raise ValueError("unknown escape sequence")
    for escape, plain in escapes:
        text = text.replace(escape, plain)
    return text.replace("\0", "\\")


def _escape(text: str, escapes: Escapes) -> str:
    """Escape characters, and leave out NULs."""
    for escape, plain in escapes:
        text = text.replace(plain, escape)
    return text.replace("\0", "")


def encode_frame(frame: Frame, version: str) -> bytes:
    """Return the bytes of a frame. ``content-length`` is the length of ``frame.body``."""
    length = f"content-length:{len(frame.body)}\n" if frame.body else ""
    headers = encode_headers(frame.headers, version, escaped=frame.command not in UNESCAPED)
    return b"".join((f"{frame.command}\n".encode(), headers, f"{length}\n".encode(), frame.body, END))


def encode_headers(headers: Mapping[str, str], version: str, *, escaped: bool = True) -> bytes:
    """Return the lines of all headers but ``content-length``.

    For version 1.0, which has no escapes, characters that would end a line or a name are escaped as in 1.2,
    and NULs are left out.
    """
    known = _ESCAPED.get(version) if escaped else None
    names, values = (_LOSSY_NAME, _LOSSY_VALUE) if known is None else (_BACKSLASH + known,) * 2
    lines = [
        f"{_escape(name, names)}:{_escape(value, values)}\n"
        for name, value in headers.items()
        if name != "content-length"
    ]
    return "".join(lines).encode("utf-8", "surrogateescape")
