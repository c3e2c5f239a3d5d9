"""The basic class (AMQP 0-9-1 1.8): consume, get, settle. Publishes go to the session directly."""

from secrets import token_urlsafe

from leveret.protocol.amqp import methods as m
from leveret.protocol.amqp.command import Oversized
from leveret.protocol.errors import NotImplemented_, PreconditionFailed
from leveret.router.amqp.channel import Channel


def refuse(channel: Channel, content: Oversized) -> None:
    """Refuse a publish whose body is larger than allowed. Raises PreconditionFailed."""
    limit = channel.session.broker.settings.amqp.max_message_size
    raise PreconditionFailed(f"message size {content.size} is larger than configured max size {limit}")


def qos(channel: Channel, method: m.BasicQos) -> m.BasicQosOk:
    if method.prefetch_size:
        raise NotImplemented_(f"prefetch_size!=0 ({method.prefetch_size})")
    channel.session.set_prefetch(method.prefetch_count, shared=method.global_)
    return m.BasicQosOk()


def consume(channel: Channel, method: m.BasicConsume) -> m.BasicConsumeOk:
    tag = method.consumer_tag or f"amq.ctag-{token_urlsafe(16)}"
    channel.session.consume(
        channel.queue_name(method.queue),
        tag,
        no_ack=method.no_ack,
        exclusive=method.exclusive,
        arguments=method.arguments,
    )
    return m.BasicConsumeOk(tag)


def cancel(channel: Channel, method: m.BasicCancel) -> m.BasicCancelOk:
    channel.session.cancel(method.consumer_tag)
    return m.BasicCancelOk(method.consumer_tag)


def get(channel: Channel, method: m.BasicGet) -> m.BasicGetEmpty | None:
    taken = channel.session.get(channel.queue_name(method.queue), no_ack=method.no_ack)
    if taken is None:
        return m.BasicGetEmpty()
    tag, entry, queue = taken
    message = entry.message
    ok = m.BasicGetOk(tag, entry.returns > 0, message.exchange, message.routing_key, len(queue.ready))
    channel.send_content(ok, channel.counted(entry) if queue.counted else message)
    return None


def ack(channel: Channel, method: m.BasicAck) -> None:
    channel.session.ack(method.delivery_tag, multiple=method.multiple)


def nack(channel: Channel, method: m.BasicNack) -> None:
    channel.session.nack(method.delivery_tag, multiple=method.multiple, requeue=method.requeue)


def reject(channel: Channel, method: m.BasicReject) -> None:
    channel.session.nack(method.delivery_tag, multiple=False, requeue=method.requeue)


def recover(channel: Channel, method: m.BasicRecover) -> m.BasicRecoverOk:
    _recover(channel, method.requeue)
    return m.BasicRecoverOk()


def recover_async(channel: Channel, method: m.BasicRecoverAsync) -> None:
    _recover(channel, method.requeue)


def _recover(channel: Channel, requeue: bool) -> None:
    if not requeue:
        raise NotImplemented_("requeue=false")
    channel.session.recover()
