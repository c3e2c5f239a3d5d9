"""STOMP over TCP: connecting, destinations, settling, transactions, errors, and what AMQP sees of it."""

from conformance.differential.play import Area
from conformance.differential.stomp import StompConnection
from conformance.differential.words import gets, publish, queue
from leveret.protocol.amqp import methods as m

AREA = Area("stomp")


def client(p, **options):
    return StompConnection(p).open(**options)


@AREA.cases(
    {
        "1.0": "1.0",
        "1.1": "1.1",
        "1.2": "1.2",
        "several": "1.0,1.1,1.2",
        "unknown": "9.9",
        "some known": "1.3,1.1",
    }
)
def versions(p, version):
    s = StompConnection(p)
    s.send("CONNECT", login="guest", passcode="guest", host=p.vhost, accept_version=version)


@AREA.cases({"STOMP": "STOMP", "CONNECT": "CONNECT"})
def connecting_with(p, command):
    s = StompConnection(p)
    s.send(command, login="guest", passcode="guest", host=p.vhost, accept_version="1.2")


@AREA.cases({"password": ("guest", "wrong"), "user": ("no-such-user", "guest")})
def wrong_logins(p, login):
    s = StompConnection(p)
    s.send("CONNECT", login=login[0], passcode=login[1], host=p.vhost, accept_version="1.2")
    p.wait(1000)


@AREA.scenario
def unknown_host(p):
    s = StompConnection(p)
    s.send("CONNECT", login="guest", passcode="guest", host="nope", accept_version="1.2")


@AREA.scenario
def before_connecting(p):
    StompConnection(p).send("SEND", "x", destination="/queue/q")


@AREA.cases({"0,0": "0,0", "1000,2000": "1000,2000", "0,5000": "0,5000"})
def heart_beats(p, value):
    s = StompConnection(p)
    s.send("CONNECT", login="guest", passcode="guest", host=p.vhost, accept_version="1.2", heart_beat=value)


@AREA.cases(
    {
        name: name
        for name in (
            "/queue/q",
            "/topic/a.b",
            "/exchange/amq.direct/k",
            "/exchange/amq.fanout",
            "/amq/queue/q",
            "/temp-queue/t",
            "q",
            "/nope/q",
            "/queue/",
            "/exchange/nope/k",
            "/queue/a%2Fb",
            "/topic/",
        )
    }
)
def sending_to(p, destination):
    s = client(p)
    s.send("SEND", "x", destination=destination, receipt="r")
    s.send("SEND", "y", destination="/queue/other", receipt="r2")


@AREA.cases(
    {
        name: name
        for name in (
            "/queue/q",
            "/topic/a.*",
            "/exchange/amq.direct/k",
            "/exchange/amq.fanout",
            "/amq/queue/q",
            "/temp-queue/t",
            "q",
            "/exchange/nope/k",
            "/topic/",
        )
    }
)
def subscribing_to(p, destination):
    s = client(p)
    s.send("SUBSCRIBE", destination=destination, id="1", receipt="r")
    s.send("SEND", "x", destination="/queue/q")


@AREA.scenario
def a_message_has_these_headers(p):
    s = client(p)
    s.send("SUBSCRIBE", destination="/queue/q", id="1", receipt="r")
    s.send(
        "SEND", "body", destination="/queue/q", content_type="text/plain", custom="value", correlation_id="c"
    )


@AREA.scenario
def a_topic_goes_to_all(p):
    s, t = client(p), client(p)
    s.send("SUBSCRIBE", destination="/topic/a.*", id="1", receipt="r")
    t.send("SUBSCRIBE", destination="/topic/#", id="2", receipt="r")
    s.send("SEND", "x", destination="/topic/a.b")
    s.send("SEND", "y", destination="/topic/c")


@AREA.cases({"auto": "auto", "client": "client", "client-individual": "client-individual", "nope": "nope"})
def ack_modes(p, mode):
    s = client(p)
    s.send("SEND", "1", destination="/queue/q")
    s.send("SEND", "2", destination="/queue/q")
    s.send("SUBSCRIBE", destination="/queue/q", id="1", ack=mode, receipt="r")


@AREA.cases({"client": "client", "client-individual": "client-individual"})
def acking_the_second(p, mode):
    s = client(p)
    for text in "123":
        s.send("SEND", text, destination="/queue/q")
    s.send("SUBSCRIBE", destination="/queue/q", id="1", ack=mode, receipt="r")
    s.send("ACK", id=s.peer.messages[1]["ack"], receipt="acked")
    s.hang_up()
    p.wait(300)
    p.connect().send(*gets("q", count=3))


@AREA.cases({"requeue": {}, "no requeue": {"requeue": "false"}})
def nacking(p, headers):
    s = client(p)
    s.send("SEND", "1", destination="/queue/q")
    s.send("SUBSCRIBE", destination="/queue/q", id="1", ack="client", prefetch_count="1", receipt="r")
    s.send("NACK", id=s.peer.messages[0]["ack"], receipt="nacked", **headers)


@AREA.scenario
def prefetch(p):
    s = client(p)
    for text in "123":
        s.send("SEND", text, destination="/queue/q")
    s.send("SUBSCRIBE", destination="/queue/q", id="1", ack="client", prefetch_count="1", receipt="r")
    s.send("ACK", id=s.peer.messages[0]["ack"])


@AREA.scenario
def unsubscribing(p):
    s = client(p)
    s.send("SUBSCRIBE", destination="/queue/q", id="1", receipt="r")
    s.send("UNSUBSCRIBE", id="1", receipt="r2")
    s.send("SEND", "x", destination="/queue/q", receipt="r3")


@AREA.scenario
def unsubscribing_what_was_not_subscribed(p):
    client(p).send("UNSUBSCRIBE", id="1", receipt="r")


@AREA.scenario
def subscribing_twice_with_one_id(p):
    s = client(p)
    s.send("SUBSCRIBE", destination="/queue/q", id="1", receipt="r")
    s.send("SUBSCRIBE", destination="/queue/q2", id="1", receipt="r2")


@AREA.scenario
def subscribing_without_an_id(p):
    client(p).send("SUBSCRIBE", destination="/queue/q", receipt="r")


@AREA.scenario
def a_transaction_is_committed(p):
    s = client(p)
    s.send("SUBSCRIBE", destination="/queue/q", id="1", receipt="r")
    s.send("BEGIN", transaction="t", receipt="r1")
    s.send("SEND", "x", destination="/queue/q", transaction="t")
    s.send("COMMIT", transaction="t", receipt="r2")


@AREA.scenario
def a_transaction_is_aborted(p):
    s = client(p)
    s.send("SUBSCRIBE", destination="/queue/q", id="1", receipt="r")
    s.send("BEGIN", transaction="t", receipt="r1")
    s.send("SEND", "x", destination="/queue/q", transaction="t")
    s.send("ABORT", transaction="t", receipt="r2")


@AREA.cases({"COMMIT": "COMMIT", "ABORT": "ABORT"})
def a_transaction_that_was_not_begun(p, command):
    client(p).send(command, transaction="t", receipt="r")


@AREA.scenario
def disconnecting(p):
    s = client(p)
    s.send("DISCONNECT", receipt="bye")


@AREA.cases({"unknown command": "NOPE", "lower case": "send", "CONNECT again": "CONNECT"})
def commands(p, command):
    s = client(p)
    s.send(command, login="guest", passcode="guest", accept_version="1.2", receipt="r")


@AREA.cases(
    {
        "SEND": "SEND",
        "SUBSCRIBE": "SUBSCRIBE",
        "ACK": "ACK",
        "NACK": "NACK",
        "UNSUBSCRIBE": "UNSUBSCRIBE",
        "BEGIN": "BEGIN",
        "COMMIT": "COMMIT",
    }
)
def without_the_headers_it_needs(p, command):
    client(p).send(command, receipt="r")


@AREA.cases(
    {
        "content-length": b"SEND\ndestination:/queue/q\ncontent-length:3\n\na\0b\0",
        "none": b"SEND\ndestination:/queue/q\n\nabc\0",
        "carriage returns": b"SEND\r\ndestination:/queue/q\r\n\r\nabc\0",
        "newlines between": b"\n\n\nSEND\ndestination:/queue/q\n\nabc\0\n\n",
        "escapes": b"SEND\ndestination:/queue/q\nh:a\\nb\\cc\\\\d\n\nabc\0",
        "repeated header": b"SEND\ndestination:/queue/q\nh:1\nh:2\n\nabc\0",
        "unicode": "SEND\ndestination:/queue/q\nh:größe\n\nä\0".encode(),
    }
)
def frames(p, data):
    s = client(p)
    s.send("SUBSCRIBE", destination="/queue/q", id="1", receipt="r")
    s.send_raw(data)


@AREA.scenario
def amqp_reads_what_stomp_sent(p):
    s, a = client(p), p.connect()
    s.send(
        "SEND",
        "x",
        destination="/queue/q",
        content_type="text/plain",
        persistent="true",
        priority="3",
        expiration="60000",
        reply_to="/queue/r",
        custom="v",
        receipt="r",
    )
    a.send(*gets("q"))


@AREA.scenario
def stomp_reads_what_amqp_sent(p):
    s, a = client(p), p.connect()
    s.send("SUBSCRIBE", destination="/queue/q", id="1", receipt="r")
    a.send(
        publish(
            "q",
            "x",
            content_type="text/plain",
            correlation_id="c",
            headers={"text": "v", "number": 5},
            delivery_mode=2,
            priority=3,
            message_id="m",
            app_id="app",
            type="t",
        )
    )


@AREA.scenario
def the_queue_of_a_subscription_is_durable(p):
    s, a = client(p), p.connect()
    s.send("SUBSCRIBE", destination="/queue/q", id="1", receipt="r")
    a.send(queue(passive=True))
    a.send(queue())


@AREA.scenario
def arguments_in_headers(p):
    s, a = client(p), p.connect()
    s.send(
        "SUBSCRIBE",
        destination="/queue/q",
        id="1",
        receipt="r",
        x_message_ttl="5000",
        x_max_length="5",
        durable="false",
        auto_delete="true",
    )
    a.send(queue(auto_delete=True, x_message_ttl=5000, x_max_length=5))


@AREA.cases(
    {
        "transient": {"durable": "false"},
        "transient not exclusive": {"durable": "false", "exclusive": "false"},
        "transient that stays": {"durable": "false", "auto_delete": "false"},
        "exclusive": {"exclusive": "true"},
        "auto-delete": {"auto_delete": "true"},
    }
)
def properties_in_headers(p, headers):
    s, a = client(p), p.connect()
    s.send("SUBSCRIBE", destination="/queue/q", id="1", receipt="r", **headers)
    a.send(queue(durable=headers.get("durable") != "false", auto_delete=True))
    s.send("DISCONNECT", receipt="bye")
    p.wait(200)
    p.connect().send(queue(passive=True))


@AREA.scenario
def a_durable_topic_subscription(p):
    s = client(p)
    s.send("SUBSCRIBE", destination="/topic/a", id="mine", durable="true", auto_delete="false", receipt="r")
    s.send("DISCONNECT", receipt="bye")
    p.wait(200)
    t = client(p)
    t.send("SEND", "while away", destination="/topic/a", receipt="r")
    t.send("SUBSCRIBE", destination="/topic/a", id="mine", durable="true", auto_delete="false", receipt="r2")


@AREA.scenario
def request_and_reply_over_temporary_queues(p):
    s, t = client(p), client(p)
    t.send("SUBSCRIBE", destination="/queue/rpc", id="1", receipt="r")
    s.send("SEND", "question", destination="/queue/rpc", reply_to="/temp-queue/mine")
    t.send("SEND", "answer", destination=t.peer.messages[0]["reply-to"])


@AREA.scenario
def the_queue_is_deleted_under_a_subscription(p):
    s, a = client(p), p.connect()
    s.send("SUBSCRIBE", destination="/queue/q", id="1", receipt="r")
    a.send(m.QueueDelete("q"))
