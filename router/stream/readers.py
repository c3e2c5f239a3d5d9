"""The readers of a stream. All are active, but only one of each single-active group.

Responsible for the active reader of a group and its successor. Not for their offsets (see ``serving``).
"""

from leveret.router.queue.consumers import Consumer, Consumers
from leveret.router.stream.reader import StreamReader


class Readers(Consumers):
    """The readers of one stream, which read independently of each other."""

    __slots__ = ("_groups",)

    def __init__(self) -> None:
        super().__init__(single_active=False)
        # By name, the groups with a single active reader, the oldest reader first.
        self._groups: dict[str | None, dict[StreamReader, None]] = {}

    def refuse(self, *, exclusive: bool) -> bool:
        return False

    def add(self, consumer: Consumer) -> None:
        """Add a reader; in a group with an active reader it waits."""
        assert isinstance(consumer, StreamReader)
        self._all[consumer] = None
        if not consumer.single:
            self._activate(consumer)
            return
        group = self._groups.setdefault(consumer.name, {})
        group[consumer] = None
        if len(group) == 1:
            self._activate(consumer)

    def remove(self, consumer: Consumer) -> None:
        assert isinstance(consumer, StreamReader)
        super().remove(consumer)
        if consumer.single:
            group = self._groups.get(consumer.name)
            if group is not None:
                del group[consumer]
                if not group:
                    del self._groups[consumer.name]

    def dissolve_groups(self) -> None:
        """End the groups: no reader follows an active one that leaves."""
        self._groups.clear()

    def follow(self, gone: StreamReader) -> StreamReader | None:
        """Activate and return the oldest reader of the group of ``gone``; None if there is none."""
        group = self._groups.get(gone.name) if gone.single else None
        if not group:
            return None
        successor = next(iter(group))
        self._activate(successor)
        return successor
