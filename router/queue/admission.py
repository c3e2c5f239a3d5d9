"""Limits that a queue's settings put on its messages: length, overflow behaviour, TTL.

Responsible for the arithmetic. Messages over a limit are dropped or dead-lettered in ``limits``.

Sources: RabbitMQ, "Queue Length Limit", "Time-To-Live and Expiration".
"""

from leveret.protocol.amqp.message import Message
from leveret.router.arguments.queue import QueueArguments

REFUSING = ("reject-publish", "reject-publish-dlx")  # overflow settings that refuse new messages


class AdmissionLimits:
    """The limits of one queue.

    ``unlimited``: there is neither a length limit nor a TTL. ``refusing``: a full queue refuses new messages
    instead of dropping messages from its head. ``dead_lettering``: refused messages are dead-lettered.
    """

    __slots__ = ("_length", "_length_bytes", "_ttl", "dead_lettering", "refusing", "unlimited")

    def __init__(self, settings: QueueArguments) -> None:
        self._length = settings.max_length
        self._length_bytes = settings.max_length_bytes
        self._ttl = settings.message_ttl
        self.refusing = settings.overflow in REFUSING
        self.dead_lettering = settings.overflow == "reject-publish-dlx"
        self.unlimited = self._ttl is None and self._length is None and self._length_bytes is None

    def exceeded(self, count: int, size: int) -> bool:
        """Return True if ``count`` messages with bodies of ``size`` bytes exceed a length limit."""
        return (self._length is not None and count > self._length) or (
            self._length_bytes is not None and size > self._length_bytes
        )

    def excess(self, count: int, size: int) -> tuple[int, int]:
        """Return the number of messages, and of bytes of bodies, to take from the head of an overfull queue.

        ``count`` is the number of ready messages, ``size`` the bytes of their bodies. The caller stops when
        it has taken the number or the bytes, whichever comes first. If only one limit is exceeded, the result
        for the other one is too large to come first.
        """
        if self._length is not None and count > self._length:
            return count - self._length, size + 1
        return count, size - (self._length_bytes or 0)

    def deadline(self, message: Message, now: int) -> int:
        """Return the deadline of a message in ms (0: none), from the shorter one of its TTL and the
        queue's.
        """
        ttl = self._ttl
        expiration = message.traits.expiration
        if expiration is not None:
            own = int(expiration)
            ttl = own if ttl is None else min(ttl, own)
        return 0 if ttl is None else now + ttl
