"""The exchange class (AMQP 0-9-1 1.6)."""

from leveret.protocol.amqp import methods as m
from leveret.router.amqp.channel import Channel
from leveret.router.turns.backlog import Postponed


def declare(channel: Channel, method: m.ExchangeDeclare) -> m.ExchangeDeclareOk:
    if method.passive:
        channel.topology.find_exchange(method.exchange)
    else:
        channel.topology.declare_exchange(
            method.exchange,
            method.type,
            durable=method.durable,
            auto_delete=method.auto_delete,
            internal=method.internal,
            arguments=method.arguments,
        )
    return m.ExchangeDeclareOk()


def delete(channel: Channel, method: m.ExchangeDelete) -> m.ExchangeDeleteOk:
    """Delete an exchange. Raises Postponed while very many bindings are deleted."""
    work = channel.topology.loosen_exchange(method.exchange, if_unused=method.if_unused)
    if work is not None:
        raise Postponed(work)
    channel.topology.delete_exchange(method.exchange, if_unused=method.if_unused)
    return m.ExchangeDeleteOk()


def bind(channel: Channel, method: m.ExchangeBind) -> m.ExchangeBindOk:
    ends = method.destination, method.source
    binding = channel.topology.bind_exchange_in_slices(*ends, method.routing_key, method.arguments)
    channel.session.carry_out("binding an exchange", binding)
    return m.ExchangeBindOk()


def unbind(channel: Channel, method: m.ExchangeUnbind) -> m.ExchangeUnbindOk:
    channel.topology.unbind_exchange(method.destination, method.source, method.routing_key, method.arguments)
    return m.ExchangeUnbindOk()
