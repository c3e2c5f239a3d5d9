"""Delay queues for retries of ``leveret work``, and the headers of messages in them.

Responsible for the names and arguments of delay queues, the headers of a message in one, and those of a
message that has failed for good. A message waits in the broker: in a queue whose messages expire after the
delay, and whose dead letters return to the original queue. There is a queue for each delay, so that no
message waits behind one with a longer delay.

Headers of a message in a delay queue: ``x-leveret-attempt`` counts the failed attempts, ``x-leveret-error``
has the last failure, and ``x-leveret-origin`` is a table of values that would be lost, or would take effect a
second time, on the way.

Source: RabbitMQ, "Dead Letter Exchanges" and "Time-To-Live and Expiration".
"""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from leveret.protocol.amqp import methods as m
from leveret.protocol.amqp.constants import SHORTSTR_MAX
from leveret.protocol.amqp.message import Message
from leveret.protocol.amqp.properties import PERSISTENT, splice_properties
from leveret.protocol.amqp.table import REMOVE, Long, Remove, Table, Timestamp, Value

ATTEMPT = "x-leveret-attempt"
ERROR = "x-leveret-error"
ORIGIN = "x-leveret-origin"
ATTEMPTS = "x-leveret-attempts"  # number of attempts, in a message that failed for good

LEASE = 86_400_000  # ms that a delay queue outlives its last use, in addition to the delay

# Headers that the broker writes when a message dies, and headers that send copies to other queues. A history
# of earlier deaths may make a broker see a cycle in the way back, and drop the message.
DEATHS = (
    "x-death",
    "x-first-death-exchange",
    "x-first-death-queue",
    "x-first-death-reason",
    "x-last-death-exchange",
    "x-last-death-queue",
    "x-last-death-reason",
)
COPIES = ("CC", "BCC")


@dataclass(frozen=True, slots=True)
class Backoff:
    """Delays after attempts, in ms: ``first``, then twice as long each time, up to ``longest``."""

    first: int
    longest: int

    def delay(self, attempt: int) -> int:
        """Return the delay after the attempt of this number, from 1."""
        return min(self.first << min(attempt - 1, 64), self.longest)

    def delays(self, retries: int) -> list[int]:
        """Return all delays that may occur, each once."""
        return list(dict.fromkeys(self.delay(attempt) for attempt in range(1, retries + 1)))


class DelayQueues:
    """The delay queues of one queue."""

    def __init__(self, queue: str) -> None:
        self._queue = queue
        longest = len(f"leveret.delay..{LEASE * 365}")
        short = len(queue.encode("utf-8", "surrogateescape")) + longest <= SHORTSTR_MAX
        shown = queue if short else sha256(queue.encode("utf-8", "surrogateescape")).hexdigest()
        self._prefix = f"leveret.delay.{shown}."

    def name(self, delay: int) -> str:
        """Return the name of the queue for a delay in ms."""
        return f"{self._prefix}{delay}"

    def declare(self, delay: int) -> m.QueueDeclare:
        """Return the declaration that creates the queue, or prolongs its life."""
        arguments: Table = {
            "x-message-ttl": delay,
            "x-expires": Long(delay + LEASE),
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": self._queue,
        }
        return m.QueueDeclare(self.name(delay), durable=True, arguments=arguments)

    def was_last_in(self, headers: Mapping[str, Value]) -> bool:
        """Return True if a message comes from one of these queues and was not dead-lettered elsewhere
        since.
        """
        deaths = headers.get("x-death")
        latest = deaths[0] if isinstance(deaths, list) and deaths else None
        return isinstance(latest, dict) and str(latest.get("queue")).startswith(self._prefix)


@dataclass(frozen=True, slots=True)
class Origin:
    """A message as it first came to the worker: without the headers that the worker wrote, and with the
    ``user_id`` and ``expiration`` that had to be removed. ``attempts`` have failed since.
    """

    message: Message
    attempts: int
    exchange: str
    routing_key: str
    headers: Table
    user_id: str | None
    expiration: str | None

    @classmethod
    def of(cls, message: Message, delays: DelayQueues) -> "Origin":
        """Restore the original state of a delivered message; a message that was published again starts with
        no attempts.
        """
        properties = message.properties
        headers = dict(properties.headers or {})
        attempts, kept = headers.pop(ATTEMPT, None), headers.pop(ORIGIN, None)
        headers.pop(ERROR, None)
        if not (
            isinstance(attempts, int)
            and isinstance(kept, dict)
            and delays.was_last_in(properties.headers or {})
        ):
            exchange, key = message.exchange, message.routing_key
            return cls(message, 0, exchange, key, headers, properties.user_id, properties.expiration)
        for name in DEATHS:
            headers.pop(name, None)
        earlier = kept.get("headers")
        return cls(
            message,
            max(attempts, 0),
            str(kept.get("exchange", "")),
            str(kept.get("routing_key", "")),
            headers | (earlier if isinstance(earlier, dict) else {}),
            _text(kept.get("user_id")),
            _text(kept.get("expiration")),
        )

    def waiting(self, failure: str) -> bytes:
        """Return the raw properties for a delay queue: persistent, and without an expiration."""
        held = {name: self.headers[name] for name in (*DEATHS, *COPIES) if name in self.headers}
        origin: Table = {"exchange": self.exchange, "routing_key": self.routing_key}
        if held:
            origin["headers"] = _lasting(held)
        for name, value in (("user_id", self.user_id), ("expiration", self.expiration)):
            if value is not None:
                origin[name] = value
        changes: dict[str, Value | Remove] = dict.fromkeys((*DEATHS, *COPIES), REMOVE)
        changes |= {ATTEMPT: self.attempts + 1, ORIGIN: origin, ERROR: failure}
        return _spliced(self.message, changes)

    def dead(self, queue: str, failure: str, wall: int) -> bytes:
        """Return the raw properties of the dead letter, as a broker writes them for a rejected message.

        ``wall``: seconds since 1970.
        """
        copies = self.headers.get("CC")
        keys: list[Value] = [self.routing_key, *(copies if isinstance(copies, list) else ())]
        death: Table = {
            "count": Long(1),
            "reason": "rejected",
            "queue": queue,
            "time": Timestamp(wall),
            "exchange": self.exchange,
            "routing-keys": keys,
        }
        if self.expiration is not None:
            death["original-expiration"] = self.expiration
        earlier = self.headers.get("x-death")
        others: list[Value] = []
        for each in earlier if isinstance(earlier, list) else []:
            if isinstance(each, dict) and (each.get("queue"), each.get("reason")) == (queue, "rejected"):
                count = each.get("count")
                death["count"] = Long(1 + count) if isinstance(count, int) else Long(1)
            else:
                others.append(each)
        changes: dict[str, Value | Remove] = dict.fromkeys((*DEATHS, *COPIES, ATTEMPT, ORIGIN), REMOVE)
        known = {name: self.headers[name] for name in DEATHS if name in self.headers}
        said: Table = {"exchange": self.exchange, "queue": queue, "reason": "rejected"}
        first: Table = {f"x-first-death-{name}": value for name, value in said.items()}
        last: Table = {f"x-last-death-{name}": value for name, value in said.items()}
        changes |= first | known | last
        changes |= {"x-death": _lasting([death, *others]), ATTEMPTS: self.attempts + 1, ERROR: failure}
        return _spliced(self.message, changes)


def _spliced(message: Message, headers: Mapping[str, Value | Remove]) -> bytes:
    return splice_properties(
        message.raw_properties, headers, delivery_mode=PERSISTENT, expiration=REMOVE, user_id=REMOVE
    )


def _text(value: Value) -> str | None:
    return value if isinstance(value, str) else None


def _lasting(value: Any) -> Any:
    """Convert the types in x-death to those that brokers expect: a count is 64 bits wide."""
    match value:
        case dict():
            return {
                name: Long(each) if name == "count" and isinstance(each, int) else _lasting(each)
                for name, each in value.items()
            }
        case list():
            return [_lasting(each) for each in value]
    return value
