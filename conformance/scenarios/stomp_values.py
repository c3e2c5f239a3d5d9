"""STOMP: headers that are true or false, or a number, in every spelling."""

from conformance.differential.play import Area
from conformance.differential.stomp import StompConnection
from conformance.differential.words import gets, publish, queue

AREA = Area("stomp_values")

BOOLEANS = ("true", "True", "false", "False")
CAPITALS = ("TRUE", "FALSE")
NEITHER = ("", " true", "true ", "1", "no", "true,false")
NUMBERS = ("5", " 5", "5 ", "+5", "05", "0" * 30 + "5", "0", "-0")
NO_NUMBERS = ("", " ", "five", "5.0", "0x5", "5\t", "5_0", "\u0665")
HUGE = ("1" + "0" * 30, "-1" + "0" * 30)
QUEUE_BOOLEANS = ("durable", "persistent", "auto-delete", "exclusive")
QUEUE_NUMBERS = ("x-message-ttl", "x-expires", "x-max-length", "x-max-length-bytes", "x-max-priority")


def raw(command, *lines, body=b""):
    return "\n".join((command, *lines, "", "")).encode() + body + b"\0"


def subscribed(destination, *lines):
    def script(p):
        s = StompConnection(p).open()
        s.send_raw(raw("SUBSCRIBE", f"destination:{destination}", "id:1", *lines))
        p.wait(100)
        p.show_queues()

    return script


def unsubscribed(header):
    """A durable subscription that UNSUBSCRIBE ends with this header; does its queue go?"""

    def script(p):
        s = StompConnection(p).open()
        s.send("SUBSCRIBE", destination="/topic/a", id="1", durable="true", auto_delete="false")
        p.wait(100)
        s.send_raw(raw("UNSUBSCRIBE", "id:1", header))
        p.wait(100)
        p.show_queues()

    return script


def requeue(value):
    def script(p):
        a, s = p.connect(), StompConnection(p).open()
        a.send(queue("q", durable=True), publish("q", "x"))
        s.send("SUBSCRIBE", destination="/amq/queue/q", id="1", ack="client")
        s.send("NACK", id=s.peer.messages[0]["ack"], requeue=value)

    return script


def sent(**headers):
    def script(p):
        a, s = p.connect(), StompConnection(p).open()
        a.send(queue("q", durable=True))
        s.send("SEND", "x", destination="/amq/queue/q", **headers)
        p.wait(100)
        a.send(*gets("q"))

    return script


def prefetch_count(value):
    def script(p):
        a, s = p.connect(), StompConnection(p).open()
        a.send(queue("q", durable=True), *(publish("q", str(number)) for number in range(8)))
        s.send("SUBSCRIBE", destination="/amq/queue/q", id="1", ack="client", prefetch_count=value)

    return script


def content_length(value):
    def script(p):
        a, s = p.connect(), StompConnection(p).open()
        a.send(queue("q", durable=True))
        s.send_raw(raw("SEND", "destination:/amq/queue/q", f"content-length:{value}", body=b"ab\0de"))
        a.send(*gets("q"))

    return script


def heart_beat(value):
    def script(p):
        s = StompConnection(p)
        headers = {"login": "guest", "passcode": "guest", "host": p.vhost, "accept_version": "1.2"}
        s.send("CONNECT", heart_beat=value, **headers)

    return script


def add(what, values, script):
    for value in values:
        AREA.add(f"{what}[{value!r}]", script(value))


for word, values in (("", BOOLEANS), (" in capitals", CAPITALS), (" that is neither", NEITHER)):
    for header in QUEUE_BOOLEANS:
        for path in ("/topic/a", "/queue/q"):
            add(f"{header} of {path}{word}", values, lambda v, h=header, d=path: subscribed(d, f"{h}:{v}"))
    for header in ("durable", "persistent"):
        add(f"{header} of UNSUBSCRIBE{word}", values, lambda v, h=header: unsubscribed(f"{h}:{v}"))
    add(f"requeue{word}", values, requeue)
    add(f"persistent of a message{word}", values, lambda v: sent(persistent=v))
for word, values in (
    ("", NUMBERS),
    (" that is none", NO_NUMBERS),
    (" that is huge", HUGE),
    (" that is negative", ("-5",)),
):
    for header in QUEUE_NUMBERS:
        add(f"{header}{word}", values, lambda v, h=header: subscribed("/queue/q", f"{h}:{v}"))
    for header in ("priority", "timestamp"):
        add(f"{header}{word}", values, lambda v, h=header: sent(**{h: v}))
    add(f"prefetch-count{word}", values, prefetch_count)
add("expiration", (*NUMBERS, *NO_NUMBERS, "-5"), lambda v: sent(expiration=v))
add("content-length", ("5", " 5", "5 ", "+5", "05"), content_length)
add("content-length that is none", (*NO_NUMBERS, *HUGE, "-5", "0"), content_length)
add("heart-beat", ("0,0", "+1000,0", "-1,-5", "01000,0", "2000,3000"), heart_beat)
add(
    "heart-beat that is unclear",
    (" 0,0", "0, 0", "1e3,0", "0,", ",", "0;0", "1" + "0" * 30 + ",0"),
    heart_beat,
)
for header in QUEUE_BOOLEANS:
    for first, second in (("true", "false"), ("false", "true")):
        lines = f"{header}:{first}", f"{header}:{second}"
        AREA.add(f"{header} twice[{first} first]", subscribed("/queue/q", *lines))
for first, second in (("durable", "persistent"), ("persistent", "durable")):
    lines = f"{first}:true", f"{second}:false"
    AREA.add(f"{first} and {second}", subscribed("/topic/a", *lines))
    lines = f"{first}:false", f"{second}:true"
    AREA.add(f"not {first} and {second}", subscribed("/topic/a", *lines))
AREA.add("x-max-length twice", subscribed("/queue/q", "x-max-length:5", "x-max-length:6"))
