"""What a message is told to remember while it waits for another attempt, and where it waits.

Owns the names and arguments of delay queues, the headers of a message that is on its way through one, and
those of one that has failed for good. A message waits in the broker: in a queue whose messages expire after
the delay, and whose dead letters go back to where the message came from. There is a queue for each delay, so
that none waits behind one that has longer to wait.

What a message carries meanwhile: ``x-leveret-attempt`` counts the attempts that failed, ``x-leveret-error``
says how the last one did, and ``x-leveret-origin`` is a table of what would be lost, or would take effect a
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
ATTEMPTS = "x-leveret-attempts"  # of a message that failed for good: how many there were

LEASE = 86_400_000  # ms that a delay queue outlives its last use, beyond the delay itself

# Headers that the broker writes when a message dies, and those that send copies elsewhere. With the history
# of other deaths still there, a broker may take the way back for a cycle and drop the message.
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
    """Waits after attempts, in ms: ``first``, then twice as long each time, up to ``longest``."""

    first: int
    longest: int

    def delay(self, attempt: int) -> int:
        """What to wait after the attempt of this number, from 1."""
        return min(self.first << min(attempt - 1, 64), self.longest)

    def delays(self, retries: int) -> list[int]:
        """All that may be waited, each once."""
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
        """The queue in which messages wait so many ms."""
        return f"{self._prefix}{delay}"

    def declare(self, delay: int) -> m.QueueDeclare:
        """What makes it, or lets it live longer if it is there."""
        arguments: Table = {
            "x-message-ttl": delay,
            "x-expires": Long(delay + LEASE),
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": self._queue,
        }
        return m.QueueDeclare(self.name(delay), durable=True, arguments=arguments)

    def was_last_in(self, headers: Mapping[str, Value]) -> bool:
        """Whether a message has come out of one of these queues, and been nowhere else since."""
        deaths = headers.get("x-death")
        latest = deaths[0] if isinstance(deaths, list) and deaths else None
        return isinstance(latest, dict) and str(latest.get("queue")).startswith(self._prefix)


@dataclass(frozen=True, slots=True)
class Origin:
    """A message as it first came to the worker: without the headers that the worker wrote, and with the
    ``user_id`` and ``expiration`` that it cannot keep. ``attempts`` have failed since.
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
        """What a delivered message was at first; one that somebody else has sent again starts afresh."""
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
        """The raw properties to send it to a delay queue with: persistent, and with no life of its own."""
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
        """The raw properties of its dead letter, as a broker writes them for a message that was rejected.

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
    """Deaths with the types that brokers look for: a count is 64 bits wide."""
    match value:
        case dict():
            return {
                name: Long(each) if name == "count" and isinstance(each, int) else _lasting(each)
                for name, each in value.items()
            }
        case list():
            return [_lasting(each) for each in value]
    return value
