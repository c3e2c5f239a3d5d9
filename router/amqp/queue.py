"""The queue class (AMQP 0-9-1 1.7). An empty queue name stands for the queue the channel declared last."""

from leveret.protocol.amqp import methods as m
from leveret.router.amqp.channel import Channel
from leveret.router.session.reply_to import REPLY_TO
from leveret.router.turns.backlog import Postponed


def declare(channel: Channel, method: m.QueueDeclare) -> m.QueueDeclareOk:
    if method.queue.startswith(REPLY_TO):
        channel.topology.find_reply_queue(method.queue)
        channel.last_queue = method.queue
        return m.QueueDeclareOk(method.queue, 0, 1)
    if method.passive:
        queue = channel.topology.find_queue(method.queue)
    else:
        queue = channel.topology.declare_queue(
            method.queue,
            durable=method.durable,
            exclusive=method.exclusive,
            auto_delete=method.auto_delete,
            arguments=method.arguments,
        )
    channel.last_queue = queue.name
    count = queue.count(channel.session.broker.now)
    return m.QueueDeclareOk(queue.name, count, len(queue.consumers))


def bind(channel: Channel, method: m.QueueBind) -> m.QueueBindOk:
    queue, routing_key = channel.queue_and_key(method.queue, method.routing_key)
    binding = channel.topology.bind_queue_in_slices(queue, method.exchange, routing_key, method.arguments)
    channel.session.carry_out("binding a queue", binding)
    return m.QueueBindOk()


def unbind(channel: Channel, method: m.QueueUnbind) -> m.QueueUnbindOk:
    queue, routing_key = channel.queue_and_key(method.queue, method.routing_key)
    channel.topology.unbind_queue(queue, method.exchange, routing_key, method.arguments)
    return m.QueueUnbindOk()


def purge(channel: Channel, method: m.QueuePurge) -> m.QueuePurgeOk:
    return m.QueuePurgeOk(channel.topology.purge_queue(channel.queue_name(method.queue)))


def delete(channel: Channel, method: m.QueueDelete) -> None:
    """Delete a queue. Raises Postponed while very many bindings are deleted.

    As in RabbitMQ, consumers of this channel are sent basic.cancel after the reply.
    """
    name = channel.queue_name(method.queue)
    work = channel.topology.loosen_queue(name, if_unused=method.if_unused, if_empty=method.if_empty)
    if work is not None:
        raise Postponed(work)
    with channel.notices_held():
        count = channel.topology.delete_queue(name, if_unused=method.if_unused, if_empty=method.if_empty)
        channel.hold_replies()
        if not method.nowait:
            channel.send(m.QueueDeleteOk(count))
