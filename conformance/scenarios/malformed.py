"""Bytes that are no AMQP: frames, methods, contents and tables with every kind of fault."""

import struct

from conformance.differential.amqp import Raw, content_frames, frame, method_frame
from conformance.differential.play import Area
from conformance.differential.tables import Typed, block, short
from conformance.differential.words import publish, queue
from leveret.protocol.amqp import methods as m

AREA = Area("malformed")

PUBLISH = method_frame(1, m.BasicPublish("", "q"))
DECLARE = struct.pack(">HHH", 50, 10, 0) + short("q") + b"\0"  # up to the table of arguments


def header(size, *, class_id=60, weight=0, properties=b"\0\0", channel=1):
    return frame(2, channel, struct.pack(">HHQ", class_id, weight, size) + properties)


@AREA.cases(
    {
        "unknown type": frame(9, 1, b""),
        "type 0": frame(0, 1, b""),
        "type 255": frame(255, 1, b"abc"),
        "end": frame(1, 1, struct.pack(">HH", 60, 10) + bytes(7), end=0),
        "end of a heartbeat": frame(8, 0, b"", end=0xCF),
        "heartbeat with payload": frame(8, 0, b"x"),
        "heartbeat on a channel": frame(8, 1, b""),
        "empty method": frame(1, 1, b""),
        "short method": frame(1, 1, b"\0\x0a"),
        "empty header": frame(2, 1, b""),
        "short header": frame(2, 1, b"\0\x3c\0\0"),
        "size over the limit": struct.pack(">BHI", 1, 1, 200_000) + b"x" * 200_000 + b"\xce",
        "size of four gigabytes": struct.pack(">BHI", 1, 1, 0xFFFFFFFF),
        "text": b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "protocol header again": b"AMQP\x00\x00\x09\x01",
    }
)
def frames(p, data):
    a = p.connect()
    a.send(Raw(data, f"bytes {data[:40]!r}"))


@AREA.cases(
    {
        "truncated": method_frame(1, m.QueueDeclare("q"))[7:-1][:-3],
        "too long": method_frame(1, m.BasicQos())[7:-1] + b"\0\0",
        "no arguments": struct.pack(">HH", 50, 10),
        "short string beyond the end": struct.pack(">HHH", 50, 10, 0) + b"\xffq",
        "not utf-8": struct.pack(">HHH", 50, 10, 0) + b"\x01\xff\0" + bytes(4),
        "nul in a name": struct.pack(">HHH", 50, 10, 0) + b"\x03q\0q\0" + bytes(4),
        "every bit set": struct.pack(">HHH", 50, 10, 0) + short("q") + b"\xff" + bytes(4),
    }
)
def methods(p, payload):
    a = p.connect()
    a.send(Raw(frame(1, 1, payload), f"method {payload!r}"))
    a.send(m.BasicQos())


@AREA.cases(
    {"class": (99, 10), "method": (60, 99), "class 0": (0, 0), "of 0-8": (60, 101), "access": (30, 99)}
)
def unknown_methods(p, ids):
    a = p.connect()
    a.send(Raw(frame(1, 1, struct.pack(">HH", *ids)), f"method {ids}"))


@AREA.cases(
    {
        "unknown type": b"\x01aQ",
        "no type": b"\x01a",
        "name beyond the end": b"\xffa",
        "text beyond the end": b"\x01aS\xff\xff\xff\xff",
        "number beyond the end": b"\x01aI\0",
        "nested table too long": b"\x01aF\0\0\0\xff\0",
        "array too long": b"\x01aA\0\0\0\xffI",
        "array with an unknown type": b"\x01aA\0\0\0\x01Q",
    }
)
def tables(p, content):
    a = p.connect()
    a.send(Raw(frame(1, 1, DECLARE + block(content)), f"queue.declare with table {content!r}"))


@AREA.scenario
def table_longer_than_the_method(p):
    a = p.connect()
    a.send(Raw(frame(1, 1, DECLARE + b"\0\0\xff\xff"), "queue.declare with a table beyond its end"))


@AREA.cases(
    {
        "header without a method": header(3),
        "body without a method": frame(3, 1, b"abc"),
        "body without a header": PUBLISH + frame(3, 1, b"abc"),
        "method instead of a header": PUBLISH + method_frame(1, m.BasicQos()),
        "method instead of a body": PUBLISH + header(3) + method_frame(1, m.BasicQos()),
        "header twice": PUBLISH + header(3) + header(3),
        "header of another class": PUBLISH + header(3, class_id=50),
        "header with a weight": PUBLISH + header(3, weight=7) + frame(3, 1, b"abc"),
        "body too long": PUBLISH + header(3) + frame(3, 1, b"abcd"),
        "second body too long": PUBLISH + header(3) + frame(3, 1, b"ab") + frame(3, 1, b"cd"),
        "body after an empty one": PUBLISH + header(0) + frame(3, 1, b"abc"),
        "content on channel 0": frame(2, 0, struct.pack(">HHQ", 60, 0, 3) + b"\0\0"),
        "content on a closed channel": header(3, channel=9),
        "heartbeat in a content": PUBLISH + header(3) + frame(8, 0, b"") + frame(3, 1, b"abc"),
        "size that is impossible": PUBLISH + header(2**63),
        "size over every limit": PUBLISH + header(2**40),
    }
)
def contents(p, data):
    a = p.connect()
    a.send(queue())
    a.send(Raw(data, f"frames {len(data)} bytes"))
    a.send(m.BasicGet("q", True))


@AREA.cases(
    {
        "truncated text": b"\x80\x00\x05ab",
        "too long": b"\x00\x00abc",
        "flags that go on": b"\x00\x01\x00\x00",
        "unused flag": b"\x00\x02",
        "headers beyond the end": b"\x20\x00\x00\x00\x00\xff",
        "headers with an unknown type": b"\x20\x00" + block(b"\x01aQ"),
        "no flags": b"",
        "not utf-8": b"\x80\x00\x02\xff\xfe",
    }
)
def properties(p, raw):
    a = p.connect()
    a.send(queue())
    a.send(Raw(PUBLISH + content_frames(1, b"abc", raw), f"publish with properties {raw!r}"))
    a.send(m.BasicGet("q", True))


@AREA.cases({"routing key": ("", b"\xff\xfe"), "exchange": (b"\xff", b"q")})
def names_that_are_no_text(p, names):
    a = p.connect()
    to, key = (name.decode("utf-8", "surrogateescape") if isinstance(name, bytes) else name for name in names)
    a.send(publish(key, "x", exchange=to, mandatory=True))


@AREA.cases({"nan": b"\x7f\xf8\0\0\0\0\0\0", "infinite": b"\x7f\xf0\0\0\0\0\0\0"})
def floats_that_are_no_numbers(p, raw):
    a = p.connect()
    a.send(queue())
    a.send(publish("q", "x", headers={"h": Typed("d", raw)}))


@AREA.scenario
def half_a_frame_and_then_nothing(p):
    a, b = p.connect(), p.connect()
    a.send(Raw(PUBLISH[:9], "half a frame"))
    b.send(m.BasicQos())
    a.hang_up()


@AREA.scenario
def one_byte_at_a_time(p):
    a = p.connect()
    for byte in method_frame(1, m.QueueDeclare("q")) + PUBLISH + content_frames(1, b"abc"):
        a.peer.write(bytes([byte]))
        p._once(0.001)
    p.settle()
    a.send(m.BasicGet("q", True))
