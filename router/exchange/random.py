"""The random exchange of RabbitMQ's plugin: each message goes to one of the bindings, chosen at random.

A queue that is bound twice gets twice the share.
"""

from random import Random
from typing import TYPE_CHECKING

from leveret.router.exchange.base import Binding, Exchange

if TYPE_CHECKING:
    from leveret.protocol.amqp.message import Message


class RandomExchange(Exchange):
    """One binding by chance. ``random`` is the generator, which a test may replace."""

    type = "x-random"
    description = "Random Exchange"
    by_key = False

    def _prepare(self) -> None:
        self.random = Random()

    def match(self, routing_key: str, message: "Message") -> tuple[Binding, ...]:
        bindings = self.snapshot()
        return (self.random.choice(bindings),) if bindings else ()
