"""Every argument with every type of value, and with numbers at the edges."""

from conformance.differential.play import Area
from conformance.differential.tables import Typed
from conformance.differential.words import bind, exchange, publish, queue
from leveret.protocol.amqp import methods as m

AREA = Area("arguments")

NUMBERS = ("x-message-ttl", "x-expires", "x-max-length", "x-max-length-bytes", "x-max-priority")
TEXTS = ("x-overflow", "x-dead-letter-exchange", "x-queue-mode", "x-queue-type", "x-queue-version")
KINDS = {
    "text": "5",
    "true": True,
    "float": 1.5,
    "short-float": Typed("f", 2.0),
    "decimal": Typed("D", b"\x01\x00\x00\x00\x05"),
    "timestamp": Typed("T", 5),
    "void": None,
    "table": {"a": 1},
    "array": [1],
    "bytes": b"5",
    "negative": -1,
    "zero": 0,
    "byte": Typed("b", 7),
    "unsigned-byte": Typed("B", 7),
    "short": Typed("s", 7),
    "long": Typed("l", 7),
    "huge": 2**62,
}


@AREA.cases({f"{name}-{kind}": (name, value) for name in NUMBERS for kind, value in KINDS.items()})
def number(p, case):
    name, value = case
    p.connect().send(m.QueueDeclare("q", durable=True, arguments={name: value}))


@AREA.cases(
    {
        f"{name}-{kind}": (name, KINDS[kind])
        for name in TEXTS
        for kind in ("text", "true", "zero", "void", "array")
    }
)
def text(p, case):
    name, value = case
    p.connect().send(m.QueueDeclare("q", durable=True, arguments={name: value}))


@AREA.cases({kind: KINDS[kind] for kind in ("text", "true", "zero", "void")})
def single_active_consumer(p, value):
    p.connect().send(queue(x_single_active_consumer=value))


@AREA.cases(
    {
        "ttl": {"x_message_ttl": 315360000000},
        "ttl over": {"x_message_ttl": 315360000001},
        "expires": {"x_expires": 315360000000},
        "expires over": {"x_expires": 315360000001},
        "priority": {"x_max_priority": 255},
        "priority over": {"x_max_priority": 256},
        "length": {"x_max_length": 2**63 - 1},
        "length none": {"x_max_length": 0},
    }
)
def edges(p, options):
    a = p.connect()
    a.send(queue(**options))
    a.send(publish("q", "1"))
    a.send(queue(passive=True))


@AREA.cases({name: name for name in ("drop-head", "reject-publish", "reject-publish-dlx", "DROP-HEAD", "")})
def overflow(p, value):
    p.connect().send(queue(x_overflow=value))


@AREA.cases({name: name for name in ("default", "lazy", "Lazy", "")})
def queue_mode(p, value):
    p.connect().send(queue(x_queue_mode=value))


@AREA.cases({"1": 1, "2": 2, "0": 0, "3": 3})
def queue_version(p, value):
    p.connect().send(queue(x_queue_version=value))


@AREA.cases({name: name for name in ("classic", "quorum", "Classic", "nope", "")})
def queue_type(p, value):
    p.connect().send(queue(durable=True, x_queue_type=value))


@AREA.cases(
    {
        "alone": {"x_dead_letter_routing_key": "k"},
        "with exchange": {"x_dead_letter_routing_key": "k", "x_dead_letter_exchange": ""},
        "number": {"x_dead_letter_routing_key": 1, "x_dead_letter_exchange": ""},
    }
)
def dead_letter_routing_key(p, options):
    p.connect().send(queue(**options))


@AREA.scenario
def a_dead_letter_exchange_need_not_exist(p):
    a = p.connect()
    a.send(queue(x_dead_letter_exchange="nope"))
    a.send(publish("q", "1"))
    a.send(m.BasicGet("q"))
    a.send(m.BasicReject(1, False))
    a.send(queue(passive=True))


@AREA.scenario
def of_several_wrong_arguments_one_is_told(p):
    p.connect().send(queue(x_max_length=-1, x_message_ttl="a", x_overflow="nope"))


@AREA.cases({kind: value for kind, value in KINDS.items() if kind not in ("text", "bytes")})
def alternate_exchange(p, value):
    p.connect().send(exchange(alternate_exchange=value))


@AREA.cases(KINDS)
def consumer_priority(p, value):
    a = p.connect()
    a.send(queue())
    a.send(m.BasicConsume("q", "t", arguments={"x-priority": value}))


@AREA.cases(KINDS)
def unknown_arguments_of_a_queue(p, value):
    a = p.connect()
    a.send(queue(x_unknown=value))
    a.send(queue(x_unknown=value))


@AREA.cases(KINDS)
def binding_arguments(p, value):
    """Two bindings that differ in their arguments only, of which one is undone."""
    a = p.connect()
    a.send(exchange(kind="fanout"), queue(), bind(a=value), bind(a="other"))
    a.send(m.QueueUnbind("q", "x", "", {"a": value}), publish("k", "1", exchange="x"))
    a.send(m.QueueUnbind("q", "x", "", {"a": "other"}), publish("k", "2", exchange="x"))
    a.send(queue(passive=True))
