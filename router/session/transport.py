"""What a connection needs of whoever carries its bytes and keeps its log, whatever protocol it speaks."""

from dataclasses import dataclass
from typing import Any, Protocol

from leveret.router.values.counters import Traffic


@dataclass(frozen=True, slots=True)
class ConnectionEnds:
    """The two ends of a connection as host and port: the client's and this machine's.

    ``tls`` names version and cipher; ``subject``, ``issuer`` and ``validity`` are the client's certificate's,
    and are empty without one.
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
    """Where a connection's bytes wait to be sent."""

    def write(self, data: bytes) -> None: ...
    def extend(self, parts: list[bytes]) -> None: ...
    def writable(self) -> bool: ...
    def overfull(self) -> bool:
        """Whether so much waits that what cannot wait elsewhere is dropped."""


class ConnectionLog(Protocol):
    """Where the connection's story goes."""

    def bind(self, **fields: Any) -> "ConnectionLog":
        """The same log with fields that all later lines have."""

    def debug(self, event: str, **fields: Any) -> Any: ...
    def info(self, event: str, **fields: Any) -> Any: ...
    def warning(self, event: str, **fields: Any) -> Any: ...
    def error(self, event: str, **fields: Any) -> Any: ...


class ConnectionOutbox(Outbox, Protocol):
    """Where a connection's bytes wait, with what heartbeats and the end of a connection need."""

    traffic: Traffic
    size: int  # bytes that wait

    def last_sent(self) -> int:
        """When bytes were last sent, in ms."""

    def pause(self) -> None:
        """Nothing more is to be read, until ``resume``."""

    def resume(self) -> None: ...

    def close(self) -> None:
        """Nothing more will be written or is to be read; once all is sent the socket may be closed."""
