"""One STOMP connection of a scenario, over TCP or over WebSocket.

Owns the socket and the frames, which are packed and taken apart here, so that a malformed one can be sent.
"""

import base64
import contextlib
import os
import re
import socket
from typing import TYPE_CHECKING, Any

from wsproto.connection import Connection as WebSocketConnection
from wsproto.connection import ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, TextMessage
from wsproto.utilities import LocalProtocolError

from conformance.differential.tables import show_bytes
from conformance.differential.transcript import Event

if TYPE_CHECKING:
    from conformance.differential.play import Play

UNTOLD = ("server", "session")  # headers of CONNECTED that say who the broker is


class WebSocket:
    """A client's WebSocket with the calls of a socket that a peer needs; ``recv`` may return None."""

    def __init__(self, address: tuple[str, int], path: str, subprotocol: str) -> None:
        self._socket = socket.create_connection(address, timeout=10)
        key = base64.b64encode(os.urandom(16)).decode()
        self._socket.sendall(
            (
                f"GET {path} HTTP/1.1\r\nHost: {address[0]}:{address[1]}\r\nUpgrade: websocket\r\n"
                f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n"
                f"Sec-WebSocket-Protocol: {subprotocol}\r\n\r\n"
            ).encode()
        )
        head = b""
        while b"\r\n\r\n" not in head:
            piece = self._socket.recv(4096)
            if not piece:
                break
            head += piece
        self.head, _, rest = head.partition(b"\r\n\r\n")
        self._wire = WebSocketConnection(ConnectionType.CLIENT)
        self._wire.receive_data(rest)

    def fileno(self) -> int:
        return self._socket.fileno()

    def sendall(self, data: bytes) -> None:
        """Send as one text message."""
        self._socket.sendall(self._wire.send(TextMessage(data.decode("utf-8", "replace"))))

    def recv(self, size: int) -> bytes | None:
        """What is in the messages that have come; nothing at the end, None while there is no message."""
        data = self._socket.recv(size)
        if not data:
            return b""
        self._wire.receive_data(data)
        came = b""
        for event in self._wire.events():
            if isinstance(event, TextMessage):
                came += event.data.encode()
            elif isinstance(event, BytesMessage):
                came += bytes(event.data)
            elif isinstance(event, Ping):
                self._socket.sendall(self._wire.send(event.response()))
            elif isinstance(event, CloseConnection):  # answered, so that the broker ends the connection
                with contextlib.suppress(LocalProtocolError, OSError):
                    self._socket.sendall(self._wire.send(event.response()))
        return came or None

    def close(self) -> None:
        self._socket.close()


class StompPeer:
    """A connection; ``answers`` are expected for receipts that were asked for and for CONNECT."""

    def __init__(self, name: str, wire: Any) -> None:
        self.name = name
        self.socket = wire
        self.came: list[Event] = []
        self.messages: list[dict[str, str]] = []  # the headers of every MESSAGE
        self.ended = False
        self.beats = 0
        self._expected = 0
        self._pending = b""

    def waiting(self) -> bool:
        return not self.ended and self._expected > 0

    def send(self, data: bytes, answers: int) -> None:
        """Send bytes that so many answers are expected to."""
        self._expected += answers
        with contextlib.suppress(OSError):
            self.socket.sendall(data)

    def read(self) -> None:
        """Take what has come."""
        try:
            data = self.socket.recv(1 << 18)
        except OSError:
            data = b""
        if data is None:
            return
        if not data:
            self.ended = True
            self.came.append(Event(0, "hung up"))
            return
        self._pending += data
        while self._frame():
            pass

    def hang_up(self) -> None:
        self.ended = True
        self.socket.close()

    def _frame(self) -> bool:
        """Take one frame off what is pending."""
        stripped = self._pending.lstrip(b"\r\n")
        self.beats += len(self._pending) - len(stripped)
        self._pending = stripped
        head, found, rest = self._pending.partition(b"\n\n")
        if not found:
            return False
        command, *lines = head.decode("utf-8", "replace").split("\n")
        headers: dict[str, str] = {}
        for line in lines:
            name, _, value = line.partition(":")
            headers.setdefault(name, value)
        size = int(headers["content-length"]) if "content-length" in headers else rest.find(b"\0")
        if size < 0 or len(rest) <= size:
            return False
        body, self._pending = rest[:size], rest[size + 1 :]
        self._tell(command, headers, body)
        return True

    def _tell(self, command: str, headers: dict[str, str], body: bytes) -> None:
        if command in ("CONNECTED", "RECEIPT"):
            self._expected -= self._expected > 0
        elif command == "ERROR":
            self._expected = 0
        shown = " ".join(f"{name}={value!r}" for name, value in sorted(headers.items()) if name not in UNTOLD)
        most = 1000 if command == "ERROR" else 200  # an error names the virtual host, each play's own
        text = f"{command} {shown} {show_bytes(body, most)}"
        if command == "MESSAGE":
            self.messages.append(headers)
            self.came.append(Event(0, text, "delivery", headers.get("subscription", "")))
        else:
            self.came.append(Event(0, text))


class StompConnection:
    """A STOMP connection as a scenario holds it. Header names are given with ``_`` for ``-``."""

    def __init__(self, play: "Play", web: bool = False) -> None:
        self._play = play
        stage = play.stage
        wire = (
            WebSocket(stage.web, "/ws", "v12.stomp")
            if web
            else socket.create_connection(stage.stomp, timeout=10)
        )
        self.peer = StompPeer(play.next_name(), wire)
        play.join(self.peer)

    def open(self, version: str = "1.2", login: str = "guest", **headers: str) -> "StompConnection":
        """Log in; the answer is left out."""
        self.peer.send(
            packed(
                "CONNECT",
                {
                    "login": login,
                    "passcode": "guest",
                    "host": self._play.vhost,
                    "accept-version": version,
                    **named(headers),
                },
            ),
            1,
        )
        self._play.settle(quiet=0)
        self.peer.came = [event for event in self.peer.came if not event.text.startswith("CONNECTED")]
        return self

    def send(self, command: str, body: str | bytes = b"", **headers: str) -> None:
        """Send a frame and await what comes."""
        data = packed(command, named(headers), body.encode() if isinstance(body, str) else body)
        shown = " ".join([command, *(f"{name}:{value}" for name, value in named(headers).items())])
        self._play.say(f"{self.peer.name}> {shown} {body!r}" if body else f"{self.peer.name}> {shown}")
        answers = len(re.findall(rb"\nreceipt:", data)) + (command in ("CONNECT", "STOMP"))
        self.peer.send(data, answers)
        self._play.settle()

    def send_raw(self, data: bytes) -> None:
        """Send bytes as they are."""
        self._play.say(f"{self.peer.name}> {show_bytes(data, 120)}")
        self.peer.send(data, 0)
        self._play.settle()

    def hang_up(self) -> None:
        """End the connection without a word."""
        self._play.say(f"{self.peer.name}> hangs up")
        self.peer.hang_up()
        self._play.settle()


def packed(command: str, headers: dict[str, str], body: bytes = b"") -> bytes:
    """A frame."""
    lines = "".join(f"{name}:{value}\n" for name, value in headers.items())
    return f"{command}\n{lines}\n".encode() + body + b"\0"


def named(headers: dict[str, str]) -> dict[str, str]:
    """Header names as they are on the wire."""
    return {name.replace("_", "-"): value for name, value in headers.items()}
