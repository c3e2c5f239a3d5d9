"""What the test suites of STOMP client libraries assert, beyond frames and destinations: heart-beats,
receipts, settling, transactions of acknowledgements, versions, large bodies, priorities, expiry.
"""

from conformance.differential.play import Area
from conformance.differential.stomp import StompConnection
from conformance.differential.words import gets, queue

AREA = Area("stomp_clients")


def client(p, **options):
    return StompConnection(p).open(**options)


def subscribed(p, *texts):
    """A client that gets these messages from a queue, whose deliveries it settles one by one."""
    s = client(p)
    for text in texts:
        s.send("SEND", text, destination="/queue/q")
    s.send("SUBSCRIBE", destination="/queue/q", id="1", receipt="r", ack="client-individual")
    return s


# -- heart-beats ---------------------------------------------------------------------------------------------


@AREA.scenario
def a_client_that_misses_its_heart_beats_is_left_without_a_word(p):
    client(p, heart_beat="1000,0")
    p.wait(5000)


@AREA.scenario
def heart_beats_come_when_they_are_wanted(p):
    s = client(p, heart_beat="0,1000")
    p.wait(2500)
    p.note(f"heart-beats came: {s.peer.beats > 0}")


@AREA.scenario
def heart_beats_of_the_client_keep_it_open(p):
    s = client(p, heart_beat="1000,0")
    for _ in range(6):
        s.send_raw(b"\n")
        p.wait(500)
    s.send("SEND", "x", destination="/queue/q", receipt="still there")


@AREA.cases({"one number": "1000", "words": "a,b", "negative": "-1,0", "three": "1,2,3", "empty": ""})
def heart_beats_that_are_none(p, value):
    s = StompConnection(p)
    s.send("CONNECT", login="guest", passcode="guest", host=p.vhost, accept_version="1.2", heart_beat=value)


# -- receipts ------------------------------------------------------------------------------------------------


@AREA.cases(
    {
        "SEND": {"destination": "/queue/q"},
        "SUBSCRIBE": {"destination": "/queue/q", "id": "1"},
        "BEGIN": {"transaction": "t"},
    }
)
def receipts(p, headers):
    command = "BEGIN" if "transaction" in headers else "SUBSCRIBE" if "id" in headers else "SEND"
    client(p).send(command, receipt="a b:c", **headers)


@AREA.scenario
def receipts_come_in_the_order_of_the_frames(p):
    s = client(p)
    s.send_raw(b"".join(b"SEND\ndestination:/queue/q\nreceipt:%d\n\nx\0" % number for number in range(6)))


@AREA.scenario
def a_receipt_within_a_transaction(p):
    s = client(p)
    s.send("BEGIN", transaction="t")
    s.send("SEND", "x", destination="/queue/q", transaction="t", receipt="sent")
    s.send("COMMIT", transaction="t", receipt="committed")
    p.connect().send(*gets("q"))


@AREA.scenario
def frames_behind_a_disconnect_are_not_taken(p):
    s = client(p)
    s.send("SEND", "1", destination="/queue/q", receipt="first")
    s.send_raw(b"DISCONNECT\nreceipt:bye\n\n\0SEND\ndestination:/queue/q\n\n2\0")
    p.connect().send(*gets("q", count=2))


# -- settling ------------------------------------------------------------------------------------------------


@AREA.scenario
def what_was_acknowledged_does_not_come_again(p):
    s = subscribed(p, "1", "2")
    s.send("ACK", id=s.peer.messages[0]["ack"], receipt="acked")
    s.hang_up()
    p.wait(300)
    p.connect().send(*gets("q", count=2))


@AREA.scenario
def acknowledging_in_a_transaction_that_is_aborted(p):
    s = subscribed(p, "1")
    s.send("BEGIN", transaction="t")
    s.send("ACK", id=s.peer.messages[0]["ack"], transaction="t")
    s.send("ABORT", transaction="t", receipt="aborted")
    s.hang_up()
    p.wait(300)
    p.connect().send(*gets("q"))


@AREA.scenario
def acknowledging_in_a_transaction_that_is_committed(p):
    s = subscribed(p, "1")
    s.send("BEGIN", transaction="t")
    s.send("ACK", id=s.peer.messages[0]["ack"], transaction="t")
    s.send("COMMIT", transaction="t", receipt="committed")
    s.hang_up()
    p.wait(300)
    p.connect().send(*gets("q"))


@AREA.scenario
def a_rejected_message_is_dead_lettered(p):
    a = p.connect()
    a.send(queue("dead"))
    a.send(queue(durable=True, x_dead_letter_exchange="", x_dead_letter_routing_key="dead"))
    s = client(p)
    s.send("SEND", "1", destination="/amq/queue/q")
    s.send("SUBSCRIBE", destination="/amq/queue/q", id="1", ack="client", receipt="r")
    s.send("NACK", id=s.peer.messages[0]["ack"], requeue="false", receipt="nacked")
    a.send(*gets("dead"))


# -- messages ------------------------------------------------------------------------------------------------


@AREA.cases({"empty": 0, "one octet": 1, "more than a frame of AMQP": 200_000})
def bodies(p, size):
    s = client(p)
    s.send("SUBSCRIBE", destination="/queue/q", id="1", receipt="r")
    s.send_raw(b"SEND\ndestination:/queue/q\ncontent-length:%d\n\n" % size + bytes(size) + b"\0")
    p.note(f"{[message.get('content-length') for message in s.peer.messages]}")


@AREA.scenario
def a_frame_in_pieces(p):
    s = client(p)
    s.send("SUBSCRIBE", destination="/queue/q", id="1", receipt="r")
    for piece in (b"SE", b"ND\ndesti", b"nation:/queue/q\n", b"\nab", b"c", b"\0"):
        s.send_raw(piece)


@AREA.scenario
def a_message_that_expires(p):
    s = client(p)
    s.send("SEND", "soon", destination="/queue/q", expiration="100", receipt="sent")
    p.wait(400)
    s.send("SUBSCRIBE", destination="/queue/q", id="1", receipt="r")


@AREA.cases({"persistent": {"persistent": "true"}, "transient": {"persistent": "false"}, "not told": {}})
def delivery_modes(p, headers):
    s = client(p)
    s.send("SEND", "x", destination="/queue/q", receipt="sent", **headers)
    p.connect().send(*gets("q"))


@AREA.cases({"topic": "/topic/a", "queue": "/queue/q", "exchange": "/exchange/amq.direct/a"})
def a_selector(p, destination):
    s = client(p)
    s.send("SUBSCRIBE", destination=destination, id="1", receipt="r", x_selector="colour = 'red'")
    s.send("SEND", "1", destination=destination, colour="blue")
    s.send("SEND", "2", destination=destination, colour="red")


@AREA.scenario
def the_consumer_of_the_highest_priority_comes_first(p):
    low, high = client(p), client(p)
    low.send("SUBSCRIBE", destination="/queue/q", id="low", receipt="r", x_priority="1")
    high.send("SUBSCRIBE", destination="/queue/q", id="high", receipt="r", x_priority="5")
    for text in "123":
        client(p).send("SEND", text, destination="/queue/q", receipt="sent")


@AREA.cases({"1.0": "1.0", "1.1": "1.1", "1.2": "1.2"})
def escapes_by_version(p, version):
    s = client(p, version=version)
    s.send("SUBSCRIBE", destination="/queue/q", id="1", receipt="r")
    s.send_raw(b"SEND\ndestination:/queue/q\nh:a\\nb\\cc\\\\d\n\nabc\0")


@AREA.cases({"1.1": "1.1", "1.2": "1.2"})
def what_a_message_is_acknowledged_by(p, version):
    s = client(p, version=version)
    s.send("SEND", "1", destination="/queue/q")
    s.send("SUBSCRIBE", destination="/queue/q", id="1", ack="client", receipt="r")
    message = s.peer.messages[0]
    named = {"id": message["ack"]} if version == "1.2" else {"message_id": message["message-id"]}
    s.send("ACK", receipt="acked", **({"subscription": "1"} if version == "1.1" else {}), **named)
