"""Streams: what they are declared with, from where they are read, what settling means, what they refuse."""

import time

from conformance.differential.play import Area
from conformance.differential.tables import Typed
from conformance.differential.words import bind, exchange, gets, publish, queue
from leveret.protocol.amqp import methods as m
from leveret.protocol.amqp.table import Timestamp

AREA = Area("streams")


def stream(name="q", *, passive=False, exclusive=False, auto_delete=False, durable=True, **arguments):
    """A queue.declare of a stream."""
    return queue(
        name,
        passive=passive,
        durable=durable,
        exclusive=exclusive,
        auto_delete=auto_delete,
        x_queue_type="stream",
        **arguments,
    )


def written(p, count=5, *, prefetch=100, **arguments):
    """A stream with messages that came one by one, each a chunk of its own."""
    a = p.connect()
    a.send(stream(**arguments), m.ConfirmSelect())
    for number in range(count):
        a.send(publish("q", str(number)))
    if prefetch:
        a.send(m.BasicQos(0, prefetch))
    return a


def consume(tag="t", queue_name="q", *, no_ack=False, exclusive=False, **arguments):
    """A basic.consume; what is left over are its arguments."""
    named = {name.replace("_", "-"): value for name, value in arguments.items()}
    return m.BasicConsume(queue_name, tag, False, no_ack, exclusive, False, named)


# -- declaring -----------------------------------------------------------------------------------------------

ARGUMENTS = {
    "x-max-length-bytes": {"x_max_length_bytes": 20_000_000},
    "x-max-length-bytes of 0": {"x_max_length_bytes": 0},
    "x-max-length-bytes below 0": {"x_max_length_bytes": -1},
    "x-max-length-bytes as text": {"x_max_length_bytes": "many"},
    **{f"x-max-age of {age!r}": {"x_max_age": age} for age in ("1Y", "2M", "3D", "4h", "5m", "6s", "0s")},
    **{f"x-max-age of {age!r}": {"x_max_age": age} for age in ("1", "1w", "1d", "1H", "1.5h", "-1h", 5)},
    "x-stream-max-segment-size-bytes": {"x_stream_max_segment_size_bytes": 1_000_000},
    "x-stream-max-segment-size-bytes below 0": {"x_stream_max_segment_size_bytes": -1},
    "x-stream-max-segment-size-bytes as text": {"x_stream_max_segment_size_bytes": "1"},
    "x-queue-leader-locator": {"x_queue_leader_locator": "least-leaders"},
    "x-queue-leader-locator of another word": {"x_queue_leader_locator": "nowhere"},
    "x-initial-cluster-size": {"x_initial_cluster_size": 1},
    "x-initial-cluster-size of 0": {"x_initial_cluster_size": 0},
    "an unknown one": {"x_unknown": 1},
    "x-max-length": {"x_max_length": 10},
    "x-message-ttl": {"x_message_ttl": 1000},
    "x-expires": {"x_expires": 60_000},
    "x-max-priority": {"x_max_priority": 5},
    "x-dead-letter-exchange": {"x_dead_letter_exchange": "amq.fanout"},
    "x-dead-letter-exchange and -routing-key": {
        "x_dead_letter_exchange": "amq.fanout",
        "x_dead_letter_routing_key": "k",
    },
    "x-dead-letter-strategy": {"x_dead_letter_strategy": "at-least-once"},
    "x-overflow": {"x_overflow": "reject-publish"},
    "x-queue-mode": {"x_queue_mode": "lazy"},
    "x-single-active-consumer": {"x_single_active_consumer": True},
    "x-delivery-limit": {"x_delivery_limit": 3},
    "x-max-in-memory-length": {"x_max_in_memory_length": 3},
    "x-stream-filter-size-bytes": {"x_stream_filter_size_bytes": 32},
}


@AREA.cases(ARGUMENTS)
def declaring_with(p, arguments):
    a = p.connect()
    a.send(stream(**arguments))
    a.send(stream(**arguments))


@AREA.cases(
    {
        "transient": {"durable": False},
        "exclusive": {"exclusive": True},
        "auto-delete": {"auto_delete": True},
        "all of them": {"durable": False, "exclusive": True, "auto_delete": True},
        "server-named": {"name": ""},
    }
)
def declaring_one_that_is(p, options):
    p.connect().send(stream(**options))


@AREA.cases(
    {
        "the same": {"x_max_age": "1h"},
        "without an argument": {},
        "another age": {"x_max_age": "2h"},
        "one more": {"x_max_age": "1h", "x_max_length_bytes": 1000},
        "transient": {"x_max_age": "1h", "durable": False},
        "auto-delete": {"x_max_age": "1h", "auto_delete": True},
        "exclusive": {"x_max_age": "1h", "exclusive": True},
        "a refused argument": {"x_max_age": "1h", "x_message_ttl": 10},
    }
)
def declaring_again(p, options):
    a = p.connect()
    a.send(stream(x_max_age="1h"))
    a.send(stream(**options))


@AREA.cases({"as it is": stream(passive=True), "as a classic queue": queue(passive=True)})
def declaring_passively(p, method):
    a = p.connect()
    a.send(stream())
    a.send(method)


@AREA.cases({"a stream": "classic", "a classic queue": "stream", "a quorum queue": "quorum"})
def another_type_by_that_name(p, kind):
    a = p.connect()
    a.send(queue(durable=True, x_queue_type=kind))
    a.send(stream() if kind == "classic" else queue(durable=True))


# -- publishing ----------------------------------------------------------------------------------------------


@AREA.scenario
def routing_to_a_stream(p):
    a = p.connect()
    a.send(stream(), exchange("x", "topic"), bind("q", "x", "a.#"), m.ConfirmSelect())
    a.send(publish("a.b", "1", exchange="x"))
    a.send(publish("b", "2", exchange="x", mandatory=True))
    a.send(publish("q", "3"))
    a.send(m.BasicQos(0, 10), consume(x_stream_offset="first"))
    a.send(m.QueueUnbind("q", "x", "a.#"))
    a.send(publish("a.b", "4", exchange="x", mandatory=True))


@AREA.scenario
def what_a_delivery_tells(p):
    a = p.connect()
    a.send(stream(), m.ConfirmSelect())
    a.send(
        publish(
            "q",
            "x",
            content_type="text/plain",
            content_encoding="gzip",
            headers={"text": "v", "number": 5},
            delivery_mode=1,
            priority=3,
            correlation_id="c",
            reply_to="r",
            expiration="60000",
            message_id="m",
            type="t",
            timestamp=1_700_000_000,
            user_id="guest",
            app_id="app",
        )
    )
    a.send(publish("q", "", headers={"x-stream-offset": "mine"}))
    a.send(publish("q", "y" * 300))
    a.send(m.BasicQos(0, 10), consume(x_stream_offset="first"))


HEADERS = {
    "text": "v",
    "empty text": "",
    "long": 1 << 40,
    "octet": Typed("b", -1),
    "short": Typed("s", 2),
    "int": 5,
    "float": Typed("f", 1.5),
    "double": 1.5,
    "boolean": True,
    "timestamp": Timestamp(1_700_000_000),
    "bytes": Typed("x", b"\x00\x00\x00\x02\x01\xff"),
    "nothing": None,
    "decimal": Typed("D", b"\x01\x00\x00\x00\x0f"),
    "list": [1, "a"],
    "table": {"deep": 1},
}


@AREA.cases(HEADERS)
def a_header_that_is_a(p, value):
    a = p.connect()
    a.send(stream(), m.ConfirmSelect())
    a.send(publish("q", "x", headers={"before": "b", "h": value, "later": "l"}))
    a.send(m.BasicQos(0, 10), consume(x_stream_offset="first"))


@AREA.cases({"empty": {}, "x- names": {"x-mine": "v", "x-death": "no list"}, "a long name": {"n" * 200: "v"}})
def headers_that_are(p, headers):
    a = p.connect()
    a.send(stream(), m.ConfirmSelect())
    a.send(publish("q", "x", headers=headers))
    a.send(m.BasicQos(0, 10), consume(x_stream_offset="first"))


@AREA.cases({"binding keys": {"CC": ["r"]}, "hidden keys": {"BCC": ["r"]}})
def sent_to_more_than_one(p, headers):
    a = p.connect()
    a.send(stream(), stream("r"), m.ConfirmSelect())
    a.send(publish("q", "x", headers=headers))
    a.send(m.BasicQos(0, 10), consume(x_stream_offset="first"), consume("t2", "r", x_stream_offset="first"))


@AREA.scenario
def a_message_with_a_time_to_live_stays(p):
    a = p.connect()
    a.send(stream(), m.ConfirmSelect())
    a.send(publish("q", "1", expiration="100"))
    a.send(publish("q", "2", expiration="0"))
    p.wait(500)
    a.send(m.BasicQos(0, 10), consume(x_stream_offset="first"))


@AREA.scenario
def a_transaction(p):
    a = p.connect(channels=2)
    a.send(stream(), m.TxSelect())
    a.send(publish("q", "1"), publish("q", "2"))
    a.send(m.TxRollback())
    a.send(publish("q", "3"))
    a.send(m.TxCommit())
    a.send(m.BasicQos(0, 10), consume(x_stream_offset="first"), channel=2)


@AREA.scenario
def dead_letters_may_go_to_a_stream(p):
    a = p.connect()
    a.send(stream("dead"), queue(x_dead_letter_exchange="", x_dead_letter_routing_key="dead"))
    a.send(publish("q", "1"))
    a.send(m.BasicGet("q"))
    a.send(m.BasicReject(1, False))
    p.wait(300)
    a.send(m.BasicQos(0, 10), consume(queue_name="dead", x_stream_offset="first"))


# -- from where it is read -----------------------------------------------------------------------------------

OFFSETS = {
    "first": "first",
    "last": "last",
    "next": "next",
    "0": 0,
    "3": 3,
    "the end": 5,
    "beyond the end": 7,
    "below 0": -1,
    "3 as a short": Typed("s", 3),
    "an hour ago": "1h",
    "a second from now on": "0s",
    "years ago": "1Y",
    "another word": "nowhere",
    "no text": "",
    "a number as text": "3",
    "an interval without a unit": "1x",
    "a fraction": 1.5,
    "a boolean": True,
    "a list": [1],
    "the epoch": Timestamp(0),
    "a time far ahead": Timestamp(4_000_000_000),
}


@AREA.cases(OFFSETS)
def reading_from(p, start):
    a = written(p)
    p.wait(100)
    a.send(consume(x_stream_offset=start))
    for number in range(5, 9):
        a.send(publish("q", str(number)))


@AREA.scenario
def reading_without_an_offset(p):
    a = written(p)
    a.send(consume())
    a.send(publish("q", "5"))


@AREA.scenario
def reading_from_a_time_between(p):
    a = p.connect()
    a.send(stream(), m.ConfirmSelect(), m.BasicQos(0, 100))
    for number in range(6):
        a.send(publish("q", str(number)))
        if number == 2:
            p.wait(1500)
            between = int(time.time())
            p.wait(1500)
    p.say("a.1> basic.consume from a time between 2 and 3")
    a.peer.send([consume(x_stream_offset=Timestamp(between))], 1)
    p.settle()


@AREA.cases({"first": "first", "last": "last", "next": "next", "0": 0, "2": 2, "a time": Timestamp(0)})
def reading_an_empty_stream(p, start):
    a = written(p, 0)
    a.send(consume(x_stream_offset=start))
    for number in range(4):
        a.send(publish("q", str(number)))


@AREA.cases({"priority": {"x_priority": 5}, "unknown": {"x_unknown": 5}})
def consumer_arguments(p, arguments):
    a = written(p)
    a.send(consume(x_stream_offset="first", **arguments))


# -- how it is read ------------------------------------------------------------------------------------------


@AREA.scenario
def without_a_prefetch_count(p):
    a = written(p, prefetch=0)
    a.send(consume(x_stream_offset="first"))


@AREA.scenario
def with_a_prefetch_count_for_the_channel(p):
    a = written(p, prefetch=0)
    a.send(m.BasicQos(0, 10, True))
    a.send(consume(x_stream_offset="first"))


@AREA.scenario
def with_automatic_acknowledgement(p):
    a = written(p)
    a.send(consume(no_ack=True, x_stream_offset="first"))


@AREA.scenario
def exclusively(p):
    a = written(p)
    a.send(consume(exclusive=True, x_stream_offset="first"))
    a.send(consume("t2", x_stream_offset="first"))


@AREA.scenario
def acknowledgements_make_room(p):
    a = written(p, 6, prefetch=2)
    a.send(consume(x_stream_offset="first"))
    a.send(m.BasicAck(1))
    a.send(m.BasicAck(3, multiple=True))
    a.send(m.BasicAck(5))


@AREA.scenario
def acknowledging_what_was_acknowledged(p):
    a = written(p, 3, prefetch=2)
    a.send(consume(x_stream_offset="first"))
    a.send(m.BasicAck(1))
    a.send(m.BasicAck(1))


@AREA.cases(
    {
        "nack": m.BasicNack(1),
        "nack without requeue": m.BasicNack(1, False, False),
        "nack of several": m.BasicNack(2, True),
        "reject": m.BasicReject(1),
        "reject without requeue": m.BasicReject(1, False),
        "recover": m.BasicRecover(True),
    }
)
def settling_by(p, method):
    a = written(p, 4, prefetch=2)
    a.send(consume(x_stream_offset="first"))
    a.send(method)
    a.send(m.BasicAck(0, True))


@AREA.scenario
def everything_comes_again(p):
    a = written(p, 3, prefetch=2)
    a.send(consume(x_stream_offset="first"))
    a.send(m.BasicCancel("t"))
    a.send(consume("t2", x_stream_offset="first"))
    a.send(m.BasicAck(0, True))
    a.hang_up()
    p.wait(300)
    b = p.connect()
    b.send(m.BasicQos(0, 10), consume(x_stream_offset="first"))


@AREA.scenario
def several_readers(p):
    a = written(p, 4, prefetch=0)
    b = p.connect(channels=2)
    b.send(m.BasicQos(0, 3), consume("one", x_stream_offset="first"))
    b.send(consume("two", x_stream_offset=2))
    b.send(m.BasicQos(0, 1), channel=2)
    b.send(consume("three", x_stream_offset="next"), channel=2)
    a.send(publish("q", "4"))
    a.send(publish("q", "5"))
    b.send(m.BasicAck(1), channel=2)
    b.send(m.BasicAck(3, True))


@AREA.scenario
def cancelling_and_going_on(p):
    a = written(p, 4, prefetch=10)
    a.send(consume(x_stream_offset="first"))
    a.send(m.BasicAck(2, True))
    a.send(m.BasicCancel("t"))
    a.send(publish("q", "4"))
    a.send(m.BasicAck(0, True))
    a.send(consume(x_stream_offset=2))


@AREA.scenario
def stopping_the_flow(p):
    a = written(p, 2, prefetch=10)
    a.send(consume(x_stream_offset="first"))
    a.send(m.ChannelFlow(True))
    a.send(publish("q", "2"))


# -- what it refuses -----------------------------------------------------------------------------------------


@AREA.scenario
def getting(p):
    written(p, 1).send(*gets("q"))


@AREA.scenario
def purging(p):
    written(p, 1).send(m.QueuePurge("q"))


@AREA.scenario
def deleting_under_readers(p):
    a = written(p, 2)
    b = p.connect()
    b.send(m.BasicQos(0, 10), consume(x_stream_offset="first"))
    a.send(m.QueueDelete("q", False, False, True))
    p.wait(300)
    b.send(m.BasicAck(1))
    b.send(queue(passive=True))


@AREA.cases({"if unused": m.QueueDelete("q", True), "if empty": m.QueueDelete("q", False, True)})
def deleting_an_empty_one(p, method):
    a = p.connect()
    a.send(stream())
    a.send(method)


@AREA.scenario
def offsets_begin_anew_in_a_new_stream(p):
    a = written(p, 2)
    a.send(m.QueueDelete("q", False, False, True))
    a.send(stream())
    a.send(publish("q", "new"))
    a.send(consume(x_stream_offset="first"))


@AREA.needing(policies={"s": ("^q$", {"message-ttl": 100, "max-length": 1}, "queues")})
def policies_of_other_queues_mean_nothing(p):
    a = written(p, 3)
    p.wait(300)
    a.send(consume(x_stream_offset="first"))


@AREA.needing(policies={"s": ("^q$", {"max-age": "1h", "max-length-bytes": 1_000_000}, "queues")})
def policies_of_streams(p):
    a = written(p, 3)
    a.send(consume(x_stream_offset="first"))
