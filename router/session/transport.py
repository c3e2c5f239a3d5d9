"""Interfaces of a connection to its transport and its log, in any protocol."""

from collections.abc import Sequence
from typing import Any, Protocol

from msgspec import Struct

from leveret.protocol.buffers import Part
from leveret.router.values.counters import Traffic


class ConnectionEnds(Struct, frozen=True):
    """The two ends of a connection, the client's and this machine's, each as host and port.

    ``tls`` names version and cipher. ``subject``, ``issuer`` and ``validity`` are read from the client's
    certificate; they are empty if the client has none.
    """

    peer: tuple[str, int] = ("unknown", 0)
    here: tuple[str, int] = ("unknown", 0)
    tls: tuple[str, str] | None = None
    subject: str = ""
    issuer: str = ""
    validity: str = ""

    @property
    def name(self) -> str:
        """RabbitMQ's name of the connection."""
        return f"{self.peer[0]}:{self.peer[1]} -> {self.here[0]}:{self.here[1]}"


UNKNOWN = ConnectionEnds()


class Outbox(Protocol):
    """The buffer of bytes that a connection has still to send."""

    def write(self, data: Part) -> None: ...
    def extend(self, parts: Sequence[Part]) -> None: ...
    def writable(self) -> bool: ...
    def overfull(self) -> bool:
        """Return True if so many bytes wait that direct replies are dropped."""


class ConnectionLog(Protocol):
    """The log of a connection."""

    def bind(self, **fields: Any) -> "ConnectionLog":
        """Return a log that adds these fields to each line."""

    def debug(self, event: str, **fields: Any) -> Any: ...
    def info(self, event: str, **fields: Any) -> Any: ...
    def warning(self, event: str, **fields: Any) -> Any: ...
    def error(self, event: str, **fields: Any) -> Any: ...


class ConnectionOutbox(Outbox, Protocol):
    """An outbox with the operations that heartbeats, pauses and the end of a connection need."""

    traffic: Traffic
    size: int  # bytes that wait

    def last_sent(self) -> int:
        """Return the time in ms at which bytes were last sent."""

    def pause(self) -> None:
        """Stop reading until ``resume``."""

    def resume(self) -> None: ...

    def close(self) -> None:
        """Stop reading and writing; the socket may be closed once all bytes are sent."""
