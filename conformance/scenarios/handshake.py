"""From the protocol header to an open virtual host, and what ends it before."""

import struct

from conformance.differential.amqp import CAPABILITIES, HEADER, Raw, frame, start_ok
from conformance.differential.play import Area
from conformance.differential.tables import block, encode_table
from leveret.protocol.amqp import methods as m

AREA = Area("handshake")


def header(data=HEADER):
    return Raw(data, f"header {data!r}")


def begun(p):
    """A connection that was told to start, which is left out: it says who the broker is."""
    a = p.dial()
    a.peer.write(HEADER)
    p._until(a.peer, m.ConnectionStart)
    return a


def login(mechanism, response, properties=None):
    """Any connection.start-ok."""
    given = encode_table({"capabilities": CAPABILITIES} if properties is None else properties)
    name = mechanism.encode()
    payload = struct.pack(">HH", 10, 11) + given + bytes([len(name)]) + name + block(response)
    return Raw(frame(1, 0, payload + b"\x05en_US"), f"connection.start-ok {mechanism} {response!r}")


def logged_in(p):
    a = begun(p)
    a.send(start_ok("guest", "guest", CAPABILITIES), channel=0)
    return a


@AREA.cases(
    {
        "0-8": b"AMQP\0\0\x08\0",
        "0-9 by the old form": b"AMQP\x01\x01\x09\x09",
        "1-0": b"AMQP\0\x01\0\0",
        "1-0 with sasl": b"AMQP\x03\x01\0\0",
        "0-9-2": b"AMQP\0\0\x09\x02",
        "http": b"GET / HTTP/1.1\r\n\r\n",
        "zeros": bytes(8),
    }
)
def another_header(p, data):
    p.dial().send(header(data), channel=0)


@AREA.scenario
def header_in_pieces(p):
    a = p.dial()
    a.peer.write(HEADER[:3])
    p.settle(quiet=0)
    a.peer.write(HEADER[3:])
    p._until(a.peer, m.ConnectionStart)
    a.send(start_ok("guest", "guest", CAPABILITIES), channel=0)


@AREA.scenario
def start_names_mechanisms_and_capabilities(p):
    a = p.dial()
    a.peer.write(HEADER)
    p.settle(quiet=0)
    while not a.peer.received:
        a.peer.read()
    start = a.peer.received[-1]
    a.peer.came.clear()
    p.note(f"{start.version_major}-{start.version_minor} {start.locales!r}")
    p.note(f"mechanisms {sorted(start.mechanisms.split())}")
    p.note(f"capabilities {sorted(start.server_properties['capabilities'].items())}")


@AREA.scenario
def tune_offers(p):
    logged_in(p)


@AREA.cases(
    {
        "PLAIN": login("PLAIN", b"\0guest\0guest"),
        "AMQPLAIN": login("AMQPLAIN", encode_table({"LOGIN": "guest", "PASSWORD": "guest"})[4:]),
        "wrong password": login("PLAIN", b"\0guest\0wrong"),
        "wrong user": login("PLAIN", b"\0no-such-user\0guest"),
        "empty": login("PLAIN", b"\0\0"),
        "wrong AMQPLAIN": login("AMQPLAIN", encode_table({"LOGIN": "guest", "PASSWORD": "x"})[4:]),
    }
)
def logins(p, answer):
    begun(p).post(answer, channel=0)
    p.wait(2000)


@AREA.scenario
def wrong_login_without_the_capability(p):
    a = begun(p)
    a.send(login("PLAIN", b"\0guest\0wrong", {}), channel=0)
    p.wait(3500)


@AREA.cases(
    {
        "all as offered": m.ConnectionTuneOk(2047, 131072, 60),
        "less": m.ConnectionTuneOk(10, 4096, 5),
        "no heartbeat": m.ConnectionTuneOk(2047, 131072, 0),
        "longer heartbeat": m.ConnectionTuneOk(2047, 131072, 600),
    }
)
def tuning(p, tune_ok):
    a = logged_in(p)
    a.send(tune_ok, m.ConnectionOpen(p.vhost), channel=0)
    a.send(m.ChannelOpen())


@AREA.cases(
    {
        "frame_max over": m.ConnectionTuneOk(2047, 131073, 60),
        "frame_max none": m.ConnectionTuneOk(2047, 0, 60),
        "frame_max small": m.ConnectionTuneOk(2047, 4095, 60),
        "channel_max over": m.ConnectionTuneOk(2048, 131072, 60),
        "channel_max none": m.ConnectionTuneOk(0, 131072, 60),
    }
)
def tuning_beyond_the_offer(p, tune_ok):
    a = logged_in(p)
    a.send(tune_ok, channel=0)
    p.wait(3500)


@AREA.cases({"unknown": "no-such-vhost", "empty": "", "case": "VHOST"})
def virtual_hosts(p, name):
    a = logged_in(p)
    a.send(m.ConnectionTuneOk(2047, 131072, 0), m.ConnectionOpen(name), channel=0)


@AREA.needing(permissions={"stranger": ("", "", "")})
def a_user_without_permissions_may_open(p):
    a = begun(p)
    a.send(start_ok("stranger", "guest", CAPABILITIES), channel=0)
    a.send(m.ConnectionTuneOk(2047, 131072, 0), m.ConnectionOpen(p.vhost), channel=0)


@AREA.scenario
def pipelined(p):
    """Everything at once, without waiting for any answer."""
    a = begun(p)
    a.send(
        start_ok("guest", "guest", CAPABILITIES),
        m.ConnectionTuneOk(2047, 131072, 0),
        m.ConnectionOpen(p.vhost),
        channel=0,
    )
    a.send(m.ChannelOpen())


@AREA.scenario
def closing_right_after_opening(p):
    a = logged_in(p)
    a.send(m.ConnectionTuneOk(2047, 131072, 0), m.ConnectionOpen(p.vhost), channel=0)
    a.send(m.ConnectionClose(200, "bye"), channel=0)
