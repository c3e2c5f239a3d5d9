"""Output of the log: a file descriptor that neither blocks the broker nor raises."""

import os
import select
from collections.abc import Callable

KEPT = 1 << 18  # bytes of lines that wait for the descriptor


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
