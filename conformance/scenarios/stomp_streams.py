"""Streams over STOMP: where a subscription begins, what it needs, and how it is acknowledged."""

import time

from conformance.differential.play import Area
from conformance.differential.stomp import StompConnection
from conformance.differential.words import publish, queue
from leveret.protocol.amqp import methods as m

AREA = Area("stomp_streams")
STREAM = {"x_queue_type": "stream"}
READING = {"destination": "/amq/queue/q", "id": "1", "receipt": "r"}
ACKING = {**READING, "ack": "client", "prefetch_count": "10"}


def client(p, **options):
    return StompConnection(p).open(**options)


def written(p, count=4):
    """A stream with messages that came one by one."""
    a = p.connect()
    a.send(queue(durable=True, **STREAM), m.ConfirmSelect())
    for number in range(count):
        a.send(publish("q", str(number)))
    return a


OFFSETS = (
    "first",
    "last",
    "next",
    "offset=0",
    "offset=2",
    "offset=99",
    "offset=-1",
    "offset=",
    "offset=x",
    "offset= 2",
    "timestamp=0",
    "timestamp=4000000000",
    "timestamp=x",
    "interval=1h",
    "1h",
    "2",
    "nowhere",
    "",
    "First",
)


@AREA.cases({each: each for each in OFFSETS})
def subscribing_from(p, start):
    a = written(p)
    s = client(p)
    s.send("SUBSCRIBE", **ACKING, x_stream_offset=start)
    a.send(publish("q", "4"))


@AREA.scenario
def subscribing_from_a_time_between(p):
    a = written(p, 2)
    p.wait(1500)
    between = int(time.time())
    p.wait(1500)
    a.send(publish("q", "2"))
    s = client(p)
    p.say("b> SUBSCRIBE from a time between 1 and 2")
    headers = (
        f"destination:/amq/queue/q\nid:1\nack:client\nprefetch-count:10\nx-stream-offset:timestamp={between}"
    )
    s.peer.send(f"SUBSCRIBE\n{headers}\n\n\0".encode(), 0)
    p.settle()


@AREA.scenario
def subscribing_without_an_offset(p):
    a = written(p)
    s = client(p)
    s.send("SUBSCRIBE", **ACKING)
    a.send(publish("q", "4"))


@AREA.scenario
def without_a_prefetch_count(p):
    written(p)
    client(p).send("SUBSCRIBE", **READING, ack="client", x_stream_offset="first")


@AREA.scenario
def with_automatic_acknowledgement(p):
    written(p)
    client(p).send("SUBSCRIBE", **READING, ack="auto", prefetch_count="10", x_stream_offset="first")


@AREA.cases({"client": "client", "client-individual": "client-individual"})
def acknowledging(p, mode):
    a = written(p)
    s = client(p)
    s.send("SUBSCRIBE", **READING, ack=mode, prefetch_count="2", x_stream_offset="first")
    for message in s.peer.messages[1:2]:
        s.send("ACK", id=message["ack"], receipt="acked")
    a.send(publish("q", "4"))
    s.hang_up()
    t = client(p)
    t.send("SUBSCRIBE", **ACKING, x_stream_offset="first")


@AREA.cases({"requeue": {}, "no requeue": {"requeue": "false"}})
def nacking(p, headers):
    written(p)
    s = client(p)
    s.send("SUBSCRIBE", **ACKING, x_stream_offset="first")
    for message in s.peer.messages[:1]:
        s.send("NACK", id=message["ack"], receipt="nacked", **headers)


@AREA.scenario
def unsubscribing(p):
    a = written(p)
    s = client(p)
    s.send("SUBSCRIBE", **ACKING, x_stream_offset="first")
    s.send("UNSUBSCRIBE", id="1", receipt="r2")
    a.send(publish("q", "4"))


@AREA.cases({"queue": "/queue/q", "topic": "/topic/a.*", "exchange": "/exchange/amq.topic/a.*"})
def declaring_by_subscribing(p, destination):
    s = client(p)
    s.send(
        "SUBSCRIBE",
        destination=destination,
        id="1",
        ack="client",
        prefetch_count="10",
        receipt="r",
        durable="true",
        auto_delete="false",
        x_queue_name="q",
        **STREAM,
    )
    s.send("SEND", "x", destination="/queue/q" if destination == "/queue/q" else "/topic/a.b", receipt="r2")
    p.connect().send(queue(durable=True))


@AREA.scenario
def declaring_by_sending(p):
    s = client(p)
    s.send("SEND", "x", destination="/queue/q", receipt="r", durable="true", auto_delete="false", **STREAM)
    s.send("SUBSCRIBE", **ACKING, x_stream_offset="first")


@AREA.scenario
def declaring_with_arguments(p):
    s = client(p)
    s.send(
        "SEND",
        "x",
        destination="/queue/q",
        receipt="r",
        durable="true",
        auto_delete="false",
        x_max_age="1h",
        x_max_length_bytes="1000000",
        x_stream_max_segment_size_bytes="100000",
        **STREAM,
    )
    a = p.connect()
    arguments = {
        "x_max_age": "1h",
        "x_max_length_bytes": 1_000_000,
        "x_stream_max_segment_size_bytes": 100_000,
    }
    a.send(queue(durable=True, **arguments, **STREAM))


@AREA.scenario
def sending_in_a_transaction(p):
    written(p, 1)
    s = client(p)
    s.send("SUBSCRIBE", **ACKING, x_stream_offset="first")
    s.send("BEGIN", transaction="t")
    s.send("SEND", "1", destination="/amq/queue/q", transaction="t")
    s.send("COMMIT", transaction="t", receipt="r2")


@AREA.scenario
def headers_come_back(p):
    written(p, 0)
    s = client(p)
    s.send("SEND", "x", destination="/amq/queue/q", custom="v", content_type="text/plain", receipt="r0")
    s.send("SUBSCRIBE", **ACKING, x_stream_offset="first")


@AREA.cases({"first": "first", "offset=0": "offset=0", "nowhere": "nowhere"})
def subscribing_to_a_classic_queue_from(p, start):
    p.connect().send(queue(durable=True))
    client(p).send("SUBSCRIBE", **ACKING, x_stream_offset=start)


@AREA.scenario
def the_stream_is_deleted(p):
    a = written(p)
    s = client(p)
    s.send("SUBSCRIBE", **ACKING, x_stream_offset="first")
    a.send(m.QueueDelete("q", False, False, True))
