"""Policies: which one applies, to what, and what it changes."""

from conformance.differential.play import Area
from conformance.differential.words import bind, exchange, gets, publish, queue, texts
from leveret.protocol.amqp import methods as m

AREA = Area("policies")


def lengths(p, *names):
    """How many of four messages each queue keeps."""
    a = p.connect()
    for name in names:
        a.send(queue(name))
        a.send(*texts(name, 1, 2, 3, 4))
        a.send(queue(name, passive=True))


@AREA.needing(
    policies={"one": ("^a", {"max-length": 1}, "queues"), "two": ("b$", {"max-length": 2}, "queues")}
)
def patterns_decide(p):
    lengths(p, "a", "b", "c", "ba")


@AREA.needing(
    policies={"low": ("^q", {"max-length": 1}, "all", 1), "high": ("^q$", {"max-length": 2}, "all", 5)}
)
def the_highest_priority_alone_applies(p):
    lengths(p, "q", "q2")


@AREA.needing(
    policies={"x": ("^q$", {"max-length": 1}, "exchanges"), "all": ("^q$", {"max-length": 2}, "all", -1)}
)
def what_it_applies_to(p):
    lengths(p, "q")


@AREA.needing(policies={"ae": ("^x$", {"alternate-exchange": "amq.fanout"}, "exchanges")})
def an_alternate_exchange(p):
    a = p.connect()
    a.send(exchange(), queue(), bind("q", "amq.fanout"))
    a.send(publish("k", "1", exchange="x"))
    a.send(*gets("q"))


@AREA.needing(policies={"ae": ("^x$", {"alternate-exchange": "amq.fanout"}, "exchanges")})
def an_argument_wins(p):
    a = p.connect()
    a.send(exchange(alternate_exchange="amq.direct"), queue(), queue("d"), bind("q", "amq.fanout"))
    a.send(bind("d", "amq.direct", "k"))
    a.send(publish("k", "1", exchange="x"))
    a.send(*gets("q", "d"))


@AREA.needing(policies={"e": ("^q$", {"expires": 200}, "queues")})
def expiry(p):
    a = p.connect()
    a.send(queue())
    p.wait(600)
    a.send(queue(passive=True))


@AREA.needing(policies={"b": ("^q$", {"max-length-bytes": 10}, "queues")})
def bytes_of_length(p):
    a = p.connect()
    a.send(queue())
    a.send(*texts("q", "12345", "67890", "a"))
    a.send(*gets("q", count=3))


@AREA.needing(policies={"d": ("^q$", {"dead-letter-exchange": "amq.fanout"}, "queues")})
def dead_letters_keep_their_key(p):
    a = p.connect()
    a.send(queue(), queue("dead"), bind("dead", "amq.fanout"), publish("q", "1"))
    a.send(m.BasicGet("q"))
    a.send(m.BasicReject(1, False))
    a.send(*gets("dead"))


@AREA.needing(policies={"d": ("^q$", {"delivery-limit": 1}, "queues")})
def delivery_limit_of_a_quorum_queue(p):
    a = p.connect()
    a.send(queue(durable=True, x_queue_type="quorum"), publish("q", "1"))
    for tag in (1, 2):
        a.send(m.BasicGet("q"))
        a.send(m.BasicReject(tag))
        p.wait(200)
    a.send(m.BasicGet("q"))


@AREA.needing(policies={"m": ("^amq\\.gen", {"max-length": 1}, "queues")})
def made_names_are_matched_too(p):
    a = p.connect()
    a.send(m.QueueDeclare(""))
    a.send(*texts(a.peer.last(m.QueueDeclareOk).queue, 1, 2))
    a.send(m.QueueDeclare("", passive=True))
    a.send(m.ChannelOpen())


@AREA.needing(policies={"p": ("^q$", {"max-length": 1}, "queues")})
def a_policy_is_no_argument(p):
    a = p.connect()
    a.send(queue())
    a.send(queue())
    a.send(queue(x_max_length=1))
