"""The commands on an open channel: the table of handlers, and how replies are sent.

A handler is a function of the channel and the command, in the file of its class; it returns the reply or
None. Not here: publishes, which the connection hands to the session directly, and opening and closing
channels (``channels``).
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from leveret.protocol.amqp import methods as m
from leveret.protocol.amqp.command import Acks, Command, Oversized
from leveret.protocol.errors import CommandInvalid
from leveret.router.amqp import access, basic, channel_class, exchange, queue, tx
from leveret.router.amqp.channel import Channel
from leveret.router.session.topology_changes import TopologyChanges

# Any: each handler takes the one type of command that it stands beside.
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
    Acks: basic.ack_each,
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

SETTLEMENTS = frozenset((m.BasicAck, Acks, m.BasicNack, m.BasicReject))  # which have no reply
DECLARATIONS = frozenset((m.ExchangeDeclare, m.ExchangeBind, m.QueueDeclare, m.QueueBind))


def handle(channel: Channel, command: Command) -> Callable[[], None] | None:
    """Do what a command asks and answer it, unless it wants no answer. What it does may be ``unfinished``,
    see ``Session``: returned is then what answers it when that is over.

    Raises CommandInvalid for what no client sends on a channel, and whatever the command is refused with.
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
    """Send the reply to a command that has made these changes."""
    if changes or type(command) is m.TxCommit:
        channel.hold_replies()
    elif type(command) in DECLARATIONS:  # it may depend on a change by another client that is not on disk
        channel.hold_replies_until(changes.last_batch)
    if reply is not None and not getattr(command, "nowait", False):
        channel.send(reply)
