"""Negotiation at the start of a STOMP connection: the version and the heart-beats.

Sources: STOMP 1.1 and 1.2, "Protocol Negotiation" and "Heart-beating"; STOMP 1.0 has no negotiation and no
heart-beats. As in RabbitMQ, two heart-beats are at least a second apart.
"""

from collections.abc import Mapping

from leveret.protocol.heartbeats import Heartbeats
from leveret.protocol.stomp.errors import StompError
from leveret.protocol.stomp.frames import V1_0, VERSIONS
from leveret.protocol.stomp.values import SHOWN, find_number

HEARTBEAT_MIN = 1000  # ms
HEARTBEAT_MAX = 10**10  # ms; longer intervals are cut to it


def negotiate(headers: Mapping[str, str]) -> tuple[str, Heartbeats]:
    """Return the version and the heart-beats for the headers of a CONNECT frame. Raises StompError."""
    version = negotiate_version(headers.get("accept-version"))
    if version == V1_0:
        return version, Heartbeats()
    return version, negotiate_heartbeats(headers.get("heart-beat"))


def negotiate_version(accepted: str | None) -> str:
    """Return the highest common version of a client's list; a client without a list speaks 1.0.

    Raises StompError if there is no common version.
    """
    offered = [V1_0] if accepted is None else [text.strip() for text in accepted.split(",")]
    common = [version for version in VERSIONS if version in offered]
    if not common:
        raise StompError("Version mismatch", f"Supported versions are {','.join(VERSIONS)}\n")
    return common[-1]


def heartbeat_header(heartbeats: Heartbeats) -> str:
    """Return the value of this side's ``heart-beat`` header."""
    return f"{heartbeats.sends},{heartbeats.expects}"


def negotiate_heartbeats(header: str | None) -> Heartbeats:
    """Return the server's heart-beats for the ``heart-beat`` header of a client.

    Raises StompError for a malformed header. Negative numbers count as 0, as in RabbitMQ.
    """
    header = "0,0" if header is None else header
    numbers = [find_number(text) for text in header.split(",")]
    times = [min(max(0, number), HEARTBEAT_MAX) for number in numbers if number is not None]
    if len(times) != len(numbers) or len(times) != 2:
        raise StompError("Invalid header", f"heart-beat must be two numbers of ms, not {header[:SHOWN]!r}")
    can_send, wants = times
    return Heartbeats(
        sends=max(wants, HEARTBEAT_MIN) if wants else 0,
        expects=max(can_send, HEARTBEAT_MIN) if can_send else 0,
    )
