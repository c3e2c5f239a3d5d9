"""The syntax of destinations: parsing the header of a frame, and formatting that of a message.

Names are percent-encoded, so that they can contain slashes.

Source: RabbitMQ, "STOMP Plugin", "Destinations".
"""

import re
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

from leveret.protocol.stomp.errors import StompError

TOPIC_EXCHANGE = "amq.topic"
TEMP_QUEUE = "/temp-queue/"
REPLY_QUEUE = "/reply-queue/"
PREFIXES = ("/temp-queue", "/exchange", "/topic", "/queue", "/amq/queue", "/reply-queue/")
NAME_MAX = 255  # bytes
ENCODED_MAX = 3 * NAME_MAX  # bytes of a percent-encoded name
KNOWN = 1024  # cached destinations
_ENCODED = re.compile(rb"%([0-9A-Fa-f]{2})")
_TO_ENCODE = re.compile(rb"[^\x20-\x24\x26-\x2e\x30-\x7e]")  # all but printable ASCII; the slash and % too


class StompDestination(NamedTuple):
    """A parsed destination of SEND or SUBSCRIBE.

    ``kind`` is the word after the first slash (amqqueue for /amq/queue); exchange and routing key are those
    of a publish. ``path`` is the header's value.
    """

    kind: str
    exchange: str
    routing_key: str
    path: str

    @property
    def own_queue(self) -> bool:
        """True if each subscription has its own queue, bound to an exchange."""
        return self.kind in {"exchange", "topic"}


@lru_cache(KNOWN)
def parse_destination(path: str) -> StompDestination:
    """Parse a destination. Raises StompError if it is malformed.

    As in RabbitMQ, a name without any slash is that of a queue.
    """
    if not path:
        raise StompError("Invalid destination", "Destination cannot be blank")
    for prefix, parse in _KINDS:
        if path == prefix or path.startswith(prefix + "/"):
            found = parse(path, path[len(prefix) :])
            break
    else:
        if "/" in path:
            raise _unknown(path)
        found = StompDestination("queue", "", decode_name(path), path)
    return found


def _unknown(path: str) -> StompError:
    return StompError(
        "Unknown destination",
        f"'{path}' is not a valid destination.\nValid destination types are: {', '.join(PREFIXES)}.\n",
    )


def _named(kind: str, exchange: str = "") -> Callable[[str, str], StompDestination]:
    """Return a parser for a kind that is followed by one name."""

    def parse(path: str, rest: str) -> StompDestination:
        name = rest[1:]
        if not name or "/" in name:
            raise _invalid(kind, rest)
        return StompDestination(kind, exchange, decode_name(name), path)

    return parse


def _exchange(path: str, rest: str) -> StompDestination:
    """Parse ``/NAME`` or ``/NAME/KEY``: an exchange, not the default one, and a routing or binding key."""
    name, _, key = rest[1:].partition("/")
    if not name or "/" in key:
        raise _invalid("exchange", rest)
    return StompDestination("exchange", decode_name(name), decode_name(key), path)


def _reply(path: str, rest: str) -> StompDestination:
    """Parse the name of a reply queue, which may contain slashes."""
    if not rest[1:]:
        raise _invalid("reply_queue", rest)
    return StompDestination("reply-queue", "", decode_name(rest[1:]), path)


def _invalid(kind: str, rest: str) -> StompError:
    return StompError("Invalid destination", f"'{rest}' is not a valid {kind} destination\n")


_KINDS: tuple[tuple[str, Callable[[str, str], StompDestination]], ...] = (
    ("/queue", _named("queue")),
    ("/topic", _named("topic", TOPIC_EXCHANGE)),
    ("/exchange", _exchange),
    ("/amq/queue", _named("amqqueue")),
    ("/temp-queue", _named("temp_queue")),
    ("/reply-queue", _reply),
)


def destination_of(exchange: str, routing_key: str) -> str:
    """Return the destination of a message that was published to this exchange with this key."""
    if not exchange:
        return f"/queue/{encode_name(routing_key)}"
    if exchange == TOPIC_EXCHANGE:
        return f"/topic/{encode_name(routing_key)}"
    if not routing_key:
        return f"/exchange/{encode_name(exchange)}"
    return f"/exchange/{encode_name(exchange)}/{encode_name(routing_key)}"


def reply_destination(reply_to: str) -> str:
    """Return the destination for replies: ``reply_to`` itself, or the destination of the queue named so."""
    return reply_to if reply_to.startswith("/") else REPLY_QUEUE + reply_to


def decode_name(text: str) -> str:
    """Replace percent-encoded bytes; a percent sign with no two digits after it stands for itself.

    Raises StompError for a name of more than NAME_MAX bytes.
    """
    data = text.encode("utf-8", "surrogateescape")
    if b"%" in data and len(data) <= ENCODED_MAX:
        data = _ENCODED.sub(lambda found: bytes((int(found[1], 16),)), data)
    if len(data) > NAME_MAX:
        raise StompError("Invalid destination", f"A name in a destination may have {NAME_MAX} bytes\n")
    return data.decode("utf-8", "surrogateescape")


def encode_name(name: str) -> str:
    """Percent-encode slashes, percent signs and all but printable ASCII in a name, as RabbitMQ does."""
    data = name.encode("utf-8", "surrogateescape")
    return _TO_ENCODE.sub(lambda found: b"%%%02X" % found[0][0], data).decode("ascii")
