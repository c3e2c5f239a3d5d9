"""The fanout exchange: every binding matches, whatever its key (AMQP 0-9-1 3.1.3.2)."""

from leveret.router.exchange.base import Exchange


class FanoutExchange(Exchange):
    """All bindings, always: the rule of the base class."""

    type = "fanout"
    description = "AMQP fanout exchange, as per the AMQP specification"
    any_key = True
