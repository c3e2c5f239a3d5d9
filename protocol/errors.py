"""The tree of errors that end a channel or a connection.

Responsible for the reply code, the reply name (AMQP 0-9-1, 1.2) and the scope of each error. ``str(error)``
is the reply text in RabbitMQ's form, ``NOT_FOUND - no queue 'q' in vhost '/'``. The router raises these
classes whatever protocol the client speaks. Not for frames: each protocol has one place that turns errors
into them.
"""

from typing import ClassVar, Literal, Protocol

Scope = Literal["channel", "connection"]


class Blamed(Protocol):
    """A method class, reduced to the ids that an error names as the failing method."""

    CLASS_ID: ClassVar[int]
    METHOD_ID: ClassVar[int]


class AmqpError(Exception):
    """A refusal that is reported to the client.

    ``scope`` is what the error ends: the channel or the connection. ``cause`` is the failing method if it is
    not the command that is being handled.
    """

    code: ClassVar[int]
    name: ClassVar[str]
    scope: Scope = "connection"

    def __init__(
        self, text: str, *, scope: Scope | None = None, cause: Blamed | type[Blamed] | None = None
    ) -> None:
        super().__init__(f"{self.name} - {text}")
        self.cause = cause
        if scope is not None:
            self.scope = scope

    @property
    def log_fields(self) -> dict[str, str]:
        """Return fields for the log line of the error, besides its text."""
        return {}


class ConnectionForced(AmqpError):
    code, name = 320, "CONNECTION_FORCED"


class AccessRefused(AmqpError):
    """The user lacks a permission. ``missing`` names it, such as ``write on exchange 'x'``.

    ``missing`` is logged for the operator; the client gets RabbitMQ's text.
    """

    code, name, scope = 403, "ACCESS_REFUSED", "channel"

    def __init__(self, text: str, *, scope: Scope | None = None, missing: str = "") -> None:
        super().__init__(text, scope=scope)
        self.missing = missing

    @property
    def log_fields(self) -> dict[str, str]:
        return {"missing_permission": self.missing} if self.missing else {}


class NotFound(AmqpError):
    code, name, scope = 404, "NOT_FOUND", "channel"


class ResourceLocked(AmqpError):
    code, name, scope = 405, "RESOURCE_LOCKED", "channel"


class PreconditionFailed(AmqpError):
    code, name, scope = 406, "PRECONDITION_FAILED", "channel"


class FrameError(AmqpError):
    code, name = 501, "FRAME_ERROR"


class SyntaxError_(AmqpError):
    code, name = 502, "SYNTAX_ERROR"


class CommandInvalid(AmqpError):
    code, name = 503, "COMMAND_INVALID"


class ChannelError(AmqpError):
    code, name = 504, "CHANNEL_ERROR"


class UnexpectedFrame(AmqpError):
    code, name = 505, "UNEXPECTED_FRAME"


class ResourceError(AmqpError):
    code, name = 506, "RESOURCE_ERROR"


class NotAllowed(AmqpError):
    code, name = 530, "NOT_ALLOWED"


class NotImplemented_(AmqpError):
    code, name = 540, "NOT_IMPLEMENTED"


class InternalError(AmqpError):
    code, name = 541, "INTERNAL_ERROR"
