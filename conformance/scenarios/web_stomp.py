"""STOMP over WebSocket."""

from conformance.differential.play import Area
from conformance.differential.stomp import StompConnection

AREA = Area("web_stomp")


def client(p, **options):
    return StompConnection(p, web=True).open(**options)


@AREA.cases({version: version for version in ("1.0", "1.1", "1.2", "9.9")})
def versions(p, version):
    s = StompConnection(p, web=True)
    s.send("CONNECT", login="guest", passcode="guest", host=p.vhost, accept_version=version)


@AREA.scenario
def the_upgrade_names_the_protocol(p):
    s = StompConnection(p, web=True)
    status, *lines = s.peer.socket.head.decode().split("\r\n")
    chosen = [
        line.split(":")[1].strip() for line in lines if line.lower().startswith("sec-websocket-protocol")
    ]
    p.note(f"{status.split()[1]} {chosen}")


@AREA.scenario
def sending_and_receiving(p):
    s = client(p)
    s.send("SUBSCRIBE", destination="/queue/q", id="1", receipt="r")
    s.send("SEND", "größe", destination="/queue/q", custom="v")
    s.send("DISCONNECT", receipt="bye")


@AREA.scenario
def two_frames_in_one_message(p):
    s = client(p)
    s.send("SUBSCRIBE", destination="/queue/q", id="1", receipt="r")
    s.send_raw(b"SEND\ndestination:/queue/q\n\na\0\nSEND\ndestination:/queue/q\n\nb\0")


@AREA.scenario
def one_frame_in_two_messages(p):
    s = client(p)
    s.send("SUBSCRIBE", destination="/queue/q", id="1", receipt="r")
    s.send_raw(b"SEND\ndestination:/qu")
    s.send_raw(b"eue/q\n\nabc\0")


@AREA.scenario
def wrong_login(p):
    s = StompConnection(p, web=True)
    s.send("CONNECT", login="guest", passcode="wrong", host=p.vhost, accept_version="1.2")
    p.wait(1000)


@AREA.scenario
def an_error(p):
    client(p).send("SEND", "x", destination="/nope", receipt="r")


@AREA.scenario
def between_tcp_and_web(p):
    s, t = client(p), StompConnection(p).open()
    s.send("SUBSCRIBE", destination="/topic/a", id="1", receipt="r")
    t.send("SEND", "x", destination="/topic/a")
