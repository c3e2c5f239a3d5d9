"""Description of a benchmark's load: sizes, topology, confirms, acknowledgements; plain values without I/O.

Responsible for the names of queues and exchange, the distribution of queues over publishers and consumers,
and the messages that each binding matches.
"""

import math
from dataclasses import dataclass, fields
from urllib.parse import unquote, urlsplit

from leveret.protocol.amqp.properties import PERSISTENT, TRANSIENT, Properties
from leveret.protocol.amqp.table import Table

EXCHANGES = ("default", "direct", "fanout", "topic", "headers", "selector")
PROFILES = ("celery", "pika", "masstransit", "spring")  # see ``profiles``
RAGGED, VARIED, SAME = KINDS = ("ragged", "varied", "same")  # see ``traffic``
STAMP = 8  # bytes at the start of a body: time of publishing, in ns of the monotonic clock
SMALLEST_STAMPED = STAMP + 1  # the last byte of a body is the low byte of its number
BLOCK = 256  # publishes after which the low bytes of the numbers repeat
SPREAD = 4 * BLOCK  # maximum number of routing keys that are published in turn
CHANNELS = 255  # per connection, so that the low byte of their numbers identifies them
SAMPLED = 64  # one message of this many has a timestamp if there are too many for all to have one
MARK = b"@" * 8  # placeholder of the number in a routing key that occurs once


class BenchError(Exception):
    """Failure of a benchmark: the broker refused, stalled, lost or changed something, or the load is
    invalid.
    """


@dataclass(frozen=True, slots=True)
class BenchTarget:
    """Address of a broker, with user and password."""

    host: str
    port: int = 5672
    user: str = "guest"
    password: str = "guest"
    vhost: str = "/"

    @property
    def address(self) -> str:
        """Return host and port, without the password."""
        return f"{self.host}:{self.port}"

    @classmethod
    def parse(cls, url: str) -> "BenchTarget":
        """Parse ``amqp://user:password@host:port/vhost``, with RabbitMQ's defaults. Raises BenchError."""
        try:
            parts = urlsplit(url)
            port = parts.port or 5672
        except ValueError:  # the exception's text may hold the password, as the URL does
            raise BenchError("the host or the port in the URL is malformed") from None
        if parts.scheme != "amqp" or not parts.hostname:
            raise BenchError("the URL of the broker is amqp://USER:PASSWORD@HOST:PORT/VHOST")
        user, password = unquote(parts.username or "guest"), unquote(parts.password or "guest")
        return cls(parts.hostname, port, user, password, unquote(parts.path[1:]) or "/")


@dataclass(frozen=True, slots=True)
class Load:
    """Bodies of ``size`` bytes to ``queues`` queues. Publishers and consumers are connections.

    Publishing: ``persistent`` messages go to durable queues, others to transient ones. ``window`` is the most
    unconfirmed messages of a publisher for each queue or exchange (0: no confirms), ``rate`` the messages a
    second of all publishers together (0: as many as the broker takes). Without a window ``backlog`` is the
    most messages that wait in the broker. ``count`` is the number of messages for each queue or exchange of a
    publisher (infinite: until the time is over).

    Consuming: ``ack`` is the number of deliveries for each acknowledgement (0: automatic acknowledgement).
    ``processes`` is the number of processes of each side.

    Topology: ``bindings`` are spread over the queues (0: one each). With ``new_keys`` every message to a
    topic exchange has a routing key of its own. The exchange ``selector`` is a fanout exchange whose bindings
    have an ``x-selector``, which leveret alone knows.

    Messages: ``kind`` says how much they differ (see ``traffic``); they are drawn with ``seed``. With a
    ``profile`` they are those of a client, with the client's sizes.
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
    kind: str = RAGGED
    profile: str = ""
    seed: int = 1

    def check(self) -> None:
        """Raise BenchError for an invalid load."""
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, int | float) and value < 0:
                raise BenchError(f"{field.name} {value}: the value must not be below 0")
        if self.exchange not in EXCHANGES:
            raise BenchError(f"exchange {self.exchange}: must be one of {', '.join(EXCHANGES)}")
        if self.kind not in KINDS:
            raise BenchError(f"kind {self.kind}: must be one of {', '.join(KINDS)}")
        if self.profile and self.profile not in PROFILES:
            raise BenchError(f"profile {self.profile}: must be one of {', '.join(PROFILES)}")
        if self.profile and self.kind != RAGGED:
            raise BenchError(f"the messages of a profile differ as they are: kind {self.kind} has no effect")
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
            raise BenchError("--new-keys needs --exchange topic")
        if self.ack > self.prefetch > 0:
            raise BenchError(
                f"acknowledging every {self.ack} with a prefetch of {self.prefetch} never acknowledges"
            )

    # -- topology ------------------------------------------------------------------------------------------

    @property
    def exchange_name(self) -> str:
        """Return the name of the exchange; "" for the default exchange."""
        return "" if self.exchange == "default" else self.prefix

    def queue_names(self) -> list[str]:
        """Return the names of the queues, which are equally long."""
        width = len(str(self.queues - 1))
        return [f"{self.prefix}-{number:0{width}}" for number in range(self.queues)]

    @property
    def exchange_type(self) -> str:
        """Return the type to declare the exchange with."""
        return "fanout" if self.exchange == "selector" else self.exchange

    @property
    def copies(self) -> int:
        """Return the number of queues that get each message."""
        return self.queues if self.exchange == "fanout" else 1

    def bound(self) -> list[tuple[int, str, Table]]:
        """Return the bindings: number of the queue, binding key and arguments."""
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
            elif self.exchange == "selector":
                arguments = {"x-selector": f"number = {number} AND kind = 'order'"}
            else:
                arguments = {"x-match": "all", "number": number, "kind": "order"}
            made.append((number % self.queues, key, arguments))
        return made

    @property
    def _bindings(self) -> int:
        return self.bindings or self.queues

    def routes(self) -> list[tuple[str, Properties]]:
        """Return the routing keys and properties that are published in turn to an exchange, each matching one
        binding. A key that occurs once has the eight bytes of ``MARK`` in place of its number.
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
            if self.exchange in {"headers", "selector"}:
                headers: Table = {"number": number, "kind": "order"}
                made.append(("", Properties(headers=headers, delivery_mode=mode)))
                continue
            key = _word(number)
            if self.exchange == "topic":
                key += ".europe." + (f"{index:04}" + MARK.decode() if self.new_keys else "paid")
            made.append((key, Properties(delivery_mode=mode)))
        return made

    # -- distribution over publishers and consumers --------------------------------------------------------

    def publishes_to(self) -> list[list[str]]:
        """Return the queues of each publisher, by channel from 1 on; for an exchange one with an empty
        name.
        """
        if self.exchange != "default":
            return [[""] for _ in range(self.publishers)]
        return _spread(self.queue_names(), self.publishers)

    def consumes_from(self) -> list[list[str]]:
        """Return the queues of each consumer, by channel from 1 on."""
        return _spread(self.queue_names(), self.consumers)

    @property
    def ordered(self) -> bool:
        """Return True if each queue has one publisher, one consumer and all messages of that publisher: then
        they arrive in the order of their numbers.
        """
        alone = self.consumers <= self.queues
        if self.exchange == "default":
            return alone and self.publishers <= self.queues
        return alone and self.publishers == 1 and (self.exchange == "fanout" or self.queues == 1)

    @property
    def equally_long(self) -> bool:
        """Return True if all messages have the same length."""
        return self.kind != RAGGED

    @property
    def stamped(self) -> int:
        """Return the interval of messages with a timestamp (1: every message); 0 if none has one."""
        if self.size < SMALLEST_STAMPED:
            return 0
        if self.rate or 0 < self.window <= SAMPLED:
            return 1
        return SAMPLED if self.ordered else 0

    @property
    def without_stamps(self) -> str:
        """Return why no message has a timestamp, so that no latency is measured; "" if some have one."""
        if self.stamped:
            return ""
        if self.size < SMALLEST_STAMPED:
            return f"not measured: a body needs {SMALLEST_STAMPED} bytes for it"
        return "not measured: messages of several publishers or queues come in no order; use --rate"

    def expected(self, sent: int) -> int:
        """Return the number of deliveries that result from ``sent`` publishes."""
        return sent * self.copies


def _spread(names: list[str], connections: int) -> list[list[str]]:
    """Distribute queues over connections; with more connections than queues several share a queue."""
    if connections > len(names):
        return [[names[number % len(names)]] for number in range(connections)]
    return [names[number::connections] for number in range(connections)]


def _word(number: int) -> str:
    return f"k{number:07}"
