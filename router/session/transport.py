"""What a connection needs of whoever carries its bytes and keeps its log, whatever protocol it speaks."""

from typing import Any, Protocol


class Outbox(Protocol):
    """Where a connection's bytes wait to be sent."""

    def write(self, data: bytes) -> None: ...
    def extend(self, parts: list[bytes]) -> None: ...
    def writable(self) -> bool: ...


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

    def last_sent(self) -> int:
        """When bytes were last sent, in ms."""

    def pause(self) -> None:
        """Nothing more is to be read, until ``resume``."""

    def resume(self) -> None: ...

    def close(self) -> None:
        """Nothing more will be written or is to be read; once all is sent the socket may be closed."""
