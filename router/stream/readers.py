"""The consumers of a stream: all read, but for those of one name of which only one shall.

Owns who is active in such a group, and who follows. Where a reader begins is the stream's business.
"""

from router.queue.consumers import Consumer, Consumers
from router.stream.reader import Reader


class Readers(Consumers):
    """The readers of one stream, which never keep each other from reading."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(single_active=False)

    def refuse(self, *, exclusive: bool) -> bool:
        return False

    def add(self, consumer: Consumer) -> None:
        """Add one; where one of its name only is active, it waits if there is one already."""
        assert isinstance(consumer, Reader)
        self.all.append(consumer)
        if not (consumer.single and any(other.active for other in self._group(consumer))):
            self._activate(consumer)

    def follow(self, gone: Reader) -> Reader | None:
        """One has left that was the active one of its group: the oldest of the others is now; None if there
        is none.
        """
        others = self._group(gone)
        if not gone.single or any(other.active for other in others):
            return None
        for other in others:
            self._activate(other)
            return other
        return None

    def _group(self, reader: Reader) -> list[Reader]:
        """The others of its name of which one only is active, the oldest first."""
        return [
            other
            for other in self.all
            if isinstance(other, Reader)
            and other.single
            and other.name == reader.name
            and other is not reader
        ]
