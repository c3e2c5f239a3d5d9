"""Queues that deliver nothing while a session requeues messages in several turns.

Without the pause, later messages of a queue would be delivered before the requeued ones.
"""

from collections.abc import Iterable

from leveret.router.queue.interface import QueueLike


class PausedSources:
    """The queues, and other sources of deliveries, that one session has paused."""

    __slots__ = ("_paused",)

    def __init__(self) -> None:
        self._paused: dict[QueueLike, None] = {}

    def __contains__(self, source: object) -> bool:
        return source in self._paused

    def pause(self, sources: Iterable[QueueLike]) -> None:
        """Stop the deliveries of sources until ``resume``."""
        for source in sources:
            if source not in self._paused:
                source.pause_deliveries()
                self._paused[source] = None

    def resume(self) -> None:
        """Let all paused sources deliver again: every message is requeued."""
        paused, self._paused = self._paused, {}
        try:
            for source in paused:
                source.resume_deliveries()
        except Exception:
            for source in paused:
                source.reclaim(())
            raise
