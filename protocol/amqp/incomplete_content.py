"""Incomplete contents: a method, and the parts of its content header and body that have arrived.

Responsible for a content's frames in their order, and for the command that they make. Not for finding frames
(see ``reader``).
"""

from struct import Struct

from leveret.protocol.amqp.command import Command, Delivery, Oversized
from leveret.protocol.amqp.constants import FRAME_OVERHEAD
from leveret.protocol.amqp.content_frames import FLAGS_OFFSET, FRAME, reframe
from leveret.protocol.amqp.large_body import LargeBody, begins, is_too_large_to_join, is_worth_it
from leveret.protocol.amqp.message import Frames, ParsedMessage, pack_route
from leveret.protocol.amqp.methods import BasicDeliver, BasicGetOk, BasicPublish, BasicReturn, Method
from leveret.protocol.amqp.traits import NO_TRAITS, Traits, read_traits
from leveret.protocol.errors import SyntaxError_, UnexpectedFrame

HEAD = FRAME.size  # bytes of a frame before its payload
CONTENT = Struct(">BHIHHQ")  # the content header frame up to its property flags
LARGE = 1 << 14  # bytes of a frame or a publish from which copying is expensive
# A part of a body is copied if it is less than half of the bytes of its read: a view would keep all in memory
SHARE = 2


class IncompleteContent:
    """A method whose content header or body is incomplete."""

    __slots__ = (
        "_body",
        "_header",
        "_large",
        "_left",
        "_method",
        "_pieces",
        "_traits",
        "channel",
        "head",
        "kept",
        "regular",
        "size",
    )

    def __init__(self, channel: int, method: Method) -> None:
        self._method = method
        self.channel = channel
        self._header = b""
        self._body: list[bytearray | memoryview] = []  # as they arrived; large parts are not copied
        self._large: LargeBody | None = None  # the buffer of all frames, in place of ``_body``
        self._pieces = 0  # body frames that were not empty
        self.size = -1  # size of the body in bytes, known from the header on
        self._left = 0
        self.kept = True  # False if the body is too large: its bytes are counted and dropped
        self.regular = True  # False if frames did not fit into a ``LargeBody``: then no other is made
        self.head = 0  # bytes of memory that method and header take up
        self._traits = NO_TRAITS

    def unexpected(self) -> UnexpectedFrame:
        """Return the error for a frame that is not the one this content waits for."""
        what = "header" if self.size < 0 else "body"
        whose = f" for class {self._method.CLASS_ID}" if self.size < 0 else ""
        return UnexpectedFrame(
            f"expected content {what}{whose}, got non content {what} frame instead", cause=self._method
        )

    def header(self, data: bytes, position: int, last: int, body_max: int) -> bool:
        """Add the header frame; return True if no body follows."""
        if self.size >= 0:
            raise self.unexpected()
        class_id, weight, size = CONTENT.unpack_from(data, position)[3:]
        if weight:
            raise self.unexpected()
        if class_id != self._method.CLASS_ID:
            raise UnexpectedFrame(
                f"expected content header for class {self._method.CLASS_ID}, "
                f"got one for class {class_id} instead",
                cause=self._method,
            )
        self._traits = content_traits(data[position + FLAGS_OFFSET : last], self._method)
        self.size = self._left = size
        self.kept = size <= body_max
        self._header = data[position : last + 1]
        return bool(size == 0)

    def body(self, data: bytes, position: int, last: int, frame_max: int) -> bool:
        """Add a body frame; return True if it was the last."""
        piece = last - position - HEAD
        self._left -= piece
        if self.size < 0 or self._left < 0:
            raise self.unexpected()
        if self.kept and piece:
            self._pieces += 1
            part = memoryview(data)[position + HEAD : last]
            if self._large is not None:
                self._large.add(part)
            elif piece >= LARGE and piece * SHARE >= len(data):
                self._body.append(part)
            elif self._body and isinstance(joined := self._body[-1], bytearray):
                joined += part
            else:
                self._body.append(bytearray(part))
            if self._large is None and is_too_large_to_join(self.size, self.begun):
                self._make_buffer(frame_max)
        return self._left == 0

    def command(self, frame_max: int) -> Command:
        """Return the complete command. A body of many frames is framed anew for ``frame_max`` bytes."""
        if not self.kept:
            return Oversized(self.size)
        if self._large is not None:
            return self._command_of(self._large.frames)  # a copy would cost a quarter of the message's time
        piece = frame_max - FRAME_OVERHEAD if frame_max and self._pieces > 1 else self.size
        return self._command_of(b"".join([self._header, *reframe(self.channel, self._body, piece)]))

    def large_body(self, frame_max: int, waiting: bytes, arrived: int) -> LargeBody | None:
        """Return a buffer for all frames of the content, with those that have been parsed, or None.

        The body must be large, and its frames so far must be as large as ``frame_max`` allows. ``waiting`` is
        the beginning of the next frame, of which ``arrived`` bytes have arrived.
        """
        size, begun = self.size, self.begun
        if not is_worth_it(size, begun + arrived) or not (self.kept and self.regular):
            return None
        piece = _piece(size, frame_max)
        if begun != self._pieces * piece or not begins(waiting, self.channel, min(piece, self._left)):
            return None
        return self._large or self._make_buffer(frame_max)

    def _make_buffer(self, frame_max: int) -> LargeBody:
        """Make the buffer for all frames of the content, and move the body so far to it."""
        self._large = large = LargeBody(self.channel, self._header, self.size, _piece(self.size, frame_max))
        for part in self._body:
            large.add(part)
        self._body.clear()
        return large

    def parse_frames(self) -> bytes:
        """Return the bytes after the last whole frame in the buffer. They, and the rest of the content, are
        to be parsed frame by frame.
        """
        assert self._large is not None
        self.regular = False
        self._left = self._large.left
        return self._large.take_rest()

    @property
    def begun(self) -> int:
        """The bytes of the body that have been parsed."""
        return self.size - self._left

    def _command_of(self, frames: Frames) -> Command:
        method = self._method
        assert isinstance(method, BasicPublish | BasicDeliver | BasicGetOk | BasicReturn)
        route = pack_route(method.exchange, method.routing_key)
        if isinstance(method, BasicPublish):
            bits = method.mandatory | method.immediate << 1
            return ParsedMessage(route, bits, self.channel, self.size, frames, self._traits)
        return Delivery(method, ParsedMessage(route, 0, self.channel, self.size, frames, self._traits))


def content_traits(raw: bytes, method: Method) -> Traits:
    """Return the traits of a property list, which must be well-formed; ``method`` is named as the cause."""
    try:
        return read_traits(raw)
    except SyntaxError_ as error:
        error.cause = method
        raise


def _piece(size: int, frame_max: int) -> int:
    """Return the bytes of a body of ``size`` bytes in each of its frames but the last."""
    return min(size, frame_max - FRAME_OVERHEAD) if frame_max else size
