"""The commands on an open channel: the table of handlers, and sending replies.

A handler is a function of the channel and the command, in the file of its class; it returns the reply or
None. Not for publishes and acknowledgements, which the connection passes to the session directly, nor for
opening and closing channels (see ``channels``).
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from leveret.protocol.amqp import methods as m
from leveret.protocol.amqp.command import Command, Oversized
from leveret.protocol.errors import CommandInvalid
from leveret.router.amqp import access, basic, channel_class, exchange, queue, tx
from leveret.router.amqp.channel import Channel
from leveret.router.session.topology_changes import TopologyChanges

# Any: each handler takes the type of command that is its key.
HANDLERS: dict[type, Callable[[Channel, Any], m.Method | None]] = {
    m.ChannelFlow: channel_class.flow,
    m.AccessRequest: access.request,
    m.ExchangeDeclare: exchange.declare,
    m.ExchangeDelete: exchange.delete,
    m.ExchangeBind: exchange.bind,
    m.ExchangeUnbind: exchange.unbind,
    m.QueueDeclare: queue.declare,
    m.QueueBind: queue.bind,
    m.QueueUnbind: queue.unbind,
    m.QueuePurge: queue.purge,
    m.QueueDelete: queue.delete,
    m.BasicQos: basic.qos,
    m.BasicConsume: basic.consume,
    m.BasicCancel: basic.cancel,
    m.BasicGet: basic.get,
    m.BasicAck: basic.ack,
    m.BasicNack: basic.nack,
    m.BasicReject: basic.reject,
    m.BasicRecover: basic.recover,
    m.BasicRecoverAsync: basic.recover_async,
    Oversized: basic.refuse,
    m.ConfirmSelect: tx.confirm_select,
    m.TxSelect: tx.select,
    m.TxCommit: tx.commit,
    m.TxRollback: tx.rollback,
}

SETTLEMENTS = frozenset((m.BasicAck, m.BasicNack, m.BasicReject))  # which have no reply
DECLARATIONS = frozenset((m.ExchangeDeclare, m.ExchangeBind, m.QueueDeclare, m.QueueBind))


def handle(channel: Channel, command: Command) -> Callable[[], None] | None:
    """Execute a command, and send its reply unless it has none.

    If the session's work is ``unfinished`` afterwards, return a function that sends the reply when the work
    has ended. Raises CommandInvalid for a command that clients do not send on a channel, and the errors of
    the command.
    """
    handler = HANDLERS.get(type(command))
    if handler is None:
        raise CommandInvalid("unimplemented method")
    if type(command) in SETTLEMENTS:
        handler(channel, command)
        return None
    session = channel.session
    changes = TopologyChanges(session.broker.storage)
    reply = handler(channel, command)
    if session.work.unfinished is not None:
        return partial(_answer, channel, command, reply, changes)
    if reply is not None or changes:
        _answer(channel, command, reply, changes)
    return None


def _answer(channel: Channel, command: Command, reply: m.Method | None, changes: TopologyChanges) -> None:
    """Send the reply to a command, after ``changes`` of the command are on disk."""
    if changes or type(command) is m.TxCommit:
        channel.hold_replies()
    elif type(command) in DECLARATIONS:  # it may depend on a change by another client that is not on disk
        channel.hold_replies_until(changes.last_batch)
    if reply is not None and not getattr(command, "nowait", False):
        channel.send(reply)
