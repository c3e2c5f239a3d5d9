"""The interface of a place that holds a whole store: files, metadata, and the record of a regular stop.

``opening`` implements it with a data directory, ``leveret.router.postgresql`` with a PostgreSQL. Everything
else of the store uses this interface only, so that both hold the same records, pages and rows.
"""

from pathlib import Path
from typing import Protocol

from leveret.router.store.files import Files
from leveret.router.store.metadata.reading import StoredMetadata


class StorageError(Exception):
    """A place that cannot be used as a store; the text gives the reason and what to do."""


class DeposedError(Exception):
    """Another broker has taken over the store: this one can write nothing more, and confirms nothing more."""


class StorageBackend(Protocol):
    """A place that holds a store, and that no other process uses until ``close``."""

    @property
    def path(self) -> Path:
        """The path that all files have in front of their names."""

    @property
    def files(self) -> Files:
        """The file operations, for paths below ``path``."""

    @property
    def metadata(self) -> StoredMetadata:
        """The metadata database."""

    @property
    def stopped(self) -> int | None:
        """The last batch of the journal if the last broker stopped regularly, else None."""

    def begin(self) -> None:
        """Remove the record of the last stop: the content was read and will change."""

    def leave(self) -> None:
        """Let other processes use the store, which was not changed."""

    def close(self, *, clean: bool, sequence: int = 0) -> None:
        """Let other processes use the store; ``clean`` says that every change is on disk.

        ``sequence`` is the sequence of the journal's last batch.
        """
