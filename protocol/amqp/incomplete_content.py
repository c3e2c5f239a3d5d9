"""Incomplete contents: a method, and the parts of its content header and body that have arrived.

Responsible for a content's frames in their order, and for the command that they make. Not for finding frames
(see ``reader``).
"""

from struct import Struct

from leveret.protocol.amqp.command import Command, Delivery, Oversized
from leveret.protocol.amqp.constants import FRAME_OVERHEAD
from leveret.protocol.amqp.large_body import LargeBody, begins, is_worth_it
from leveret.protocol.amqp.message import (
    FLAGS_OFFSET,
    FRAME,
    Frames,
    ParsedMessage,
    body_frames,
    pack_route,
)
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

    def body(self, data: bytes, position: int, last: int) -> bool:
        """Add a body frame; return True if it was the last."""
        piece = last - position - HEAD
        self._left -= piece
        if self.size < 0 or self._left < 0:
            raise self.unexpected()
        if self.kept and piece:
            self._pieces += 1
            part = memoryview(data)[position + HEAD : last]
            if piece >= LARGE and piece * SHARE >= len(data):
                self._body.append(part)
            elif self._body and isinstance(joined := self._body[-1], bytearray):
                joined += part
            else:
                self._body.append(bytearray(part))
        return self._left == 0

    def command(self, frame_max: int) -> Command:
        """Return the complete command. A body of many frames is framed anew for ``frame_max`` bytes."""
        if not self.kept:
            return Oversized(self.size)
        piece = frame_max - FRAME_OVERHEAD if frame_max and self._pieces > 1 else self.size
        body = self._body
        if any(len(part) != piece for part in body[:-1]):
            body = [bytearray().join(body)]
        framed = [frame for part in body for frame in body_frames(self.channel, part, piece)]
        return self._command_of(b"".join([self._header, *framed]))

    def large_body(self, frame_max: int, waiting: bytes, arrived: int) -> LargeBody | None:
        """Return a buffer for all frames of the content, or None.

        The body must be large, and its frames so far must be as large as ``frame_max`` allows. ``waiting`` is
        the beginning of the next frame, of which ``arrived`` bytes have arrived.
        """
        size, begun = self.size, self.begun
        if not is_worth_it(size, begun + arrived) or not (self.kept and self.regular):
            return None
        piece = min(size, frame_max - FRAME_OVERHEAD) if frame_max else size
        if begun != self._pieces * piece or not begins(waiting, self.channel, min(piece, self._left)):
            return None
        body = bytearray().join(self._body)
        parsed = [self._header, *body_frames(self.channel, body, piece)]
        return LargeBody(self.channel, parsed, self._left, piece)

    def command_of(self, large: LargeBody) -> Command:
        """Return the command of this content, whose frames are all in a buffer."""
        return self._command_of(large.frames)  # not copied: a copy would cost a quarter of the message's time

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
