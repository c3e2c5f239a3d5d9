"""Publishing: properties and bodies as they came, mandatory, publisher confirms, transactions."""

from conformance.differential.play import Area
from conformance.differential.tables import Typed
from conformance.differential.words import bind, exchange, gets, publish, queue, texts
from leveret.protocol.amqp import methods as m

AREA = Area("publishing")

EVERY = {
    "content_type": "text/plain",
    "content_encoding": "gzip",
    "headers": {"a": 1},
    "delivery_mode": 2,
    "priority": 3,
    "correlation_id": "c",
    "reply_to": "r",
    "expiration": "60000",
    "message_id": "m",
    "timestamp": 1234567890,
    "type": "t",
    "user_id": "guest",
    "app_id": "app",
    "cluster_id": "cluster",
}


def ready(p, **arguments):
    a = p.connect()
    a.send(queue(**arguments))
    return a


def confirming(p, **arguments):
    a = ready(p, **arguments)
    a.send(m.ConfirmSelect())
    return a


# -- properties and bodies -----------------------------------------------------------------------------------


@AREA.cases({name: {name: value} for name, value in EVERY.items()} | {"all": EVERY, "none": {}})
def properties_come_back(p, properties):
    a = ready(p)
    a.send(publish("q", "x", **properties))
    a.send(*gets("q"))


@AREA.cases(
    {
        kind: Typed(kind, value)
        for kind, value in {
            "b": -5,
            "B": 200,
            "s": -300,
            "u": 60000,
            "I": -70000,
            "i": 4000000000,
            "l": -(2**40),
            "L": 2**40,
            "f": 0.5,
            "d": 0.1,
            "T": 1234567890,
            "t": True,
        }.items()
    }
    | {
        "void": None,
        "text": "größe",
        "bytes": b"\0\xff",
        "array": [1, "a", [None]],
        "table": {"a": {"b": {"c": 1}}},
        "decimal": Typed("D", b"\x02\x00\x00\x00\x05"),
        "empty text": "",
        "empty table": {},
    }
)
def header_types_survive(p, value):
    a = ready(p)
    a.send(publish("q", "x", headers={"h": value}))
    a.send(*gets("q"))


@AREA.cases(
    {
        "priority 255": {"priority": 255},
        "timestamp 0": {"timestamp": 0},
        "empty texts": {"content_type": "", "type": ""},
        "long text": {"correlation_id": "c" * 255},
        "unicode": {"app_id": "größe"},
        "largest timestamp": {"timestamp": 2**63},
    }
)
def property_values_at_the_edges(p, properties):
    a = ready(p)
    a.send(publish("q", "x", **properties))
    a.send(*gets("q"))


@AREA.cases({str(size): size for size in (0, 1, 4088, 131064, 131065, 500_000)})
def bodies_of_any_size(p, size):
    a = ready(p)
    a.send(publish("q", bytes(range(256)) * (size // 256) + b"x" * (size % 256)))
    a.send(*gets("q"))


@AREA.cases({name: name for name in ("guest", "other", "")})
def user_id(p, name):
    a = ready(p)
    a.send(publish("q", "x", user_id=name))
    a.send(*gets("q"))


@AREA.cases(
    {
        text or "empty": text
        for text in ("0", "1", "00100", "60000", "-1", "a", "1a", "", " 1", "1.0", "99999999999999")
    }
)
def expiration(p, text):
    a = ready(p)
    a.send(publish("q", "x", expiration=text))


@AREA.cases({str(mode): mode for mode in (0, 1, 2, 3, 255)})
def delivery_mode(p, mode):
    a = ready(p)
    a.send(publish("q", "x", delivery_mode=mode))
    a.send(queue(passive=True))


# -- mandatory -----------------------------------------------------------------------------------------------


@AREA.scenario
def mandatory_comes_back(p):
    a = ready(p)
    a.send(publish("nope", "x", mandatory=True, **EVERY))
    a.send(publish("q", "x", mandatory=True))


@AREA.scenario
def mandatory_to_an_exchange_without_bindings(p):
    a = ready(p)
    a.send(exchange(kind="fanout"))
    a.send(publish("k", b"x" * 200_000, exchange="x", mandatory=True))


@AREA.scenario
def not_mandatory_is_dropped(p):
    a = ready(p)
    a.send(publish("nope", "x"))


@AREA.scenario
def returns_come_in_order(p):
    a = ready(p)
    a.send(*(publish(f"nope{number}", str(number), mandatory=True) for number in range(5)))


@AREA.scenario
def mandatory_without_an_exchange(p):
    a = ready(p)
    a.send(publish("k", "x", exchange="nope", mandatory=True))


# -- confirms ------------------------------------------------------------------------------------------------


@AREA.scenario
def each_publish_is_confirmed(p):
    a = confirming(p)
    a.send(publish("q", "1"))
    a.send(publish("q", "2"), publish("nope", "3"))
    a.send(*texts("q", *range(100)))


@AREA.scenario
def confirms_count_from_the_selection(p):
    a = ready(p)
    a.send(publish("q", "1"), publish("q", "2"))
    a.send(m.ConfirmSelect())
    a.send(publish("q", "3"))


@AREA.scenario
def selecting_twice(p):
    a = confirming(p)
    a.send(publish("q", "1"))
    a.send(m.ConfirmSelect())
    a.send(publish("q", "2"))


@AREA.scenario
def selecting_without_waiting(p):
    a = ready(p)
    a.send(m.ConfirmSelect(nowait=True), publish("q", "1"))


@AREA.scenario
def the_return_comes_before_the_confirm(p):
    a = confirming(p)
    p.as_it_comes()
    a.send(publish("nope", "1", mandatory=True))
    a.send(publish("q", "2", mandatory=True))


@AREA.scenario
def confirms_are_of_their_channel(p):
    a = confirming(p).channels(2)
    a.send(m.ConfirmSelect(), channel=2)
    a.send(publish("q", "1"))
    a.send(publish("q", "2"), channel=2)
    a.send(publish("q", "3"))


@AREA.scenario
def persistent_to_a_durable_queue(p):
    a = p.connect()
    a.send(queue(durable=True), m.ConfirmSelect())
    a.send(*texts("q", *range(10), delivery_mode=2))


@AREA.scenario
def to_several_queues_is_one_confirm(p):
    a = confirming(p)
    a.send(queue("q2", durable=True), bind("q", "amq.fanout"), bind("q2", "amq.fanout"))
    a.send(publish("", "1", exchange="amq.fanout", delivery_mode=2))


@AREA.scenario
def to_a_quorum_queue(p):
    a = p.connect()
    a.send(queue(durable=True, x_queue_type="quorum"), m.ConfirmSelect())
    a.send(*texts("q", *range(5)))


@AREA.scenario
def confirmed_though_it_expires_at_once(p):
    a = confirming(p)
    a.send(publish("q", "1", expiration="0"))


@AREA.scenario
def confirmed_though_the_queue_is_deleted(p):
    a = confirming(p)
    a.send(publish("q", "1"), m.QueueDelete("q"))
    a.send(publish("q", "2"))


@AREA.scenario
def confirmed_when_delivered(p):
    a = confirming(p)
    a.send(m.BasicConsume("q", "t"))
    a.send(publish("q", "1"))
    a.send(m.BasicAck(1))


@AREA.scenario
def an_error_after_publishes_that_were_not_confirmed_yet(p):
    a = confirming(p)
    a.send(*texts("q", 1, 2), m.QueueDeclare("nope", passive=True))
    a.send(m.ChannelOpen(), queue(passive=True))


# -- transactions --------------------------------------------------------------------------------------------


@AREA.scenario
def commit_publishes(p):
    a = ready(p).channels(2)
    a.send(m.TxSelect())
    a.send(*texts("q", 1, 2))
    a.send(queue(passive=True), channel=2)
    a.send(m.TxCommit())
    a.send(*gets("q", count=2), channel=2)


@AREA.scenario
def rollback_forgets_publishes(p):
    a = ready(p)
    a.send(m.TxSelect())
    a.send(*texts("q", 1, 2))
    a.send(m.TxRollback())
    a.send(m.TxCommit())
    a.send(queue(passive=True))


@AREA.scenario
def commit_settles(p):
    a = ready(p)
    a.send(*texts("q", 1, 2, 3))
    a.send(m.TxSelect(), m.BasicConsume("q", "t"))
    a.send(m.BasicAck(1), m.BasicReject(2, False))
    a.send(m.TxCommit())
    a.send(m.BasicRecover(True))


@AREA.scenario
def rollback_holds_what_was_acked(p):
    a = ready(p)
    a.send(*texts("q", 1, 2))
    a.send(m.TxSelect())
    a.send(m.BasicGet("q"), m.BasicGet("q"))
    a.send(m.BasicAck(2, multiple=True))
    a.send(m.TxRollback())
    a.send(m.BasicAck(1))
    a.send(m.TxCommit())
    a.send(m.BasicAck(1))


@AREA.scenario
def a_requeue_waits_for_the_commit(p):
    a = ready(p).channels(2)
    a.send(*texts("q", 1))
    a.send(m.TxSelect())
    a.send(m.BasicGet("q"))
    a.send(m.BasicNack(1))
    a.send(m.BasicGet("q"), channel=2)
    a.send(m.TxCommit())
    a.send(m.BasicGet("q"), channel=2)


@AREA.scenario
def closing_without_a_commit(p):
    a = ready(p).channels(2)
    a.send(m.TxSelect())
    a.send(*texts("q", 1))
    a.send(m.ChannelClose(200))
    a.send(queue(passive=True), channel=2)


@AREA.scenario
def mandatory_in_a_transaction_returns_at_the_commit(p):
    a = ready(p)
    a.send(m.TxSelect())
    a.send(publish("nope", "1", mandatory=True))
    a.send(m.TxCommit())


@AREA.scenario
def declaring_is_no_part_of_a_transaction(p):
    a = ready(p).channels(2)
    a.send(m.TxSelect(), queue("q2"))
    a.send(m.TxRollback())
    a.send(queue("q2", passive=True), channel=2)


@AREA.scenario
def selecting_transactions_twice(p):
    a = ready(p)
    a.send(m.TxSelect())
    a.send(*texts("q", 1))
    a.send(m.TxSelect())
    a.send(m.TxCommit())
    a.send(queue(passive=True))


@AREA.scenario
def an_error_in_a_transaction_undoes_it(p):
    a = ready(p)
    a.send(m.TxSelect())
    a.send(*texts("q", 1))
    a.send(publish("k", "2", exchange="nope"))
    a.send(m.ChannelOpen(), queue(passive=True))
