"""Commands of a peer: a method, a method with its content, or several alike that are handled together.

Responsible for the types that ``reader`` returns. Not for single methods (see ``methods``).
"""

from typing import ClassVar

from msgspec import Struct

from leveret.protocol.amqp.message import Message
from leveret.protocol.amqp.methods import BasicDeliver, BasicGetOk, BasicReturn, Method


class Publishes(Struct):
    """Consecutive publishes on one channel with the same route and bits, which are handled alike.

    Their bodies have ``size`` bytes together.
    """

    messages: list[Message]
    size: int
    CLASS_ID: ClassVar[int] = 60
    METHOD_ID: ClassVar[int] = 40


class Acks(Struct):
    """Consecutive acknowledgements on one channel, each of the single message with that tag."""

    tags: list[int]
    CLASS_ID: ClassVar[int] = 60
    METHOD_ID: ClassVar[int] = 80


class Heartbeat(Struct):
    """A heartbeat frame; it belongs to the connection and carries nothing."""


class Delivery(Struct):
    """A method that carries content, and the content, as a client receives them."""

    method: BasicDeliver | BasicGetOk | BasicReturn
    message: Message


class Oversized(Struct):
    """A publish whose body exceeds the limit; the body is skipped."""

    size: int


Command = Method | Message | Publishes | Acks | Delivery | Oversized | Heartbeat
