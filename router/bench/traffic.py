"""Messages of a load: what they carry, and how much they differ from each other.

Responsible for the three kinds of traffic. ``same`` is one message over and over, which flatters any broker
that remembers what it decoded. In ``varied`` traffic each message has its own ids, timestamp and header
values, and all are equally long. In ``ragged`` traffic the lengths differ as well: keys, headers and bodies.

The messages are drawn before a measurement begins, with a fixed seed, into a pool that is published in turn.
The shapes of messages that real clients send are in ``profiles``; the bytes of publishes in ``publisher``.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from random import Random
from uuid import UUID

from leveret.protocol.amqp.properties import PERSISTENT, TRANSIENT, Properties, encode_properties
from leveret.protocol.amqp.table import Table
from leveret.router.bench.load import BLOCK, MARK, SAME, SMALLEST_STAMPED, STAMP, VARIED, Load
from leveret.router.bench.profiles import SHAPES, TASKS, uuid

POOL = 4096  # different messages that are published in turn
LARGEST_POOL = 8 << 20  # most bytes of the pool of one queue or exchange: large messages are fewer than POOL
LARGEST_POOLS = 128 << 20  # most bytes of all pools together
SMALLEST_POOL = 8  # messages in a pool, at least
OVERHEAD = 300  # bytes of a publish beside its body, about
SPREAD = 0.5  # standard deviation of the logarithm of ragged sizes
MOST = 8  # times the nominal size: the largest ragged body
NOW = 1_790_000_000  # timestamp of the first message, in seconds since 1970
REGIONS = ("europe", "africa", "canada")  # equally long
PLACES = (*REGIONS, "america", "asia", "oceania", "arctic", "antarctica")
EVENTS = ("paid", "open", "sent", "lost", "made", "kept")
MORE = ("", "", ".retry", ".partner.17", ".eu-west-1.batch")
FILLING = bytes(Random(1).choices(range(32, 127), k=1 << 12))


@dataclass(frozen=True, slots=True)
class Draft:
    """One message of a pool: routing key ("" for the name of the queue), encoded properties, and body.

    ``size`` is that of the body. ``text`` fills it, between the timestamp in the first ``STAMP`` bytes and
    the low byte of the message's number in the last one.
    """

    key: str
    properties: bytes
    size: int
    text: bytes = b"x"

    def body(self, number: int) -> bytes:
        """Return the body of the message with this number; the timestamp is left to the publisher."""
        last = bytes([number % BLOCK])
        if self.size < SMALLEST_STAMPED:
            return b"x" * (self.size - 1) + last
        length = self.size - SMALLEST_STAMPED
        text = self.text if len(self.text) >= length else self.text * (length // len(self.text) + 1)
        return b"x" * STAMP + text[:length] + last


@lru_cache(4)  # all queues of a fanout exchange get the same
def drafts(load: Load, queue: str) -> Sequence[Draft]:
    """Return the messages that are published in turn to a queue of the load, or to its exchange ("").

    Queues have different parts of the pool. Both sides of a benchmark call this and get the same messages.
    """
    pool = _pool(load)
    count = len(pool)
    if load.kind != SAME:
        lanes = load.queues if load.exchange == "default" else 1
        mean = sum(len(each.properties) + each.size for each in pool) // count + OVERHEAD // 3
        most = min(LARGEST_POOL, LARGEST_POOLS // lanes) // mean
        count = max(SMALLEST_POOL, min(count, most))
    if count > BLOCK:
        count -= count % BLOCK  # the low bytes of the numbers are the same each time then
    first = BLOCK * load.queue_names().index(queue) if queue else 0
    return [pool[(first + index) % len(pool)] for index in range(count)]


@lru_cache(4)
def body_sizes(load: Load, queue: str) -> Sequence[int]:
    """Return the bytes of the bodies that are published in turn; the parameters are those of ``drafts``."""
    return [each.size for each in drafts(load, queue)]


@lru_cache(16)
def _pool(load: Load) -> Sequence[Draft]:
    """Draw the pool of a load. One of the kind ``same`` has one message for each routing key in turn."""
    routes = load.routes()
    if load.kind == SAME:
        return [Draft(key, encode_properties(each), load.size) for key, each in routes]
    draw = Random(load.seed)
    return list(_drawn(load, draw, routes))


def _drawn(load: Load, draw: Random, routes: Sequence[tuple[str, Properties]]) -> Iterator[Draft]:
    """Draw messages that differ."""
    mode = PERSISTENT if load.persistent else TRANSIENT
    sizes = _sizes(load, draw)
    for number in range(POOL):
        key, needed = routes[number % len(routes)]
        if load.profile:
            properties, text = SHAPES[load.profile](draw)
            size = len(text) + SMALLEST_STAMPED
        else:
            properties = (_varied if load.kind == VARIED else _ragged)(draw, number)
            text, size = FILLING, next(sizes)
        if needed.headers:
            properties.headers = {**needed.headers, **(properties.headers or {})}
        properties.delivery_mode = mode
        if load.exchange == "topic":
            key = key.partition(".")[0] + "." + _event(load, draw)
            key += f".{number:04}{MARK.decode()}" if load.new_keys else ""
        elif load.exchange == "fanout":
            key = _event(load, draw)
        yield Draft(key, encode_properties(properties), size, text)


def _event(load: Load, draw: Random) -> str:
    """Return the words of a routing key that no binding has: of one length in varied traffic."""
    if load.kind == VARIED:
        return f"{draw.choice(REGIONS)}.{draw.choice(EVENTS)}"
    return f"{draw.choice(PLACES)}.{draw.choice(EVENTS)}{draw.choice(MORE)}"


def _sizes(load: Load, draw: Random) -> Iterator[int]:
    """Yield sizes of bodies: the nominal one, or log-normal ones around it for ragged traffic."""
    smallest = min(load.size, SMALLEST_STAMPED)
    while True:
        if load.kind == VARIED:
            yield load.size
        else:
            # The mean is the nominal size.
            size = load.size * draw.lognormvariate(-SPREAD * SPREAD / 2, SPREAD)
            yield max(smallest, min(math.ceil(size), MOST * load.size))


def _varied(draw: Random, number: int) -> Properties:
    """Return properties that are always equally long."""
    headers: Table = {
        "trace": f"{draw.getrandbits(128):032x}",
        "tenant": f"t{draw.randrange(10_000):04}",
        "sequence": draw.randrange(1 << 16, 1 << 24),
        "replayed": draw.random() < 0.1,
    }
    return Properties(
        content_type="application/json",
        headers=headers,
        correlation_id=uuid(draw),
        message_id=uuid(draw),
        timestamp=NOW + number // 100,
    )


def _ragged(draw: Random, number: int) -> Properties:
    """Return properties of varying lengths, with headers like Celery's."""
    own = uuid(draw)
    arguments = ", ".join(str(draw.getrandbits(draw.randrange(7, 67))) for _ in range(draw.randrange(1, 4)))
    headers: Table = {
        "lang": "py",
        "task": draw.choice(TASKS),
        "id": own,
        "parent_id": uuid(draw) if draw.random() < 0.3 else None,
        "argsrepr": f"({arguments},)",
        "retries": draw.choice((0, 0, 0, 1, 2)),
        "timelimit": [None, None],
        "origin": f"gen{draw.randrange(100, 99_999)}@worker-{draw.randrange(40)}",
    }
    return Properties(
        content_type="application/json",
        content_encoding="utf-8",
        headers=headers,
        priority=draw.choice((0, 0, 0, 5, 9)),
        correlation_id=own,
        reply_to=str(UUID(int=draw.randrange(1, 40), version=4)),
        message_id=uuid(draw),
        timestamp=NOW + number // 100,
    )
