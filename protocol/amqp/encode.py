"""Hand-packed frames of the methods that a broker sends most; each equals what ``codec`` would write.

Responsible for their layout. A delivery is a list of byte strings that the writer of the socket joins: the
method frame is packed here, the content frames are the publisher's own bytes (see ``message``).
"""

from collections.abc import Callable
from functools import partial
from struct import Struct

HEARTBEAT = b"\x08\x00\x00\x00\x00\x00\x00\xce"
END = b"\xce"

_settle = Struct(">BHIHHQBB").pack


class DeliverFrames(dict[int, Callable[[int, bool, bytes], bytes]]):
    """The functions that pack one consumer's basic.deliver frames, by the length of the route.

    A function is made when it is first needed. The frame is ``pack(delivery_tag, redelivered, route + END)``.
    One part per frame instead of three saves 0.07 us until the parts of deliveries are joined.
    """

    __slots__ = ("_channel", "_tag")

    def __init__(self, channel: int, consumer_tag: str) -> None:
        tag = consumer_tag.encode("utf-8", "surrogateescape")
        self._channel = channel
        self._tag = b"\x00\x3c\x00\x3c%c%b" % (len(tag), tag)

    def __missing__(self, route_length: int) -> Callable[[int, bool, bytes], bytes]:
        size = len(self._tag) + 9 + route_length
        head = b"\x01%b%b%b" % (self._channel.to_bytes(2, "big"), size.to_bytes(4, "big"), self._tag)
        frame = Struct(f">{len(head)}sQB{route_length + len(END)}s")
        self[route_length] = pack = partial(frame.pack, head)
        return pack


def ack_frame(channel: int, delivery_tag: int, multiple: bool) -> bytes:
    """A basic.ack frame: a publisher confirm, or a consumer's acknowledgement."""
    return _settle(1, channel, 13, 60, 80, delivery_tag, multiple, 0xCE)


def nack_frame(channel: int, delivery_tag: int, multiple: bool) -> bytes:
    """A basic.nack frame that refuses a publish, with the requeue bit set as RabbitMQ sets it."""
    return _settle(1, channel, 13, 60, 120, delivery_tag, multiple | 2, 0xCE)
