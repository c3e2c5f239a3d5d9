"""Which protocol a peer speaks, judged by its first bytes: for those who have come to the wrong port.

Owns no connection. Whoever listens for one protocol asks here what it got instead, answers in a way that ends
the other side's waiting, and logs both names; a client that is not understood does the same.
"""

import re

AMQP, AMQP_OTHER, STOMP, HTTP, TLS = "AMQP 0-9-1", "another version of AMQP", "STOMP", "HTTP", "TLS"
OPENING = 16  # bytes that are enough to tell
TLS_ALERT = bytes((21, 3, 1, 0, 2, 2, 70))  # fatal: protocol_version (RFC 8446, 6.2); says "I speak TLS"

_AMQP_HEADER = b"AMQP\x00\x00\x09\x01"
_FRAME = b"\x01\x00\x00"  # a method on channel 0: what an AMQP server says first
_HTTP = re.compile(rb"(?:GET|HEAD|POST|PUT|DELETE|OPTIONS|PATCH|TRACE|CONNECT|PRI) |HTTP/\d")
_STOMP = re.compile(rb"[\r\n]*(?:CONNECT|STOMP|CONNECTED|ERROR)\r?\n")
_TLS = re.compile(rb"[\x15\x16](?:\x03|\Z)")  # an alert or a handshake, in any version


def recognize(data: bytes) -> str:
    """The name of the protocol that these bytes begin; "" when they are too few, or of none known here."""
    if data.startswith(b"AMQP") and len(data) >= len(_AMQP_HEADER):
        return AMQP if data.startswith(_AMQP_HEADER) else AMQP_OTHER
    if data.startswith(_FRAME):
        return AMQP
    for name, pattern in ((HTTP, _HTTP), (STOMP, _STOMP), (TLS, _TLS)):
        if pattern.match(data):
            return name
    return ""


class FirstBytes:
    """What a peer says first that should speak ``expected``, until it is enough to tell what it speaks."""

    def __init__(self, expected: str) -> None:
        self._expected = expected
        self._data = b""

    def other(self, data: bytes) -> str:
        """Add what has come: the name of the protocol if that is another one; "" also if it is unknown."""
        if len(self._data) >= OPENING:
            return ""
        self._data += data[:OPENING]
        spoken = recognize(self._data)
        return "" if spoken == self._expected else spoken


def wrong_port(spoken: str, here: str) -> str:
    """Say that a port is for the protocol ``here`` and a client seems to speak ``spoken`` ("" if unknown)."""
    return f"this port speaks {here}; the client seems to speak {spoken or 'another protocol'}"
