"""Detects a command that has changed the topology, so that its reply has to wait for the disk.

The one place that compares the store's count of changes before and after a command.
"""

from leveret.router.persistence.api import Storage


class TopologyChanges:
    """The changes of topology, users and policies since a command began, in however many turns.

    A change of another client between two turns of the command counts too: its reply waits a little longer.
    """

    __slots__ = ("_before", "_storage")

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._before = storage.changes

    def __bool__(self) -> bool:
        return self._storage.changes != self._before

    @property
    def last_batch(self) -> int:
        """The batch that the last change of any client is part of."""
        return self._storage.changed
