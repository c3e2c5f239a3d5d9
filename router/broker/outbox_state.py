"""State of one transactional outbox, for the management API and metrics."""

from typing import Literal

from msgspec import Struct

OutboxPhase = Literal["connecting", "waiting", "running", "blocked", "failing"]


class OutboxState(Struct):
    """The state of one outbox; ``database`` names it without a password.

    ``waiting``: another broker publishes from this outbox. ``blocked``: alarms block publishers.
    ``rows_waiting``, ``rows_failed`` and ``oldest`` (the age of the oldest waiting row, in seconds) were
    counted in the database at most some seconds ago; None if unknown. The other numbers count since the
    start; ``recognized`` are rows that were found again after they had been published.
    """

    database: str
    phase: OutboxPhase = "connecting"
    error: str = ""
    rows_waiting: int | None = None
    rows_failed: int | None = None
    oldest: float | None = None
    published: int = 0
    refused: int = 0
    recognized: int = 0
    reconnections: int = 0
