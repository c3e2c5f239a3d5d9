"""Frames as a client writes them, packed apart from the code under test, and commands made comparable."""

import struct

from leveret.protocol.amqp import methods as m
from leveret.protocol.amqp.codec import method_frame
from leveret.protocol.amqp.command import Acks, Delivery, Publishes
from leveret.protocol.amqp.message import Message
from leveret.protocol.amqp.properties import Properties, encode_properties

NO_PROPERTIES = b"\0\0"


def frame(kind, channel, payload, end=0xCE):
    return struct.pack(">BHI", kind, channel, len(payload)) + payload + bytes((end,))


def header(channel, size, properties=NO_PROPERTIES, *, class_id=60, weight=0):
    """A content header frame; ``properties`` are flags and list."""
    return frame(2, channel, struct.pack(">HHQ", class_id, weight, size) + properties)


def body(channel, data, piece=0):
    """Body frames of at most ``piece`` bytes (0: one frame)."""
    starts = range(0, len(data), piece or len(data) or 1)
    return b"".join(frame(3, channel, data[start : start + (piece or len(data))]) for start in starts)


def publish(channel, data=b"", *, method=None, properties=None, piece=0):
    """A basic.publish with its content."""
    raw = encode_properties(properties or Properties())
    return (
        method_frame(channel, method or m.BasicPublish())
        + header(channel, len(data), raw)
        + body(channel, data, piece)
    )


def shown(command):
    """A command as something that compares by value."""
    if isinstance(command, Message):
        return (
            "message",
            command.route,
            command.bits,
            command.channel,
            command.size,
            bytes(command.frames),
            command.properties,
        )
    if isinstance(command, Delivery):
        return "delivery", command.method, shown(command.message)
    return command


def each(commands):
    """All commands, those that were read together one by one."""
    for channel, command in commands:
        if isinstance(command, Publishes):
            yield from ((channel, message) for message in command.messages)
        elif isinstance(command, Acks):
            yield from ((channel, m.BasicAck(tag, False)) for tag in command.tags)
        else:
            yield channel, command


def all_shown(commands):
    return [(channel, shown(command)) for channel, command in each(commands)]
