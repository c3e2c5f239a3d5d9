"""What users may do: configure, write and read, by every method; topic permissions."""

from conformance.differential.play import Area
from conformance.differential.words import bind, e2e, exchange, publish, queue
from leveret.protocol.amqp import methods as m

AREA = Area("permissions")

NOBODY = {"nobody": ("^$", "^$", "^$")}
METHODS = {
    "queue.declare": queue("new"),
    "queue.declare passive": queue(passive=True),
    "queue.delete": m.QueueDelete("q"),
    "queue.purge": m.QueuePurge("q"),
    "queue.bind": bind(),
    "queue.unbind": m.QueueUnbind("q", "x"),
    "exchange.declare": exchange("new"),
    "exchange.declare passive": exchange(passive=True),
    "exchange.delete": m.ExchangeDelete("x"),
    "exchange.bind": e2e("x", "y"),
    "exchange.unbind": m.ExchangeUnbind("x", "y"),
    "basic.publish": publish("k", "1", exchange="x"),
    "basic.publish default": publish("q", "1"),
    "basic.consume": m.BasicConsume("q", "t"),
    "basic.get": m.BasicGet("q"),
    "dead letters": queue("new", x_dead_letter_exchange="x"),
    "alternate": exchange("new", alternate_exchange="x"),
    "server-named": m.QueueDeclare(""),
    "missing queue": m.QueueDeclare("nope", passive=True),
    "missing exchange": publish("k", "1", exchange="nope"),
}


def asked(p, user, method):
    a = p.connect()
    a.send(queue(), exchange(), exchange("y"))
    b = p.connect(user=user)
    b.send(method)
    b.send(m.ChannelOpen()) if any(isinstance(each, m.ChannelClose) for each in b.peer.received) else None
    b.send(m.BasicQos())


@AREA.cases(METHODS, permissions=NOBODY)
def of_nobody(p, method):
    asked(p, "nobody", method)


@AREA.cases(METHODS, permissions={"configurer": (".*", "^$", "^$")})
def of_who_may_configure(p, method):
    asked(p, "configurer", method)


@AREA.cases(METHODS, permissions={"writer": ("^$", ".*", "^$")})
def of_who_may_write(p, method):
    asked(p, "writer", method)


@AREA.cases(METHODS, permissions={"reader": ("^$", "^$", ".*")})
def of_who_may_read(p, method):
    asked(p, "reader", method)


@AREA.cases(
    {"own": queue("own.q"), "other": queue("other.q"), "made": m.QueueDeclare("")},
    permissions={"owner": ("^own\\.", "", "")},
)
def patterns(p, method):
    p.connect(user="owner").send(method)


@AREA.needing(permissions={"anchored": ("q", "q", "q")})
def patterns_are_searched_for(p):
    a = p.connect(user="anchored")
    a.send(queue("a q b"))
    a.send(queue("nothing"))


@AREA.cases(
    {"allowed": "a.b", "other": "b.a"},
    permissions={"topical": (".*", ".*", ".*")},
    topic_permissions={"topical": ("amq.topic", "^a\\.", "^a\\.")},
)
def topic_permissions(p, key):
    a = p.connect(user="topical")
    a.send(queue(), publish(key, "1", exchange="amq.topic"))
    a.send(m.BasicQos())


@AREA.cases(
    {"allowed": "a.b", "other": "b.a", "wild": "#"},
    permissions={"topical": (".*", ".*", ".*")},
    topic_permissions={"topical": ("amq.topic", "^a\\.", "^a\\.")},
)
def topic_permissions_of_bindings(p, key):
    a = p.connect(user="topical")
    a.send(queue(), bind("q", "amq.topic", key))


@AREA.needing(permissions={"writer": ("^$", ".*", "^$")})
def a_refused_publish_is_not_confirmed(p):
    a = p.connect()
    a.send(queue())
    b = p.connect(user="writer")
    b.send(m.ConfirmSelect())
    b.send(publish("q", "1"), publish("k", "2", exchange="nope"))
    a.send(queue(passive=True))
