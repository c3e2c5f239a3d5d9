"""The access class, which AMQP 0-9-1 no longer has and some clients still use."""

from leveret.protocol.amqp import methods as m
from leveret.router.amqp.channel import Channel


def request(channel: Channel, method: m.AccessRequest) -> m.AccessRequestOk:
    """Grant ticket 1 to every client: permissions do not depend on tickets."""
    return m.AccessRequestOk(1)
