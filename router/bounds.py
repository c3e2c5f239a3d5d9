"""The bounds of what is accepted: names, field tables, JSON values and messages, whichever way they come.

AMQP, STOMP, the HTTP API, definitions and super streams all end in the functions that declare, bind, publish
and administer, and those call this module before anything is made or kept. What passes here can be written to
disk and read back, sent to a client, and exported. What a name or an argument *means* is checked elsewhere.

RabbitMQ 3.10 takes longer names, larger numbers and deeper tables from its HTTP API and from definitions than
AMQP can carry, and cannot send them to any client; see docs/known-differences.md.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from protocol.amqp.constants import SHORTSTR_MAX
from protocol.amqp.message import Message
from protocol.amqp.properties import Properties
from protocol.amqp.table import MAX_DEPTH, MAX_ENTRIES, encode_table
from protocol.errors import PreconditionFailed

LINE_BREAKS = str.maketrans("", "", "\r\n")  # what is taken out of the names of exchanges and queues
INTEGER_MIN, INTEGER_MAX = -(2**63), 2**63 - 1  # what a field table and every protocol can say


def refused_name(what: str, name: str) -> str:
    """Return why a name cannot be a short string of AMQP; "" if it can.

    Bytes that are not UTF-8 may stand in it as surrogate escapes, as STOMP allows; other surrogates may not.
    """
    try:
        size = len(name.encode("utf-8", "surrogateescape"))
    except UnicodeEncodeError:
        return f"{what} is not valid UTF-8"
    # The text is that of RabbitMQ's HTTP API, where 255 bytes are accepted too.
    return f"{what} should be less than 255 bytes, actually was {size}" if size > SHORTSTR_MAX else ""


def check_name(what: str, name: str) -> None:
    """Raise PreconditionFailed unless ``name`` fits in a short string; ``what`` says whose it is."""
    if refusal := refused_name(what, name):
        raise PreconditionFailed(refusal)


def check_table(what: str, table: Mapping[str, Any]) -> None:
    """Raise PreconditionFailed for arguments that cannot be encoded, and so neither kept nor compared.

    A binding's arguments are kept in the order of their names, and the others as they came: the same bytes in
    another order, so that one check is enough for both.
    """
    try:
        encode_table(table)
    except UnicodeEncodeError:
        raise PreconditionFailed(f"invalid arguments for {what}: not valid UTF-8") from None
    except (ValueError, TypeError) as error:
        raise PreconditionFailed(f"invalid arguments for {what}: {error}") from None


def build_message(
    exchange: str,
    routing_key: str,
    properties: Properties,
    body: bytes,
    *,
    frame_max: int,
    mandatory: bool = False,
) -> Message:
    """Make the message of a publisher that is not bound by frames. Raises PreconditionFailed for what no AMQP
    publisher could have sent: names, properties or headers out of bounds, or a header frame of more than
    ``frame_max`` bytes (0: no limit), which no consumer would take.
    """
    check_name("exchange", exchange)
    check_name("routing_key", routing_key)
    try:
        message = Message.build(exchange, routing_key, properties, body, mandatory=mandatory)
    except UnicodeEncodeError:
        raise PreconditionFailed("invalid message: a property is not valid UTF-8") from None
    except (ValueError, TypeError) as error:
        raise PreconditionFailed(f"invalid message: {error}") from None
    size = len(message.header_frame)
    if frame_max and size > frame_max:
        raise PreconditionFailed(
            f"invalid message: its properties need a frame of {size} bytes, at most {frame_max} are possible"
        )
    return message


def check_json(what: str, value: Any) -> None:
    """Raise ValueError for a JSON value that is nested too deep, or with a number over 64 bits.

    That is what policies and parameters are kept as, and what definitions exchange.
    """
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH):
        level = [inner for each in level for inner in _parts(what, each)]
        if not level:
            return
    raise ValueError(f"{what}: nested more than {MAX_DEPTH} deep")


def _parts(what: str, value: Any) -> Iterator[Any]:
    """The values within one; the value itself is checked."""
    if isinstance(value, Mapping | list):
        if len(value) > MAX_ENTRIES:
            raise ValueError(f"{what}: more than {MAX_ENTRIES} entries in one object or list")
        yield from value.values() if isinstance(value, Mapping) else value
    elif isinstance(value, int) and not INTEGER_MIN <= value <= INTEGER_MAX:
        raise ValueError(f"{what}: an integer that does not fit in 64 bits")
