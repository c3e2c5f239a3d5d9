"""Setup of structured logging with structlog.

Other modules call ``structlog.get_logger()`` and log an event with fields. Lines go to standard error, as
text for people or as one JSON object each; records of libraries that use the standard library's logging go
the same way. Messages are never logged, nor are credentials: fields with such names are blanked.
"""

import json
import logging
import os
import select
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, TextIO, cast

from leveret.protocol.json_text import representable
from leveret.router.settings import Log

# structlog imports asyncio, for a logger that is not used here, and rich if it is installed, for tracebacks
# that are not: most of its import time. Both are missing for it, and for nothing else.
_MISSING = {"asyncio": ModuleType("asyncio"), "rich": None}
for _name, _stand_in in _MISSING.items():
    sys.modules.setdefault(_name, _stand_in)  # type: ignore[arg-type]
import structlog  # noqa: E402
from structlog.typing import EventDict, Processor  # noqa: E402

for _name, _stand_in in _MISSING.items():
    if sys.modules[_name] is _stand_in:
        del sys.modules[_name]

CREDENTIALS = frozenset(
    {"password", "passwd", "passcode", "default_pass", "secret", "token", "authorization"}
)

# Of structlog's ConsoleRenderer: fields with a traceback, fields in brackets, widths of columns
TRACEBACKS = frozenset({"stack", "exception", "exc_info"})
LOGGERS = ("logger", "logger_name")
LEVEL_WIDTH, EVENT_WIDTH = 9, 30
KEPT = 1 << 18  # bytes of lines that wait for the descriptor


def configure(settings: Log, stream: TextIO | None = None) -> None:
    """Log as ``settings`` say, from now on, to ``stream`` (default: standard error).

    Colours are used on a terminal only, and not if NO_COLOR is set (https://no-color.org).
    """
    stream = sys.stderr if stream is None else stream
    level = logging.getLevelNamesMapping()[settings.level.upper()]
    render: list[Processor]
    if settings.format == "json":
        render = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(_to_json)]
    else:
        colors = stream.isatty() and not os.environ.get("NO_COLOR")
        renderer = structlog.dev.ConsoleRenderer(
            colors=colors,
            repr_native_str=True,  # text from clients must not forge lines or drive the terminal
            sort_keys=False,
            exception_formatter=structlog.dev.plain_traceback,
        )
        render = [renderer if colors else PlainLines(renderer)]
    processors: list[Processor] = [
        _blank_credentials,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        *render,
    ]
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(_output(stream, processors)),
    )
    logging.basicConfig(handlers=[_FromStandardLibrary()], level=level, force=True)


def _output(stream: TextIO, processors: Sequence[Processor]) -> TextIO:
    """Return the file that lines are written to: ``stream``, through a LogOutput if it has a descriptor."""

    def describe_loss(count: int) -> str:
        event: Any = {"event": "log lines dropped", "count": count, "reason": "the log could not be written"}
        for processor in processors:
            event = processor(None, "warning", event)
        return f"{event}\n"

    try:
        return cast(TextIO, LogOutput(stream.fileno(), describe_loss))
    except (OSError, AttributeError):  # no file of the system, as in tests
        return stream


class LogOutput:
    """Writes lines to a descriptor without waiting for it. Structlog locks it while it writes.

    The event loop writes the log. A pipe whose reader has stopped, or a paused terminal, would block all
    clients, and a full disk or a reader that has ended would raise in the middle of the event that is logged.
    Lines that cannot be written wait for the next line, up to ``KEPT`` bytes. Further lines are dropped and
    counted; ``describe_loss`` returns the line that reports their number.
    """

    def __init__(self, descriptor: int, describe_loss: Callable[[int], str]) -> None:
        self._descriptor = descriptor
        self._describe_loss = describe_loss
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLOUT)
        self._pending = bytearray()
        self._dropped = 0  # lines

    def write(self, line: str) -> None:
        """Write a line, or keep or drop it."""
        data = line.encode("utf-8", "backslashreplace")
        if len(self._pending) + len(data) <= KEPT:
            self._pending += data
        else:
            self._dropped += 1
        self._write_pending()
        if self._dropped and not self._pending:
            self._pending += self._describe_loss(self._dropped).encode()
            self._dropped = 0
            self._write_pending()

    def flush(self) -> None:
        """Do nothing: lines are not buffered. Structlog calls this."""

    def _write_pending(self) -> None:
        """Write pieces that a pipe takes without blocking, as long as the descriptor is ready."""
        pending = self._pending
        try:
            while pending and self._poll.poll(0):
                del pending[: os.write(self._descriptor, pending[: select.PIPE_BUF])]
        except OSError:
            return  # the lines wait: space may be freed, and nothing but the log could report the error


class PlainLines:
    """Formats events as a ConsoleRenderer without colours does, in a fifth of the time: each connection logs
    two lines. Events with a traceback are left to ``renderer``.
    """

    def __init__(self, renderer: structlog.dev.ConsoleRenderer) -> None:
        self._renderer = renderer

    def __call__(self, logger: object, method: str, event: EventDict) -> str:
        if not event.keys().isdisjoint(TRACEBACKS):
            return self._renderer(logger, method, event)
        pop = event.pop
        parts = [f"{pop('timestamp')} [{pop('level'):<{LEVEL_WIDTH}}] {pop('event')!s:<{EVENT_WIDTH}}"]
        parts += [f"[{pop(name)!s}]" for name in LOGGERS if name in event]
        parts += [f"{name}={value!r}" for name, value in event.items()]
        return " ".join(parts).rstrip(" ")


def _to_json(event: EventDict, *, default: Callable[[object], object]) -> str:
    """Format a line as JSON; ``default`` converts values that JSON has no form for."""
    return json.dumps(representable(event), default=lambda value: representable(default(value)))


def _blank_credentials(_logger: object, _method: str, event: EventDict) -> EventDict:
    for name in CREDENTIALS.intersection(event):
        event[name] = "***"
    return event


class _FromStandardLibrary(logging.Handler):
    """Passes records of the standard library's logging to structlog."""

    def emit(self, record: logging.LogRecord) -> None:
        level = min(max(record.levelno // 10 * 10, logging.DEBUG), logging.CRITICAL)
        structlog.get_logger().log(level, record.getMessage(), logger=record.name, exc_info=record.exc_info)
