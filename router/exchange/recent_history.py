"""The recent-history exchange of RabbitMQ's plugin: a fanout that gives a new queue the latest messages.

Keeps as many messages as the argument ``x-recent-history-length`` says, 20 unless given, in memory alone. A
message whose header ``x-recent-history-no-store`` is true is routed and not kept. Who binds a queue hands
it ``history()``.
"""

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

from protocol.errors import PreconditionFailed
from router.exchange.base import Binding, Exchange
from router.terms import is_integer, term

if TYPE_CHECKING:
    from protocol.amqp.message import Message

LENGTH = "x-recent-history-length"
NO_STORE = "x-recent-history-no-store"
DEFAULT_LENGTH = 20  # messages


class RecentHistoryExchange(Exchange):
    """Every binding matches, and the messages asked about are remembered."""

    type = "x-recent-history"
    by_key = False

    def _prepare(self) -> None:
        length = self.arguments.get(LENGTH, DEFAULT_LENGTH)
        if not is_integer(length) or length < 1:
            raise PreconditionFailed(
                f"Invalid argument {term(length)}, '{LENGTH}' must be a positive integer"
            )
        self._history: deque[Message] = deque(maxlen=length)

    def match(self, routing_key: str, message: "Message") -> tuple[Binding, ...]:
        if message.headers.get(NO_STORE) is not True:
            self._history.append(message)
        return self.snapshot()

    def history(self) -> Sequence["Message"]:
        return tuple(self._history)
