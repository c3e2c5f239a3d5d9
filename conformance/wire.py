"""A blocking AMQP 0-9-1 client of a few lines on a plain socket, where a client library would be too slow.

Owns frames, methods as bytes, and one connection with its channels. Encodes nothing beyond short strings: who
uses it packs the arguments. It shares no code with the broker, so that neither can hide the other's mistakes.
"""

import socket
import struct

from conformance.brokers import Broker

READ = 1 << 18  # bytes
TIMEOUT = 30.0  # seconds: a broker that moves nothing for so long has failed
FRAME_END = 0xCE


class WireError(Exception):
    """The broker closed, stalled, or sent something else than was expected."""


def shortstr(text: str) -> bytes:
    """An AMQP short string."""
    data = text.encode()
    return bytes([len(data)]) + data


def frame(kind: int, channel: int, payload: bytes) -> bytes:
    """An AMQP frame; kind 1 is a method, 2 a content header, 3 a content body."""
    return struct.pack(">BHI", kind, channel, len(payload)) + payload + bytes([FRAME_END])


def method(channel: int, class_id: int, method_id: int, arguments: bytes = b"") -> bytes:
    """A method frame."""
    return frame(1, channel, struct.pack(">HH", class_id, method_id) + arguments)


class Client:
    """A blocking AMQP 0-9-1 connection with open channels 1 to ``channels``: just what measuring needs."""

    def __init__(self, broker: Broker, channels: int = 1) -> None:
        self.socket = socket.create_connection((broker.host, broker.port), TIMEOUT)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.pending = bytearray()
        self.socket.sendall(b"AMQP\x00\x00\x09\x01")
        self.expect(10, 10)
        login = f"\0{broker.user}\0{broker.password}".encode()
        response = struct.pack(">I", len(login)) + login
        self.send(method(0, 10, 11, struct.pack(">I", 0) + shortstr("PLAIN") + response + shortstr("en_US")))
        self.expect(10, 30)
        self.send(
            method(0, 10, 31, struct.pack(">HIH", channels, 131072, 0))
        )  # no heartbeat may mix with deliveries
        self.call(method(0, 10, 40, shortstr(broker.vhost) + b"\x00\x00"), 10, 41)
        for channel in range(1, channels + 1):
            self.call(method(channel, 20, 10, b"\x00"), 20, 11)

    def send(self, data: bytes) -> None:
        """Send frames; blocks while the broker does not read."""
        self.socket.sendall(data)

    def call(self, request: bytes, class_id: int, method_id: int) -> bytes:
        """Send a request and return the arguments of its reply."""
        self.send(request)
        return self.expect(class_id, method_id)

    def expect(self, class_id: int, method_id: int) -> bytes:
        """The arguments of the next method, which must be this one."""
        payload = self.next_frame()
        found = struct.unpack_from(">HH", payload)
        if found != (class_id, method_id):
            raise WireError(f"method {found} came instead of {(class_id, method_id)}: {payload[4:]!r}")
        return payload[4:]

    def next_frame(self) -> bytes:
        """The payload of the next frame."""
        self.fill(7)
        (size,) = struct.unpack_from(">I", self.pending, 3)
        self.fill(size + 8)
        payload = bytes(self.pending[7 : 7 + size])
        del self.pending[: size + 8]
        return payload

    def fill(self, size: int) -> None:
        """Read until ``size`` bytes are pending."""
        while len(self.pending) < size:
            data = self.socket.recv(READ)
            if not data:
                raise WireError("the broker closed the connection")
            self.pending += data

    def close(self) -> None:
        """Close in good order: the reply says that everything sent before was handled."""
        self.call(method(0, 10, 50, b"\x00\x00\x00\x00\x00\x00\x00"), 10, 51)
        self.socket.close()
