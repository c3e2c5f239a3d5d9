"""The channel class (AMQP 0-9-1 1.5) on a channel that is open. Opening and closing are in ``channels``."""

from leveret.protocol.amqp import methods as m
from leveret.protocol.errors import NotImplemented_
from leveret.router.amqp.channel import Channel


def flow(channel: Channel, method: m.ChannelFlow) -> m.ChannelFlowOk:
    if not method.active:
        raise NotImplemented_("active=false")
    return m.ChannelFlowOk(active=True)
