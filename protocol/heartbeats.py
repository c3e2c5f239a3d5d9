"""Negotiated heartbeats of a connection: the times to send one, and the detection of a silent peer.

Times are in ms. Not for negotiation, nor for the bytes of a heartbeat (see ``amqp`` and ``stomp``).
"""

from msgspec import Struct

TOLERANCE = 2  # intervals without a byte after which a peer counts as gone


class Heartbeats(Struct, frozen=True):
    """The heartbeats of one side.

    ``sends`` is the longest allowed silence of this side, ``expects`` of the other, in ms; 0 means no limit.
    """

    sends: int = 0
    expects: int = 0

    def interval(self) -> int:
        """Return the time between two checks: half of the shorter interval, 0 for no checks."""
        return min(filter(None, (self.sends, self.expects)), default=0) // 2

    def due(self, last_sent: int, now: int) -> bool:
        """Return True if a heartbeat must be sent now, since the next check would be too late."""
        return self.sends > 0 and now - last_sent >= self.sends // 2

    def missed(self, last_received: int, now: int) -> bool:
        """Return True if the other side has been silent for too long."""
        return self.expects > 0 and now - last_received >= TOLERANCE * self.expects
