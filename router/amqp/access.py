"""The access class, which AMQP 0-9-1 no longer has and some clients still use."""

from leveret.protocol.amqp import methods as m
from leveret.router.amqp.channel import Channel


def request(channel: Channel, method: m.AccessRequest) -> m.AccessRequestOk:
    """Of AMQP 0-8; permissions do not depend on it."""
    return m.AccessRequestOk(1)
