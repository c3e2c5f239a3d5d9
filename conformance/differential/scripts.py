"""Scripts that hypothesis makes up: a topology, and publishes, gets, deliveries and settlements on it.

Owns what such a script may hold, as data, and playing it. Every step means something whatever came before
it: a message is named by its place among those that are held, so that a script stays one when hypothesis
leaves a step out. To play it to two brokers and compare is the business of ``search``.
"""

from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from conformance.differential.play import Connection, Play, publish
from leveret.protocol.amqp import methods as m

QUEUES = ("q0", "q1", "q2")
EXCHANGES = ("x0", "x1")
KEYS = ("a", "a.b", "b", "")
PATTERNS = (*KEYS, "#", "a.*", "*.b", "#.b")
HEADERS = ({}, {"h": 1}, {"h": 2, "i": "x"}, {"CC": ["q1", "b"]}, {"CC": ["a"], "BCC": ["q2", "a.b"]})
MATCHES = ({}, {"h": 1}, {"x-match": "any", "h": 2, "i": "y"}, {"x-match": "any", "i": "x"})


@dataclass(frozen=True)
class Script:
    """What is declared, and what is done then."""

    declared: tuple[m.Method, ...]
    steps: tuple["Step", ...] = field(default=())


@dataclass(frozen=True)
class Step:
    """``what`` is done with ``arguments``; a settlement has the place of a message among those held."""

    what: str
    arguments: tuple[Any, ...]


def arguments() -> st.SearchStrategy[dict[str, Any]]:
    """What a queue may be like. Dead letters go to another queue or through an exchange."""
    return st.fixed_dictionaries(
        {},
        optional={
            "x-max-length": st.integers(0, 3),
            "x-overflow": st.sampled_from(("drop-head", "reject-publish", "reject-publish-dlx")),
            "x-max-priority": st.just(3),
            "x-single-active-consumer": st.just(True),
            "x-dead-letter-exchange": st.sampled_from(("", *EXCHANGES)),
        },
    )


@st.composite
def topologies(draw: st.DrawFn) -> tuple[m.Method, ...]:
    """Two exchanges and three queues, bound somehow."""
    declared: list[m.Method] = []
    for name in EXCHANGES:
        options = draw(st.sampled_from(({}, {}, {"alternate-exchange": "amq.fanout"})))
        kind = draw(st.sampled_from(("direct", "fanout", "topic", "headers")))
        declared.append(m.ExchangeDeclare(name, kind, arguments=options))
    for name in QUEUES:
        declared.append(m.QueueDeclare(name, arguments=draw(arguments())))
    for _ in range(draw(st.integers(1, 5))):
        source, key = draw(st.sampled_from((*EXCHANGES, "amq.fanout"))), draw(st.sampled_from(PATTERNS))
        match = draw(st.sampled_from(MATCHES))
        declared.append(m.QueueBind(draw(st.sampled_from(QUEUES)), source, key, False, match))
    if draw(st.booleans()):
        declared.append(m.ExchangeBind(*draw(st.permutations(EXCHANGES)), draw(st.sampled_from(PATTERNS))))
    return tuple(declared)


def steps() -> st.SearchStrategy[Step]:
    """One thing to do."""
    queues, place = st.sampled_from(QUEUES), st.integers(0, 5)
    published = st.tuples(
        st.sampled_from(("", *EXCHANGES)),
        st.sampled_from((*KEYS, *QUEUES)),
        st.sampled_from(HEADERS),
        st.sampled_from((None, 0, 1, 3, 9)),
        st.booleans(),
    )
    return st.one_of(
        st.builds(Step, st.just("publish"), published),
        st.builds(Step, st.just("publish"), published),
        st.builds(Step, st.just("get"), st.tuples(queues, st.booleans())),
        st.builds(Step, st.just("consume"), st.tuples(queues, st.integers(0, 2), st.booleans())),
        st.builds(Step, st.just("cancel"), st.tuples(place)),
        st.builds(Step, st.just("ack"), st.tuples(place, st.booleans())),
        st.builds(Step, st.just("nack"), st.tuples(place, st.booleans(), st.booleans())),
        st.builds(Step, st.just("purge"), st.tuples(queues)),
        st.builds(Step, st.just("delete"), st.tuples(queues)),
        st.builds(Step, st.just("count"), st.tuples(queues)),
    )


def scripts() -> st.SearchStrategy[Script]:
    """Any script."""
    return st.builds(Script, topologies(), st.lists(steps(), min_size=2, max_size=10).map(tuple))


def play(script: Script, p: Play) -> None:
    """Play a script: one client publishes with confirms, the other consumes and settles."""
    publisher, taker = p.connect(), p.connect()
    publisher.send(*script.declared, m.ConfirmSelect())
    taker_state = _Taker(taker)
    for number, step in enumerate(script.steps):
        if step.what == "publish":
            exchange, key, headers, priority, mandatory = step.arguments
            publisher.send(
                publish(
                    key,
                    str(number),
                    exchange=exchange,
                    mandatory=mandatory,
                    headers=headers,
                    priority=priority,
                )
            )
        else:
            taker_state.do(step)
    for name in QUEUES:
        publisher.send(m.QueueDeclare(name, passive=True))
        if any(isinstance(each, m.ChannelClose) for each in publisher.peer.received):
            publisher.peer.received.clear()
            publisher.send(m.ChannelOpen())


class _Taker:
    """The client that consumes. It settles only what it holds, as the deliveries tell."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._settled: set[int] = set()
        self._tags: list[str] = []
        self._automatic: set[str] = set()

    def do(self, step: Step) -> None:
        a = step.arguments
        match step.what:
            case "get":
                self._send(m.BasicGet(a[0], a[1]))
            case "consume":
                tag = f"t{len(self._tags)}"
                self._tags.append(tag)
                if a[2]:
                    self._automatic.add(tag)
                self._connection.send(m.BasicQos(0, a[1]))
                self._send(m.BasicConsume(a[0], tag, no_ack=a[2]))
            case "cancel" if a[0] < len(self._tags):
                self._send(m.BasicCancel(self._tags[a[0]]))
            case "purge":
                self._send(m.QueuePurge(a[0]))
            case "delete":
                self._send(m.QueueDelete(a[0]))
            case "count":
                self._send(m.QueueDeclare(a[0], passive=True))
            case "ack" | "nack":
                self._settle(step)

    def _settle(self, step: Step) -> None:
        held = [tag for tag in self._held() if tag not in self._settled]
        place, multiple, *requeue = step.arguments
        if place >= len(held):
            return
        tag = held[place]
        self._settled.update(held[: place + 1] if multiple else [tag])
        if step.what == "ack":
            self._send(m.BasicAck(tag, multiple))
        else:
            self._send(m.BasicNack(tag, multiple, requeue[0]))

    def _held(self) -> list[int]:
        """The tags of all that was delivered and is to be settled."""
        return [
            each.delivery_tag
            for each in self._connection.peer.received
            if (isinstance(each, m.BasicDeliver) and each.consumer_tag not in self._automatic)
            or isinstance(each, m.BasicGetOk)
        ]

    def _send(self, method: m.Method) -> None:
        """Send; after an error of the channel begin again on a new one."""
        peer = self._connection.peer
        if isinstance(method, m.BasicGet) and method.no_ack:
            before = len(peer.received)
            self._connection.send(method)
            for each in peer.received[before:]:
                if isinstance(each, m.BasicGetOk):
                    self._settled.add(each.delivery_tag)
        else:
            self._connection.send(method)
        if any(isinstance(each, m.ChannelClose) for each in peer.received):
            peer.received.clear()
            self._settled.clear()
            self._tags.clear()
            self._automatic.clear()
            self._connection.send(m.ChannelOpen())
