"""Interface between the management API and the server: the node's name, listeners, measurements, snapshots.

The server implements it (see ``router/server/node.py``).
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from leveret.router.cluster.state import ClusterState

MANAGEMENT_VERSION = "3.13.7"  # version of RabbitMQ's API whose objects these are


class Listener(NamedTuple):
    """An address with a listener, and the protocol in RabbitMQ's words.

    ``expires`` is the end of the listener's certificate, in seconds since the epoch.
    """

    protocol: str
    address: str
    port: int
    tls: bool = False
    expires: int | None = None


@dataclass(frozen=True, slots=True)
class Measurements:
    """Bytes, files, sockets and threads that the process uses, and their limits; None if unknown.

    ``collections`` (of garbage) and ``context_switches`` are counted since the start.
    """

    memory: int
    memory_limit: int
    disk_free: int | None
    disk_limit: int
    files: int
    files_max: int
    sockets: int
    threads: int = 0
    threads_max: int = 0
    collections: int = 0
    context_switches: int = 0
    memory_at_start: int = 0
    request_bodies: int = 0  # bytes of HTTP requests that are in memory


class ApiNode(Protocol):
    """The broker's node, as the API shows it."""

    name: str
    version: str
    pid: int
    processors: int
    cluster: "ClusterState | None"  # None for a broker alone

    def measured(self) -> Measurements: ...
    def freed_memory(self) -> int:
        """Return the bytes of freed memory that the C library keeps; may be a minute old."""

    def listeners(self) -> list[Listener]: ...
    def uptime(self) -> int:
        """Return the uptime in ms."""


class SnapshotResult(Protocol):
    """A complete snapshot: ``linked`` files are shared with the data directory, ``copied`` ones are not."""

    @property
    def path(self) -> Path: ...
    @property
    def linked(self) -> int: ...
    @property
    def copied(self) -> int: ...
    @property
    def size(self) -> int:
        """Return the bytes of the copied files."""


class SnapshotService(Protocol):
    """Takes snapshots of the data directory."""

    def take(self, name: str, then: Callable[[SnapshotResult | Exception], None]) -> None:
        """Take a snapshot; call ``then`` with it, or with the error if it failed."""
