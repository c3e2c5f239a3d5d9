"""The consumers of a stream: all read, but for those of one name of which only one shall.

Owns who is active in such a group, and who follows. Where a reader begins is the stream's business.
"""

from leveret.router.queue.consumers import Consumer, Consumers
from leveret.router.stream.reader import Reader


class Readers(Consumers):
    """The readers of one stream, which never keep each other from reading."""

    __slots__ = ("_groups",)

    def __init__(self) -> None:
        super().__init__(single_active=False)
        # By name those of which one only is active, the oldest first.
        self._groups: dict[str | None, dict[Reader, None]] = {}

    def refuse(self, *, exclusive: bool) -> bool:
        return False

    def add(self, consumer: Consumer) -> None:
        """Add one; where one of its name only is active, it waits if there is one already."""
        assert isinstance(consumer, Reader)
        self._all[consumer] = None
        if not consumer.single:
            self._activate(consumer)
            return
        group = self._groups.setdefault(consumer.name, {})
        group[consumer] = None
        if len(group) == 1:
            self._activate(consumer)

    def remove(self, consumer: Consumer) -> None:
        assert isinstance(consumer, Reader)
        super().remove(consumer)
        if consumer.single:
            group = self._groups[consumer.name]
            del group[consumer]
            if not group:
                del self._groups[consumer.name]

    def clear(self) -> list[Consumer]:
        self._groups.clear()
        return super().clear()

    def follow(self, gone: Reader) -> Reader | None:
        """One has left that was the active one of its group: the oldest of the others is now; None if there
        is none.
        """
        group = self._groups.get(gone.name) if gone.single else None
        if not group:
            return None
        successor = next(iter(group))
        self._activate(successor)
        return successor
