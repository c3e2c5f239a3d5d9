"""The channel class (AMQP 0-9-1 1.5) on a channel that is open. Opening and closing are the connection's."""

from protocol.amqp import methods as m
from protocol.errors import ChannelError, NotImplemented_
from router.amqp.channel import Channel


def open_again(channel: Channel, method: m.ChannelOpen) -> None:
    raise ChannelError("second 'channel.open' seen")


def flow(channel: Channel, method: m.ChannelFlow) -> m.ChannelFlowOk:
    if not method.active:
        raise NotImplemented_("active=false")
    return m.ChannelFlowOk(active=True)
