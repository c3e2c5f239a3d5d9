"""The default exchange, whose bindings are the names of queues."""

from leveret.router.exchange.base import Exchange


class DefaultExchange(Exchange):
    """The exchange without a name: every queue is bound to it by its name, and it has no other bindings."""

    type = "direct"
