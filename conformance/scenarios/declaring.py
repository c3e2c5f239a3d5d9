"""Declaring again: which property and which argument must be the same, and how the difference is told."""

from conformance.differential.play import Area
from conformance.differential.tables import Typed
from conformance.differential.words import exchange, publish, queue
from leveret.protocol.amqp import methods as m

AREA = Area("declaring")

VALUES = {
    "x-message-ttl": (1000, 2000),
    "x-expires": (60000, 70000),
    "x-max-length": (5, 6),
    "x-max-length-bytes": (500, 600),
    "x-overflow": ("reject-publish", "drop-head"),
    "x-dead-letter-exchange": ("dlx", "other"),
    "x-max-priority": (5, 6),
    "x-queue-mode": ("lazy", "default"),
    "x-single-active-consumer": (True, False),
    "x-queue-type": ("classic", "quorum"),
    "x-queue-master-locator": ("client-local", "random"),
    "x-queue-version": (1, 2),
    "x-unknown": ("a", "b"),
}


@AREA.cases(VALUES)
def the_same_again(p, values):
    name = next(key for key, value in VALUES.items() if value == values)
    a = p.connect()
    for _ in range(2):
        a.send(m.QueueDeclare("q", durable=True, arguments={name: values[0]}))


@AREA.cases(VALUES)
def another_value(p, values):
    name = next(key for key, value in VALUES.items() if value == values)
    a = p.connect()
    for value in values:
        a.send(m.QueueDeclare("q", durable=True, arguments={name: value}))


@AREA.cases(VALUES)
def without_it(p, values):
    name = next(key for key, value in VALUES.items() if value == values)
    a = p.connect()
    a.send(m.QueueDeclare("q", durable=True, arguments={name: values[0]}))
    a.send(m.QueueDeclare("q", durable=True))


@AREA.cases(VALUES)
def with_it(p, values):
    name = next(key for key, value in VALUES.items() if value == values)
    a = p.connect()
    a.send(m.QueueDeclare("q", durable=True))
    a.send(m.QueueDeclare("q", durable=True, arguments={name: values[0]}))


@AREA.cases({kind: Typed(kind, 5) for kind in "bBsuIilL"})
def equal_numbers_of_other_types(p, value):
    a = p.connect()
    a.send(queue(x_max_length=5))
    a.send(queue(x_max_length=value))


@AREA.scenario
def the_order_of_arguments_is_free(p):
    a = p.connect()
    a.send(queue(x_max_length=5, x_message_ttl=60000))
    a.send(queue(x_message_ttl=60000, x_max_length=5))


@AREA.scenario
def several_differences_tell_one(p):
    a = p.connect()
    a.send(queue(x_max_length=5, x_message_ttl=60000))
    a.send(queue(x_max_length=6, x_message_ttl=60001))


@AREA.scenario
def passive_looks_at_the_name_only(p):
    a = p.connect()
    a.send(queue(x_max_length=5))
    a.send(queue(passive=True, durable=True, auto_delete=True, x_max_length=7))


@AREA.scenario
def nowait_declares_and_refuses_alike(p):
    a = p.connect()
    a.send(queue(nowait=True))
    a.send(queue(passive=True))
    a.send(queue(nowait=True, durable=True))


@AREA.scenario
def exclusive_again_by_its_owner(p):
    a = p.connect(channels=2)
    a.send(queue(exclusive=True))
    a.send(queue(exclusive=True), channel=2)
    a.send(queue(passive=True), channel=2)


@AREA.scenario
def counts_in_declare_ok(p):
    a = p.connect()
    a.send(queue())
    a.send(publish("q", "1"), publish("q", "2"))
    a.send(m.BasicConsume("q", "t"))
    a.send(queue())


@AREA.cases(
    {
        "empty": "",
        "255 bytes": "q" * 255,
        "unicode": "очередь",
        "spaces": " q ",
        "slash": "a/b",
        "newlines": "a\r\nb",
        "dots": "a.#.*",
    }
)
def queue_names(p, name):
    a = p.connect()
    a.send(m.QueueDeclare(name))
    a.send(publish(name or a.peer.last(m.QueueDeclareOk).queue, "x"))
    a.send(m.BasicGet("", True))


@AREA.cases(
    {"255 bytes": "x" * 255, "unicode": "обмен", "spaces": " x ", "newlines": "a\nb", "capital": "AMQ.x"}
)
def exchange_names(p, name):
    a = p.connect()
    a.send(exchange(name), queue())
    a.send(m.QueueBind("q", name, "k"))
    a.send(publish("k", "x", exchange=name))
    a.send(m.BasicGet("q", True))


@AREA.cases(
    {
        name: name
        for name in (
            "direct",
            "fanout",
            "topic",
            "headers",
            "x-consistent-hash",
            "x-modulus-hash",
            "x-random",
        )
    }
)
def exchange_types(p, kind):
    a = p.connect()
    a.send(exchange(kind=kind, durable=True))
    a.send(exchange(kind=kind, durable=True))
    a.send(exchange(kind="direct" if kind != "direct" else "fanout", durable=True))


@AREA.cases({name: name for name in ("amq.direct", "amq.fanout", "amq.topic", "amq.headers", "amq.match")})
def the_exchanges_that_are_there(p, name):
    a = p.connect()
    a.send(exchange(name, passive=True))
    kind = {"amq.match": "headers"}.get(name, name.removeprefix("amq."))
    a.send(exchange(name, kind, durable=True))


@AREA.scenario
def the_trace_exchange_is_internal(p):
    a = p.connect()
    a.send(exchange("amq.rabbitmq.trace", passive=True))
    a.send(publish("k", exchange="amq.rabbitmq.trace"))


@AREA.scenario
def exchange_arguments_that_mean_nothing(p):
    a = p.connect()
    a.send(exchange(x_unknown=1))
    a.send(exchange(x_unknown=2))


@AREA.cases(
    {"durable": {"durable": True}, "auto_delete": {"auto_delete": True}, "internal": {"internal": True}}
)
def exchange_properties(p, different):
    a = p.connect()
    a.send(exchange())
    a.send(exchange(**different))


@AREA.scenario
def quorum_queues(p):
    a = p.connect()
    a.send(queue(durable=True, x_queue_type="quorum"))
    a.send(publish("q", "1"))
    a.send(queue(durable=True, x_queue_type="quorum"))
    a.send(m.QueueDelete("q"))


@AREA.cases(
    {
        "exclusive": {"exclusive": True},
        "auto_delete": {"auto_delete": True},
        "transient": {"durable": False},
        "priority": {"x_max_priority": 3},
        "lazy": {"x_queue_mode": "lazy"},
    }
)
def what_quorum_queues_cannot_be(p, options):
    a = p.connect()
    a.send(queue(**{"durable": True, "x_queue_type": "quorum", **options}))
