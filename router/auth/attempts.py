"""Counters of login attempts by protocol.

Source: ``/api/auth/attempts`` of RabbitMQ's management API; the names of protocols are RabbitMQ's.
"""

from msgspec import Struct

PROTOCOLS = {"STOMP": "stomp", "Basic": "http"}  # by mechanism; all other mechanisms are those of AMQP


class AttemptCount(Struct):
    """Login attempts over one protocol."""

    succeeded: int = 0
    failed: int = 0


class Attempts(dict[str, AttemptCount]):
    """Counters of login attempts by protocol; a protocol has an entry after its first attempt."""

    def count(self, mechanism: str, *, succeeded: bool) -> None:
        """Count an attempt by a SASL mechanism, by HTTP's ``Basic`` or by ``STOMP``."""
        count = self.setdefault(PROTOCOLS.get(mechanism, "amqp091"), AttemptCount())
        if succeeded:
            count.succeeded += 1
        else:
            count.failed += 1
