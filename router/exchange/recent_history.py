"""The recent-history exchange of RabbitMQ's plugin: a fanout that sends a newly bound queue the latest
messages.

Keeps as many messages as the argument ``x-recent-history-length`` says (default 20), in memory only. A newly
bound queue gets them all in one turn, so there are never more than ``MAX_LENGTH`` messages or ``MAX_BYTES``
of frames. A message whose header ``x-recent-history-no-store`` is true is routed and not kept. The caller
that binds a queue enqueues the messages of ``history()``.
"""

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

from leveret.protocol.errors import PreconditionFailed
from leveret.router.exchange.base import Binding, Exchange
from leveret.router.values.field_values import is_integer, term

if TYPE_CHECKING:
    from leveret.protocol.amqp.message import Message

LENGTH = "x-recent-history-length"
NO_STORE = "x-recent-history-no-store"
DEFAULT_LENGTH = 20  # messages
MAX_LENGTH = 1000  # messages
MAX_BYTES = 8 << 20


class RecentHistoryExchange(Exchange):
    """Every binding matches, and the messages that were matched are kept."""

    type = "x-recent-history"
    description = "Recent History Exchange"
    by_key = False
    remembers = True

    def _prepare(self) -> None:
        length = self.arguments.get(LENGTH, DEFAULT_LENGTH)
        if not is_integer(length) or length < 1:
            raise PreconditionFailed(
                f"Invalid argument {term(length)}, '{LENGTH}' must be a positive integer"
            )
        self._length = min(length, MAX_LENGTH)
        self._history: deque[Message] = deque()
        self._bytes = 0

    def match(self, routing_key: str, message: "Message") -> tuple[Binding, ...]:
        if message.header(NO_STORE) is not True:
            self._keep(message)
        return self.snapshot()

    def history(self) -> Sequence["Message"]:
        return tuple(self._history)

    def _keep(self, message: "Message") -> None:
        """Keep a message and drop the oldest. One over ``MAX_BYTES`` leaves none, not even itself."""
        self._history.append(message)
        self._bytes += len(message.frames)
        while len(self._history) > self._length or self._bytes > MAX_BYTES:
            self._bytes -= len(self._history.popleft().frames)
