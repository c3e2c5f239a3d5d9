"""Errors as channel.close and connection.close: the one place where errors become methods.

Sources: AMQP 0-9-1 1.4.2.9 and 1.5.2.5; RabbitMQ for the method that is named as the cause.
"""

from typing import TypeVar

from leveret.protocol.amqp import methods as m
from leveret.protocol.amqp.command import Command, Delivery, Oversized
from leveret.protocol.amqp.message import Message
from leveret.protocol.errors import AmqpError, Blamed

REPLY_TEXT_MAX = 255  # bytes

Close = TypeVar("Close", m.ChannelClose, m.ConnectionClose)


def close_for(kind: type[Close], error: AmqpError, command: Command | None) -> Close:
    """Return the close for an error that ``command`` caused (None: no command did)."""
    return kind(error.code, _reply_text(error), *_blame(error.cause or command))


def _blame(command: Command | Blamed | type[Blamed] | None) -> tuple[int, int]:
    """Return the class and method id of the command that caused an error; 0, 0 for none."""
    if isinstance(command, Message | Oversized):
        return m.BasicPublish.CLASS_ID, m.BasicPublish.METHOD_ID
    if isinstance(command, Delivery):
        command = command.method
    return getattr(command, "CLASS_ID", 0), getattr(command, "METHOD_ID", 0)


def _reply_text(error: AmqpError) -> str:
    """Return the error's text, cut to the length of a short string."""
    text = str(error).encode("utf-8", "replace")
    if len(text) > REPLY_TEXT_MAX:
        text = text[: REPLY_TEXT_MAX - 3] + b"..."
    return text.decode("utf-8", "ignore")
