"""Recognition of a peer's protocol by its first bytes, to report connections to a wrong port.

Each listener, and each client of leveret's own, compares the result with the protocol that it expects. Not
for the answer and the log line: the listener or client decides them.
"""

import re

AMQP, AMQP_OTHER, STOMP, HTTP, TLS = "AMQP 0-9-1", "another version of AMQP", "STOMP", "HTTP", "TLS"
OPENING = 16  # bytes that suffice to recognize any of these protocols
TLS_ALERT = bytes((21, 3, 1, 0, 2, 2, 70))  # fatal alert protocol_version (RFC 8446, 6.2)

_AMQP_HEADER = b"AMQP\x00\x00\x09\x01"
_FRAME = b"\x01\x00\x00"  # a method frame on channel 0, which an AMQP server sends first
# ``re`` compiles these when they are needed, and not at every start.
_HTTP = rb"(?:GET|HEAD|POST|PUT|DELETE|OPTIONS|PATCH|TRACE|CONNECT|PRI) |HTTP/\d"
_STOMP = rb"[\r\n]*(?:CONNECT|STOMP|CONNECTED|ERROR)\r?\n"
_TLS = rb"[\x15\x16](?:\x03|\Z)"  # an alert or a handshake, in any version


def recognize(data: bytes) -> str:
    """Return the name of the protocol of a connection that begins with ``data``.

    Returns "" if the bytes are too few, or the protocol is none of those above.
    """
    if data.startswith(b"AMQP") and len(data) >= len(_AMQP_HEADER):
        return AMQP if data.startswith(_AMQP_HEADER) else AMQP_OTHER
    if data.startswith(_FRAME):
        return AMQP
    for name, pattern in ((HTTP, _HTTP), (STOMP, _STOMP), (TLS, _TLS)):
        if re.match(pattern, data):
            return name
    return ""


class FirstBytes:
    """The first bytes of a peer, collected until they are enough to recognize its protocol.

    ``expected`` is the protocol that the peer should speak.
    """

    def __init__(self, expected: str) -> None:
        self._expected = expected
        self._data = b""

    def other(self, data: bytes) -> str:
        """Add received bytes; return the peer's protocol if it is known and not the expected one, else ""."""
        if len(self._data) >= OPENING:
            return ""
        self._data += data[:OPENING]
        spoken = recognize(self._data)
        return "" if spoken == self._expected else spoken


def wrong_port(spoken: str, here: str) -> str:
    """Return the text for a client that speaks ``spoken`` ("" if unknown) at a port for ``here``."""
    return f"this port speaks {here}; the client seems to speak {spoken or 'another protocol'}"
