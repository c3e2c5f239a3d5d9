"""What a peer has sent, as one thing to handle: a method, content with the method that carries it, or several
of these together.
"""

from dataclasses import dataclass
from typing import ClassVar

from leveret.protocol.amqp.message import Message
from leveret.protocol.amqp.methods import BasicDeliver, BasicGetOk, BasicReturn, Method


@dataclass(slots=True)
class Publishes:
    """Publishes on one channel, one behind the other, that differ in the bytes of their bodies alone."""

    messages: list[Message]
    CLASS_ID: ClassVar[int] = 60
    METHOD_ID: ClassVar[int] = 40


@dataclass(slots=True)
class Acks:
    """Acknowledgements on one channel, one behind the other, each of the one message with that tag."""

    tags: list[int]
    CLASS_ID: ClassVar[int] = 60
    METHOD_ID: ClassVar[int] = 80


@dataclass(slots=True)
class Heartbeat:
    """A heartbeat frame; it belongs to the connection and carries nothing."""


@dataclass(slots=True)
class Delivery:
    """What a client receives: a method that carries content, and the content."""

    method: BasicDeliver | BasicGetOk | BasicReturn
    message: Message


@dataclass(slots=True)
class Oversized:
    """A publish whose body is larger than allowed; its body is read past, not kept."""

    size: int


Command = Method | Message | Publishes | Acks | Delivery | Oversized | Heartbeat
