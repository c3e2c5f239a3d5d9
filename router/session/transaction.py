"""What a session gathers between tx.select and tx.commit (AMQP 0-9-1 1.9)."""

from collections.abc import Sequence

from protocol.amqp.message import Message
from router.routing import Target
from router.session.unacked import Held


class Transaction:
    """What waits for tx.commit: routed publishes, and settlements in the order they were made."""

    __slots__ = ("publishes", "settlements")

    def __init__(self) -> None:
        self.publishes: list[tuple[Message, Sequence[Target]]] = []
        self.settlements: list[tuple[list[tuple[int, Held]], bool, bool]] = []  # held, acked, requeue
