"""The table: every workload with what is measured of it, and the goal for its ratio."""

from dataclasses import dataclass, field, replace

from conformance.bench.measures import (
    Backlog,
    Beside,
    Connections,
    Fresh,
    Keys,
    Measure,
    Messages,
    Replies,
    Sizes,
)
from leveret.router.bench.load import Load

DURABLE = Load(size=1024, persistent=True, window=2000, ack=100, prefetch=1000)
ONE_BY_ONE = Load(persistent=True, window=1, ack=1, prefetch=1000)


@dataclass(frozen=True)
class Row:
    """One figure of a workload. ``goal``: the ratio is to be at least that, or at most where ``less`` is
    better; None where nothing is asked. ``note`` says what the profile shows where the goal is hard to reach.
    """

    title: str
    figure: str
    unit: str
    goal: float | None = None
    less: bool = False
    note: str = ""

    def met(self, ratio: float) -> bool:
        if self.goal is None:
            return True
        return ratio <= self.goal if self.less else ratio >= self.goal


ONE_TURN = (
    "One turn of the broker at a time, so its length is all that counts: some 20 µs in the core, "
    "about as much in Trio's loop, and the system calls. It has no hot spot: 65 short calls. Fewer "
    "of them where a turn brings one message would help; so would a compiled core."
)
OVERTAKEN = (
    "As with automatic ack, and a turn more for each ack. The ack makes the write to the journal "
    "needless that was begun when the message came, and most of the broker's CPU time goes there. "
    "Waiting 2 ms for the ack was tried: fewer writes, and no more messages a second than the noise."
)
COPYING = (
    "Half of the time goes to the kernel's copies in recv and send, a seventh to the one copy between "
    "them, and one thread makes them all, where RabbitMQ's readers and writers use both cores. More "
    "needs threads for large bodies."
)
STARTING = (
    "Imports, for nearly all of it: code that attrs and dataclasses generate is compiled at every "
    "start. A start takes CPU time, so a busy machine shows in it."
)
WRITING = (
    "One thread is busy all the time, 16 µs for a message: an eighth of that reads frames, a sixth each "
    "publishes, delivers and packs records for the journal, a twentieth confirms. No hot spot is left; "
    "fewer objects for each message would help, and so would a compiled core."
)
GREETING = (
    "No hot spot: five turns, two tasks, a nursery and two log lines for each connection, all in one "
    "thread. Logging is a seventh of it, sending a tenth."
)


@dataclass(frozen=True)
class Workload:
    """``rounds`` bounds how often a long one is repeated."""

    measure: Measure
    rows: list[Row] = field(default_factory=list)
    rounds: int = 99

    def named(self, name: str) -> "Workload":
        """The same with queues of that name, which no other workload finds when this one fails."""
        measure = self.measure
        if isinstance(measure, Fresh):
            return self
        return replace(self, measure=replace(measure, load=replace(measure.load, prefix=name)))


def _messages(title: str, goal: float, load: Load, unit: str = "msg/s", *, note: str = "") -> Workload:
    return Workload(Messages(load), [Row(title, "deliveries", unit, goal, note=note)])


def _topic(shown: str, bindings: int) -> Workload:
    rows = [
        Row(f"topic, {shown} bindings, keys repeating", "repeating", "msg/s", 5.0),
        Row(f"topic, {shown} bindings, every key new", "new", "msg/s", 1.5),
    ]
    return Workload(
        Keys(Load(exchange="topic", queues=10, bindings=bindings, backlog=20_000)), rows, rounds=3
    )


WORKLOADS: dict[str, Workload] = {
    "transient": _messages("1 publisher, 1 consumer, 100 B, automatic ack", 2.0, Load()),
    "multiple": _messages("the same, prefetch 1,000, an ack every 100", 2.0, Load(ack=100, prefetch=1000)),
    "single": _messages("the same, each message acked singly", 1.7, Load(ack=1, prefetch=1000)),
    "pairs": _messages("2 publishers, 2 consumers, 16 B", 2.0, Load(size=16, publishers=2, consumers=2)),
    "durable": _messages("1 KiB persistent, confirms (window 2,000), acks", 4.0, DURABLE),
    "queues": _messages(
        "100 durable queues, 1 KiB persistent, confirms (window 100 each), acks",
        5.0,
        Load(1024, True, window=100, ack=10, prefetch=100, queues=100, publishers=4, consumers=4),
        note=WRITING,
    ),
    "one-acked": _messages(
        "one publish at a time, persistent, confirmed; consumer acks", 1.2, ONE_BY_ONE, note=OVERTAKEN
    ),
    "one-auto": _messages(
        "one publish at a time, persistent, confirmed; automatic ack",
        1.0,
        Load(persistent=True, window=1),
        note=ONE_TURN,
    ),
    "64k": _messages("64 KiB bodies, transient", 1.0, Load(size=65536, backlog=2000), note=COPYING),
    "4m": _messages("4 MiB bodies, transient", 1.0, Load(size=4 << 20, backlog=40), note=COPYING),
    "fanout-10": _messages("fanout to 10 queues", 2.0, Load(exchange="fanout", queues=10), "deliveries/s"),
    "fanout-100": _messages("fanout to 100 queues", 4.0, Load(exchange="fanout", queues=100), "deliveries/s"),
    "fanout-1000": _messages(
        "fanout to 1,000 queues",
        4.0,
        Load(exchange="fanout", queues=1000, consumers=4),
        "deliveries/s",
    ),
    "topic-1k": _topic("1,000", 1000),
    "topic-10k": _topic("10,000", 10_000),
    "topic-100k": _topic("100,000", 100_000),
    "headers": _messages(
        "headers exchange, 100 bindings",
        3.0,
        Load(exchange="headers", queues=10, bindings=100, backlog=20_000),
    ),
    "replies": Workload(
        Replies(Load()), [Row("direct reply-to, one caller", "trips", "round trips/s", 1.5, note=ONE_TURN)]
    ),
    "rate": Workload(
        Messages(Load(rate=2000)),
        [
            Row("latency at 2,000 msg/s, p50", "p50", "ms", 1.0, less=True),
            Row("latency at 2,000 msg/s, p99", "p99", "ms", 1.0, less=True),
        ],
    ),
    "beside": Workload(
        Beside(Load(rate=200, prefix="light")),
        [Row("latency of a light consumer beside a flood, p99", "p99", "ms", 1.0, less=True)],
    ),
    "backlog": Workload(
        Backlog(DURABLE, 1_000_000),
        [
            Row("backlog of 1,000,000 x 1 KiB persistent: fill", "fill", "msg/s", 3.0),
            Row("the same: drain", "drain", "msg/s", 3.0),
            Row("the same: most resident memory", "memory", "MB", 0.5, less=True),
        ],
        rounds=1,
    ),
    "fresh": Workload(
        Fresh(),
        [
            Row("process start to first channel open", "start", "ms", 0.1, less=True, note=STARTING),
            Row("resident memory, idle", "idle", "MB", 0.4, less=True),
            Row("resident memory, 1,000 idle connections", "connections", "MB", 0.4, less=True),
            Row("resident memory, 10,000 idle durable queues", "queues", "MB", 0.4, less=True),
        ],
        rounds=2,
    ),
    "connections": Workload(
        Connections(Load(publishers=4)),
        [Row("connections opened, one channel each, closed", "connections", "1/s", 2.0, note=GREETING)],
    ),
    "sizes": Workload(Sizes(Load(), (16, 100, 1024, 4096, 16384, 65536, 1 << 20)), rounds=3),
}
