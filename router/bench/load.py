"""What is asked of a broker: sizes, topology, confirms, acknowledgements; plain values and no I/O.

Owns the names of the queues and the exchange, who publishes to which of them and who consumes from which, and
which messages a binding takes.
"""

import math
from dataclasses import dataclass, fields
from urllib.parse import unquote, urlsplit

from leveret.protocol.amqp.properties import PERSISTENT, TRANSIENT, Properties
from leveret.protocol.amqp.table import Table

EXCHANGES = ("default", "direct", "fanout", "topic", "headers")
STAMP = 8  # bytes at the start of a body: when it was published, in ns of the monotonic clock
SMALLEST_STAMPED = STAMP + 1  # the last byte of a body is the low byte of its number
BLOCK = 256  # publishes after which the low bytes of the numbers repeat
SPREAD = 4 * BLOCK  # routing keys at most that are published in turn
CHANNELS = 255  # of a connection: the low byte of their number tells them apart
SAMPLED = 64  # of so many messages one is stamped when there are too many to stamp each
MARK = b"@" * 8  # where the number of a key that occurs once goes


class BenchError(Exception):
    """The broker refused, stalled, lost or changed something, or the load makes no sense."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where the broker is and how to log in."""

    host: str
    port: int = 5672
    user: str = "guest"
    password: str = "guest"
    vhost: str = "/"

    @classmethod
    def parse(cls, url: str) -> "Target":
        """``amqp://user:password@host:port/vhost``, with RabbitMQ's defaults. Raises BenchError."""
        try:
            parts = urlsplit(url)
            port = parts.port or 5672
        except ValueError:  # whose text may hold the password, as the URL does
            raise BenchError("the host or the port in the URL is malformed") from None
        if parts.scheme != "amqp" or not parts.hostname:
            raise BenchError("the URL of the broker is amqp://USER:PASSWORD@HOST:PORT/VHOST")
        user, password = unquote(parts.username or "guest"), unquote(parts.password or "guest")
        return cls(parts.hostname, port, user, password, unquote(parts.path[1:]) or "/")


@dataclass(frozen=True, slots=True)
class Load:
    """Bodies of ``size`` bytes to ``queues`` queues. Publishers and consumers are connections.

    ``persistent`` messages go to durable queues, others to transient ones. ``window`` bounds what each
    queue's (or exchange's) publisher has unconfirmed (0: no confirms), ``rate`` is in messages a second of
    all publishers together (0: as many as the broker takes), ``ack`` 0 for automatic acknowledgement, else
    one for so many deliveries. ``backlog`` bounds what may wait in the broker where nothing else does.
    ``bindings`` are spread over the queues (0: one each); ``new_keys`` has every message of a topic exchange
    carry a routing key of its own. ``processes`` is how many each side has, ``count`` how many messages each
    publisher's queue or exchange gets (infinite: until the time is over).
    """

    size: int = 100
    persistent: bool = False
    window: int = 0
    rate: float = 0.0
    publishers: int = 1
    consumers: int = 1
    processes: int = 1
    queues: int = 1
    exchange: str = "default"
    bindings: int = 0
    new_keys: bool = False
    ack: int = 0
    prefetch: int = 0
    backlog: int = 200_000
    count: float = math.inf
    prefix: str = "bench"

    def check(self) -> None:
        """Raises BenchError for what makes no sense."""
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, int | float) and value < 0:
                raise BenchError(f"{field.name} {value}: no number here is below 0")
        if self.exchange not in EXCHANGES:
            raise BenchError(f"exchange {self.exchange}: one of {', '.join(EXCHANGES)} is wanted")
        if self.size < 1:
            raise BenchError("size 0: a body needs a byte for its number")
        if not self.queues or not self.processes:
            raise BenchError("at least one queue and one process are needed")
        if not self.backlog:
            raise BenchError("backlog 0: no message may wait, so none can be sent")
        if self.consumers and self.queues > CHANNELS * self.consumers:
            raise BenchError(
                f"a consumer has {CHANNELS} queues at most: {self.queues} queues need more consumers"
            )
        if self.new_keys and self.exchange != "topic":
            raise BenchError("keys that are all new need a topic exchange")
        if self.ack > self.prefetch > 0:
            raise BenchError(
                f"acknowledging every {self.ack} with a prefetch of {self.prefetch} never begins"
            )

    # -- topology ------------------------------------------------------------------------------------------

    @property
    def exchange_name(self) -> str:
        """The exchange that is published to."""
        return "" if self.exchange == "default" else self.prefix

    def queue_names(self) -> list[str]:
        """The queues; their names are equally long."""
        width = len(str(self.queues - 1))
        return [f"{self.prefix}-{number:0{width}}" for number in range(self.queues)]

    @property
    def copies(self) -> int:
        """How many queues a message goes to."""
        return self.queues if self.exchange == "fanout" else 1

    def bound(self) -> list[tuple[int, str, Table]]:
        """The bindings: the number of the queue, binding key and arguments."""
        if self.exchange == "default":
            return []
        if self.exchange == "fanout":
            return [(number, "", {}) for number in range(self.queues)]
        made: list[tuple[int, str, Table]] = []
        for number in range(self._bindings):
            key = ""
            arguments: Table = {}
            if self.exchange == "direct":
                key = _word(number)
            elif self.exchange == "topic":
                key = f"{_word(number)}.*.#"
            else:
                arguments = {"x-match": "all", "number": number, "kind": "order"}
            made.append((number % self.queues, key, arguments))
        return made

    @property
    def _bindings(self) -> int:
        return self.bindings or self.queues

    def routes(self) -> list[tuple[str, Properties]]:
        """What is published in turn to an exchange, each for one binding: routing key and properties. A key
        that occurs once has the eight bytes of ``MARK`` where its number goes.
        """
        mode = PERSISTENT if self.persistent else TRANSIENT
        if self.exchange in {"default", "fanout"}:
            return [("", Properties(delivery_mode=mode))]
        made = []
        count = SPREAD if self.new_keys else min(SPREAD, self._bindings)
        if count > BLOCK:
            count -= count % BLOCK
        for index in range(count):
            number = index * self._bindings // count
            if self.exchange == "headers":
                headers: Table = {"number": number, "kind": "order"}
                made.append(("", Properties(headers=headers, delivery_mode=mode)))
                continue
            key = _word(number)
            if self.exchange == "topic":
                key += ".europe." + (f"{index:04}" + MARK.decode() if self.new_keys else "paid")
            made.append((key, Properties(delivery_mode=mode)))
        return made

    # -- who does what -------------------------------------------------------------------------------------

    def publishes_to(self) -> list[list[str]]:
        """The queues that each publisher publishes to, by channel from 1 on; one of no name for an
        exchange.
        """
        if self.exchange != "default":
            return [[""] for _ in range(self.publishers)]
        return _spread(self.queue_names(), self.publishers)

    def consumes_from(self) -> list[list[str]]:
        """The queues that each consumer consumes from, by channel from 1 on."""
        return _spread(self.queue_names(), self.consumers)

    @property
    def ordered(self) -> bool:
        """Whether each queue has one publisher, one consumer and all of that publisher's messages: then they
        come in the order of their numbers.
        """
        alone = self.consumers <= self.queues
        if self.exchange == "default":
            return alone and self.publishers <= self.queues
        return alone and self.publishers == 1 and (self.exchange == "fanout" or self.queues == 1)

    @property
    def stamped(self) -> int:
        """One of so many messages says when it was published; 0 where none does."""
        if self.size < SMALLEST_STAMPED:
            return 0
        if self.rate or 0 < self.window <= SAMPLED:
            return 1
        return SAMPLED if self.ordered else 0

    def expected(self, sent: int) -> int:
        """How many deliveries so many publishes make."""
        return sent * self.copies


def _spread(names: list[str], connections: int) -> list[list[str]]:
    """The queues by connection; with more connections than queues several have the same one."""
    if connections > len(names):
        return [[names[number % len(names)]] for number in range(connections)]
    return [names[number::connections] for number in range(connections)]


def _word(number: int) -> str:
    return f"k{number:07}"
