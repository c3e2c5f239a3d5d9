"""Headers exchanges: x-match in all its forms, and which values are equal."""

from conformance.differential.play import Area
from conformance.differential.tables import Typed
from conformance.differential.words import exchange, publish, queue
from leveret.protocol.amqp import methods as m

AREA = Area("headers")

MESSAGES = {
    "none": None,
    "empty": {},
    "a": {"a": 1},
    "b": {"b": 2},
    "both": {"a": 1, "b": 2},
    "more": {"a": 1, "b": 2, "c": 3},
    "wrong": {"a": 2, "b": 1},
    "half": {"a": 1, "b": 1},
    "text": {"a": "1", "b": "2"},
    "x": {"a": 1, "b": 2, "x-c": 3},
}


@AREA.cases(
    {
        "all": {"x-match": "all", "a": 1, "b": 2},
        "any": {"x-match": "any", "a": 1, "b": 2},
        "default": {"a": 1, "b": 2},
        "all-with-x": {"x-match": "all-with-x", "a": 1, "x-c": 3},
        "any-with-x": {"x-match": "any-with-x", "x-c": 3, "b": 5},
        "all but x": {"x-match": "all", "a": 1, "x-c": 4},
        "any but x": {"x-match": "any", "x-c": 3},
        "all of none": {"x-match": "all"},
        "any of none": {"x-match": "any"},
        "nothing": {},
        "void": {"x-match": "all", "a": None},
        "void any": {"x-match": "any", "a": None, "b": 9},
    }
)
def match(p, arguments):
    a = p.connect()
    a.send(exchange(kind="headers"), queue(), m.QueueBind("q", "x", "", False, arguments))
    a.send(m.BasicConsume("q", "t", no_ack=True))
    for name, given in MESSAGES.items():
        a.send(publish("", name, exchange="x", **({} if given is None else {"headers": given})))


VALUES = {
    "int": 1,
    "long": Typed("l", 1),
    "byte": Typed("b", 1),
    "short": Typed("s", 1),
    "true": True,
    "float": 1.0,
    "text": "1",
    "bytes": b"1",
    "timestamp": Typed("T", 1),
    "void": None,
    "array": [1],
    "table": {"a": 1},
    "other array": [2],
}


@AREA.cases(VALUES)
def equal_values(p, value):
    """A binding with one value: which types of the same value match?"""
    a = p.connect()
    a.send(exchange(kind="headers"), queue(), m.QueueBind("q", "x", "", False, {"a": value}))
    a.send(m.BasicConsume("q", "t", no_ack=True))
    for name, other in VALUES.items():
        a.send(publish("", name, exchange="x", headers={"a": other}))


@AREA.cases({"number": 1, "text": "foo", "void": None, "capital": "ALL", "true": True})
def invalid_x_match(p, value):
    a = p.connect()
    a.send(queue())
    a.send(m.QueueBind("q", "amq.headers", "", False, {"x-match": value}))


@AREA.scenario
def keys_do_not_matter(p):
    a = p.connect()
    a.send(queue(), m.QueueBind("q", "amq.match", "k", False, {"a": 1}))
    a.send(publish("other", "1", exchange="amq.match", headers={"a": 1}))
    a.send(m.BasicGet("q", True))


@AREA.scenario
def of_a_repeated_header_the_first_counts(p):
    a = p.connect()
    a.send(queue(), m.QueueBind("q", "amq.headers", "", False, {"a": 1}))
    twice = Typed("F", b"\x00\x00\x00\x0e\x01aI\x00\x00\x00\x01\x01aI\x00\x00\x00\x02")
    a.send(publish("", "1", exchange="amq.headers", headers={"a": 1, "nested": twice}))
    a.send(m.BasicGet("q", True))


@AREA.scenario
def names_are_compared_exactly(p):
    a = p.connect()
    a.send(queue(), m.QueueBind("q", "amq.headers", "", False, {"Key": "v"}))
    for name in ("Key", "key", "KEY"):
        a.send(publish("", name, exchange="amq.headers", headers={name: "v"}))
    a.send(m.BasicGet("q", True), m.BasicGet("q", True))


@AREA.scenario
def unbinding_by_arguments(p):
    a = p.connect()
    a.send(queue(), m.QueueBind("q", "amq.headers", "", False, {"a": 1}))
    a.send(m.QueueBind("q", "amq.headers", "", False, {"b": 1}))
    a.send(m.QueueUnbind("q", "amq.headers", "", {"a": 1}))
    a.send(publish("", "a", exchange="amq.headers", headers={"a": 1}))
    a.send(publish("", "b", exchange="amq.headers", headers={"b": 1}))
    a.send(m.BasicGet("q", True), m.BasicGet("q", True))
