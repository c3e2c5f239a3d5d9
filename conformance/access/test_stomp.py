"""Rights as STOMP clients meet them."""

import contextlib
import socket
from collections.abc import Iterator

import pytest

from conformance.access.conftest import ALL, WAIT, Managed


class Stomp:
    """One connection, by hand: what is refused is told differently by every library."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=WAIT)
        self._data = b""

    def send(self, command: str, body: str = "", **headers: str) -> None:
        lines = [command, *(f"{name.replace('_', '-')}:{value}" for name, value in headers.items())]
        self._socket.sendall(("\n".join(lines) + f"\n\n{body}\0").encode())

    def frame(self) -> str:
        """The next frame; empty at the end of the connection."""
        while b"\0" not in self._data:
            data = self._socket.recv(4096)
            if not data:
                return ""
            self._data += data
        frame, _, self._data = self._data.partition(b"\0")
        return frame.decode().lstrip("\n")

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def stomp(managed: Managed) -> Iterator[Stomp]:
    with contextlib.closing(Stomp(managed.stomp_port)) as connection:
        yield connection


def connect(stomp: Stomp, user: str, vhost: str) -> str:
    stomp.send("CONNECT", login=user, passcode=user, host=vhost, accept_version="1.2")
    return stomp.frame()


# frame, headers -> the rights that it needs, each with what for
FRAMES = {
    "send to an exchange": (
        ("SEND", {"destination": "/exchange/amq.topic/k"}),
        {"write": "exchange 'amq.topic'"},
    ),
    "send to a queue of AMQP": (
        ("SEND", {"destination": "/amq/queue/q"}),
        {"write": "exchange 'amq.default'"},
    ),
    "send to a queue": (
        ("SEND", {"destination": "/queue/new"}),
        {"configure": "queue 'new'", "write": "exchange 'amq.default'"},
    ),
    "subscribe to a queue of AMQP": (
        ("SUBSCRIBE", {"id": "1", "destination": "/amq/queue/q"}),
        {"read": "queue 'q'"},
    ),
    "subscribe to a queue": (
        ("SUBSCRIBE", {"id": "1", "destination": "/queue/new"}),
        {"configure": "queue 'new'", "read": "queue 'new'"},
    ),
}


@pytest.mark.parametrize("name", FRAMES)
@pytest.mark.parametrize("missing", ["configure", "write", "read"])
def test_frame_without_a_right(managed: Managed, stomp, place, name, missing):
    vhost, user = place
    (command, headers), needs = FRAMES[name]
    managed.permit(user, vhost, **{**ALL, missing: ""})
    assert connect(stomp, user, vhost).startswith("CONNECTED")
    stomp.send(command, receipt="r", **headers)
    told = stomp.frame()
    if missing in needs:
        assert told.startswith("ERROR\nmessage:access_refused\n")
        what = f"ACCESS_REFUSED - access to {needs[missing]} in vhost '{vhost}' refused for user '{user}'"
        assert what in told
    else:
        assert told.startswith("RECEIPT")


@pytest.fixture
def place(guest, vhost, user):
    """A virtual host with a queue q, and a user in it."""
    guest.channel().queue_declare("q", durable=True)
    return vhost, user


@pytest.mark.parametrize(("user", "host"), [("nobody", "/"), ("guest", "none")])
def test_who_may_not_enter(stomp, user, host):
    told = connect(stomp, user, host)
    assert told.startswith("ERROR\nmessage:Bad CONNECT\n")


def test_limits_are_reported_like_a_closed_virtual_host(managed: Managed, stomp, vhost, user):
    managed.do("PUT", "vhost-limits", vhost, "max-connections", body={"value": 0})
    told = connect(stomp, user, vhost)
    assert told.startswith("ERROR\nmessage:Bad CONNECT\n")
    assert f"Virtual host '{vhost}' access denied" in told


def test_connections_of_a_deleted_user_are_closed(managed: Managed, stomp, vhost, user):
    assert connect(stomp, user, vhost).startswith("CONNECTED")
    managed.do("DELETE", "users", user)
    told = stomp.frame()
    assert told.startswith("ERROR\n")
    assert f"user '{user}' is deleted" in told
