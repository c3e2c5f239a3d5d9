"""Counters of login attempts, by the protocol that the client speaks.

Source: ``/api/auth/attempts`` of RabbitMQ's management API, whose names of protocols these are.
"""

from dataclasses import dataclass

PROTOCOLS = {"STOMP": "stomp", "Basic": "http"}  # by mechanism; the others are AMQP's


@dataclass(slots=True)
class Count:
    """Attempts over one protocol."""

    succeeded: int = 0
    failed: int = 0


class Attempts(dict[str, Count]):
    """The counters by protocol; a protocol is there once somebody has tried."""

    def count(self, mechanism: str, *, succeeded: bool) -> None:
        """Count an attempt by a SASL mechanism, by HTTP's ``Basic`` or by ``STOMP``."""
        count = self.setdefault(PROTOCOLS.get(mechanism, "amqp091"), Count())
        if succeeded:
            count.succeeded += 1
        else:
            count.failed += 1
