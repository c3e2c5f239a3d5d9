"""The table: every workload with what is measured of it, and the goal for its ratio."""

from dataclasses import dataclass, field, replace

from conformance.bench.measures import (
    Backlog,
    Beside,
    Connections,
    Fresh,
    Measure,
    Messages,
    Replies,
    Sizes,
)
from conformance.bench.other_measures import Streams, WebSockets
from leveret.router.bench.load import KINDS, RAGGED, SAME, VARIED, Load

DURABLE = Load(size=1024, persistent=True, window=2000, ack=100, prefetch=1000)
ONE_BY_ONE = Load(persistent=True, window=1, ack=1, prefetch=1000)


@dataclass(frozen=True)
class Row:
    """One figure of a workload. ``goal``: the ratio is to be at least that, or at most where ``less`` is
    better; None where nothing is asked. ``note`` says what the profile shows where the goal is hard to reach.
    ``section`` is the part of the page that shows the figure.
    """

    title: str
    figure: str
    unit: str
    goal: float | None = None
    less: bool = False
    note: str = ""
    section: str = RAGGED

    def met(self, ratio: float) -> bool:
        if self.goal is None:
            return True
        return ratio <= self.goal if self.less else ratio >= self.goal


ONE_TURN = (
    "One turn of the broker at a time, so its length is all that counts: the core, a pass of Trio's loop, "
    "one read and two writes. Three of four reads find the next request without waiting for it, nothing is "
    "written to disk in vain, and no hot spot is left."
)
REPLYING = (
    "Each turn answers the other client, so that a read without waiting finds nothing: a turn is one wait, "
    "one read, one write and a pass of Trio's loop, which takes a fifth of its 60 µs. Serving the other "
    "client in the same turn was tried: no better in the median."
)
OVERTAKEN = (
    "As with automatic ack, and a turn more for each ack. The ack makes the write to the journal "
    "needless that was begun when the message came, and most of the broker's CPU time goes there. "
    "Waiting 2 ms for the ack was tried: fewer writes, and no more messages a second than the noise."
)
COPYING = (
    "Bodies from 256 KiB on are read into the message's own buffer and sent from it. What is left are the "
    "kernel's copies in recv and send, and one thread makes them all, where RabbitMQ's readers and writers "
    "use both cores. More needs threads for large bodies."
)
STARTING = (
    "Imports, for nearly all of it: a third of them is Trio and attrs, which compiles the classes of Trio at "
    "every start. A start takes CPU time, so a busy machine shows in it."
)
READING = (
    "Four fifths of the core's time go to frames and headers of which each has its own length, so that none "
    "is recognized by the one before. Modules compiled with mypyc gained a fifth to a third. Reads of twice "
    "the size were tried: a tenth slower."
)
WRITING = (
    "One thread is busy all the time, 9 to 13 µs for a message: a third of that reads frames and scans "
    "headers, a quarter delivers, a tenth routes and enqueues. A read brings one message for each queue, "
    "so that little can be done for several at once. Reads of twice the size were tried: no gain."
)
GREETING = (
    "No hot spot: some 1,800 calls, nine steps of tasks, five writes and two log lines for each connection, "
    "all in one thread. Trio is a fifth of it, logging a twentieth, the login less."
)
APPENDING = (
    "The main thread takes 4 µs for a message, and is all that counts on a quiet machine; RabbitMQ's process "
    "takes three times as much CPU time as leveret's, but on both cores."
)
SHARING = "One thread serves all clients: a message waits for the turn of the flood, which takes up to 5 ms."


@dataclass(frozen=True)
class Workload:
    """``rounds`` bounds how often a long one is repeated."""

    measure: Measure
    rows: list[Row] = field(default_factory=list)
    rounds: int = 99

    def named(self, name: str) -> "Workload":
        """The same with queues of that name, which no other workload finds when this one fails."""
        measure = self.measure
        if isinstance(measure, Fresh | Streams | WebSockets):
            return self
        return replace(self, measure=replace(measure, load=replace(measure.load, prefix=name)))


# Sections of the page, in its order: kinds of traffic, and what is no throughput.
OTHER = "other"
SECTIONS = (RAGGED, OTHER, VARIED, SAME)


Goals = float | dict[str, float]  # one goal, or one for each kind of traffic


def _goal(goals: Goals, kind: str) -> float | None:
    return goals.get(kind) if isinstance(goals, dict) else goals


def _messages(
    title: str,
    goals: Goals,
    load: Load,
    unit: str = "msg/s",
    *,
    kinds: tuple[str, ...] = (RAGGED,),
    note: str = "",
) -> Workload:
    rows = [Row(title, kind, unit, _goal(goals, kind), note=note, section=kind) for kind in kinds]
    return Workload(Messages(load, kinds), rows)


TOPIC_GOALS = {RAGGED: 4.0, VARIED: 5.0}


def _topic(shown: str, bindings: int, kinds: tuple[str, ...] = (RAGGED,)) -> Workload:
    title = f"topic, {shown} bindings, keys"
    title_of_known = f"{title} of some thousands"
    rows = [Row(title_of_known, kind, "msg/s", TOPIC_GOALS.get(kind), section=kind) for kind in kinds]
    rows.append(Row(f"{title} all new", "new", "msg/s", 1.5))
    load = Load(exchange="topic", queues=10, bindings=bindings, backlog=20_000)
    return Workload(Messages(load, kinds, new_keys=True), rows, rounds=3)


def _other(title: str, figure: str, unit: str, goal: float, *, less: bool = False, note: str = "") -> Row:
    return Row(title, figure, unit, goal, less=less, note=note, section=OTHER)


WORKLOADS: dict[str, Workload] = {
    "transient": _messages(
        "1 publisher, 1 consumer, 100 B, automatic ack",
        {RAGGED: 2.5, VARIED: 4.0, SAME: 5.5},
        Load(),
        kinds=KINDS,
        note=READING,
    ),
    "single": _messages(
        "the same, each message acked",
        {RAGGED: 2.5, VARIED: 3.5, SAME: 3.4},
        Load(ack=1, prefetch=1000),
        kinds=KINDS,
    ),
    "multiple": _messages("the same, prefetch 1,000, an ack every 100", 2.0, Load(ack=100, prefetch=1000)),
    "pairs": _messages("2 publishers, 2 consumers, 16 B", 2.0, Load(size=16, publishers=2, consumers=2)),
    "durable": _messages(
        "1 KiB persistent, confirms (window 2,000), each message acked",
        {RAGGED: 4.0, VARIED: 5.0, SAME: 7.0},
        Load(1024, True, window=2000, ack=1, prefetch=1000),
        kinds=KINDS,
    ),
    "turn": _messages(
        "100 durable queues in turn, 1 KiB persistent, confirms (window 10,000), each message acked",
        {RAGGED: 4.0, VARIED: 4.5, SAME: 5.0},
        Load(1024, True, window=10_000, exchange="direct", queues=100, ack=1, prefetch=100),
        kinds=KINDS,
        note=WRITING,
    ),
    "queues": _messages(
        "100 durable queues, 1 KiB persistent, confirms (window 100 each), acks",
        5.0,
        Load(1024, True, window=100, ack=10, prefetch=100, queues=100, publishers=4, consumers=4),
        note=WRITING,
    ),
    "64k": _messages(
        "64 KiB bodies, transient", 1.2, Load(size=65536, backlog=1000), kinds=(RAGGED, SAME), note=COPYING
    ),
    "4m": _messages(
        "4 MiB bodies, transient", 1.2, Load(size=4 << 20, backlog=30), kinds=(RAGGED, SAME), note=COPYING
    ),
    "fanout-10": _messages("fanout to 10 queues", 2.0, Load(exchange="fanout", queues=10), "deliveries/s"),
    "fanout-100": _messages("fanout to 100 queues", 4.0, Load(exchange="fanout", queues=100), "deliveries/s"),
    "fanout-1000": _messages(
        "fanout to 1,000 queues", 4.0, Load(exchange="fanout", queues=1000, consumers=4), "deliveries/s"
    ),
    "topic-1k": _topic("1,000", 1000, KINDS),
    "topic-10k": _topic("10,000", 10_000),
    "topic-100k": _topic("100,000", 100_000),
    "headers": _messages(
        "headers exchange, 100 bindings",
        {RAGGED: 3.0, VARIED: 4.0},
        Load(exchange="headers", queues=10, bindings=100, backlog=20_000),
        kinds=KINDS,
    ),
    "selectors": Workload(
        Messages(Load(exchange="selector", queues=10, bindings=100, backlog=20_000), KINDS, extension=True),
        [Row("fanout exchange, 100 bindings with selectors", each, "msg/s", section=each) for each in KINDS],
    ),
    "stomp": Workload(
        WebSockets(subscribers=1, messages=30_000),
        [Row("STOMP over WebSocket, 1 publisher, 1 subscriber", "deliveries", "msg/s", 2.0)],
    ),
    "stomp-fanout": Workload(
        WebSockets(subscribers=1000, messages=50),
        [Row("STOMP over WebSocket, fan-out to 1,000 subscribers", "deliveries", "deliveries/s", 3.0)],
    ),
    "stream": Workload(
        Streams(200_000),
        [
            Row("stream: append with confirms", "append", "msg/s", 4.0, section=VARIED, note=APPENDING),
            Row("stream: one reader from the start", "one", "msg/s", 3.0, section=VARIED),
            Row("stream: ten readers at once", "ten", "msg/s", 4.0, section=VARIED),
        ],
    ),
    "one-acked": Workload(
        Messages(ONE_BY_ONE),
        [
            _other(
                "one publish at a time, persistent, confirmed; consumer acks",
                RAGGED,
                "msg/s",
                1.3,
                note=OVERTAKEN,
            )
        ],
    ),
    "one-auto": Workload(
        Messages(Load(persistent=True, window=1)),
        [
            _other(
                "one publish at a time, persistent, confirmed; automatic ack",
                RAGGED,
                "msg/s",
                1.1,
                note=ONE_TURN,
            )
        ],
    ),
    "replies": Workload(
        Replies(Load()), [_other("direct reply-to, one caller", "trips", "round trips/s", 2.0, note=REPLYING)]
    ),
    "rate": Workload(
        Messages(Load(rate=2000)),
        [
            _other("latency at 2,000 msg/s, p50", "p50", "ms", 1.0, less=True),
            _other("latency at 2,000 msg/s, p99", "p99", "ms", 0.9, less=True),
        ],
    ),
    "beside": Workload(
        Beside(Load(rate=200, prefix="light")),
        [
            _other(
                "latency of a light consumer beside a flood, p99", "p99", "ms", 0.5, less=True, note=SHARING
            )
        ],
    ),
    "backlog": Workload(
        Backlog(DURABLE, 500_000),
        [
            _other("backlog of 500,000 x 1 KiB persistent: fill", "fill", "msg/s", 3.0),
            _other("the same: drain", "drain", "msg/s", 6.0),
            _other("the same: most resident memory", "memory", "MB", 0.5, less=True),
        ],
        rounds=1,
    ),
    "fresh": Workload(
        Fresh(),
        [
            _other("process start to first channel open", "start", "ms", 0.1, less=True, note=STARTING),
            _other("resident memory, idle", "idle", "MB", 0.4, less=True),
            _other("resident memory, 1,000 idle connections", "connections", "MB", 0.4, less=True),
            _other("resident memory, 10,000 idle durable queues", "queues", "MB", 0.4, less=True),
        ],
        rounds=2,
    ),
    "connections": Workload(
        Connections(Load(publishers=4)),
        [_other("connections opened, one channel each, closed", "connections", "1/s", 3.0, note=GREETING)],
    ),
    "sizes": Workload(Sizes(Load(), (16, 100, 1024, 4096, 16384, 65536, 1 << 20)), rounds=3),
}
