"""What channel.close and connection.close say of an error: the one place where errors become methods.

Sources: AMQP 0-9-1 1.4.2.9 and 1.5.2.5; RabbitMQ for which method is blamed.
"""

from typing import TypeVar

from leveret.protocol.amqp import methods as m
from leveret.protocol.amqp.command import Command, Delivery, Oversized
from leveret.protocol.amqp.message import Message
from leveret.protocol.errors import AmqpError, Blamed

REPLY_TEXT_MAX = 255  # bytes

Close = TypeVar("Close", m.ChannelClose, m.ConnectionClose)


def close_for(kind: type[Close], error: AmqpError, command: Command | None) -> Close:
    """The close that tells of an error met in ``command`` (None: in no command)."""
    return kind(error.code, _reply_text(error), *_blame(error.cause or command))


def _blame(command: Command | Blamed | type[Blamed] | None) -> tuple[int, int]:
    """Class and method id of what an error is blamed on: a command, or the class of one; 0, 0 for none."""
    if isinstance(command, Message | Oversized):
        return m.BasicPublish.CLASS_ID, m.BasicPublish.METHOD_ID
    if isinstance(command, Delivery):
        command = command.method
    return getattr(command, "CLASS_ID", 0), getattr(command, "METHOD_ID", 0)


def _reply_text(error: AmqpError) -> str:
    """The error's text, cut to what a short string holds."""
    text = str(error).encode("utf-8", "replace")
    if len(text) > REPLY_TEXT_MAX:
        text = text[: REPLY_TEXT_MAX - 3] + b"..."
    return text.decode("utf-8", "ignore")
