"""Size limits of names, field tables, JSON values and messages, the same for every protocol.

Responsible for the checks that declare, bind, publish and administration call, from AMQP, STOMP, the HTTP
API, definitions and super streams, before they create or store anything. A value that passes can be written
to disk and read back, sent to a client, and exported. Not for the meaning of a name or an argument (see
``arguments``, ``session``).

RabbitMQ 3.10 takes longer names, larger numbers and deeper tables from its HTTP API and from definitions than
AMQP can carry, and cannot send them to any client; see docs/known-differences.md.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from leveret.protocol.amqp.constants import SHORTSTR_MAX
from leveret.protocol.amqp.message import Message
from leveret.protocol.amqp.properties import Properties
from leveret.protocol.amqp.table import (
    MAX_DEPTH,
    MAX_ENTRIES,
    TOO_DEEP,
    TOO_LARGE,
    TOO_MANY,
    Timestamp,
    encode_table,
)
from leveret.protocol.errors import PreconditionFailed

LINE_BREAKS = str.maketrans("", "", "\r\n")  # removed from the names of exchanges and queues
# Values in the arguments of one object, nested ones included. Lists and exports handle the arguments of an
# object as a whole, and 16,000 values take 10 ms each time.
MAX_ARGUMENTS = 1024
INTEGER_MIN, INTEGER_MAX = -(2**63), 2**63 - 1  # the range of a field table's 64-bit integer


def refused_name(what: str, name: str) -> str:
    """Return the reason why a name cannot be encoded as an AMQP short string; "" if it can.

    ``what`` names the field in the text. Bytes that are not UTF-8 are accepted as surrogate escapes, as STOMP
    sends them; other surrogates are refused.
    """
    try:
        size = len(name.encode("utf-8", "surrogateescape"))
    except UnicodeEncodeError:
        return f"{what} is not valid UTF-8"
    # The text is that of RabbitMQ's HTTP API, where 255 bytes are accepted too.
    return f"{what} should be less than 255 bytes, actually was {size}" if size > SHORTSTR_MAX else ""


def check_name(what: str, name: str) -> None:
    """Raise PreconditionFailed unless ``name`` fits in a short string; ``what`` names the field."""
    if refusal := refused_name(what, name):
        raise PreconditionFailed(refusal)


def check_table(what: str, table: Mapping[str, Any]) -> None:
    """Raise PreconditionFailed for illegal arguments of a new object.

    These cannot be encoded, have more than ``MAX_ARGUMENTS`` values, or could be exported to definitions and
    not imported again.
    """
    check_stored_table(what, table)
    try:
        count = sum(1 for _ in _flat(table.values()))
        if count > MAX_ARGUMENTS:
            raise ValueError(f"{count} values; at most {MAX_ARGUMENTS} are allowed, nested ones included")
        _check_timestamps(table.values())
    except ValueError as error:
        raise PreconditionFailed(f"invalid arguments for {what}: {error}") from None


def check_stored_table(what: str, table: Mapping[str, Any]) -> None:
    """Raise PreconditionFailed for arguments that cannot be encoded, and so neither stored nor compared.

    Stored objects may have other arguments that ``check_table`` refuses, because earlier versions accepted
    them. A binding's arguments are stored sorted by name, all others in the client's order. The size is the
    same in either order, so this check covers both.
    """
    try:
        encode_table(table)
    except (ValueError, TypeError) as error:
        where = _where("argument", table)
        raise PreconditionFailed(f"invalid arguments for {what}: {where}{_reason(error)}") from None


def _where(what: str, table: Mapping[str, Any]) -> str:
    """Return ``argument 'x': `` for the first entry of a table that cannot be encoded; "" if each can."""
    for name, value in table.items():
        try:
            encode_table({name: value})
        except (ValueError, TypeError):
            return f"{what} '{name}': ".encode("utf-8", "backslashreplace").decode()
    return ""


def _reason(error: ValueError | TypeError) -> str:
    return "not valid UTF-8" if isinstance(error, UnicodeEncodeError) else str(error)


def _flat(values: Iterable[Any]) -> Iterator[Any]:
    """Yield the values of a table or an array and of all those that are nested in it."""
    for value in values:
        yield value
        if isinstance(value, dict):
            yield from _flat(value.values())
        elif isinstance(value, list):
            yield from _flat(value)


def _check_timestamps(values: Iterable[Any]) -> None:
    """Raise ValueError for a timestamp over INTEGER_MAX.

    JSON shows a timestamp as a number, and such a number is refused on import.
    """
    for value in _flat(values):
        if isinstance(value, Timestamp) and value > INTEGER_MAX:
            raise ValueError(f"the timestamp {value} does not fit in 63 bits")


def build_message(
    exchange: str,
    routing_key: str,
    properties: Properties,
    body: bytes | bytearray,
    *,
    frame_max: int,
    mandatory: bool = False,
) -> Message:
    """Build the message of a publisher that does not speak AMQP.

    Raises PreconditionFailed for a message that no AMQP publisher could have sent: names, properties or
    headers beyond the limits, or a header frame of more than ``frame_max`` bytes (0: no limit), which cannot
    be delivered.
    """
    check_name("exchange", exchange)
    check_name("routing_key", routing_key)
    try:
        message = Message.build(exchange, routing_key, properties, body, mandatory=mandatory)
    except (ValueError, TypeError) as error:
        where = _where("header", properties.headers or {}) or "its properties: "
        raise PreconditionFailed(f"invalid message: {where}{_reason(error)}") from None
    size = len(message.header_frame)
    if frame_max and size > frame_max:
        raise PreconditionFailed(
            f"invalid message: its properties need a frame of {size} bytes, at most {frame_max} fit; "
            "put large values into the body"
        )
    return message


def check_json(what: str, value: Any) -> None:
    """Raise ValueError for a JSON value that is nested too deep or holds an integer of more than 64 bits.

    Policies and parameters are stored as JSON, and definitions exchange it.
    """
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH):
        level = [inner for each in level for inner in _parts(what, each)]
        if not level:
            return
    raise ValueError(f"{what}: {TOO_DEEP}")


def _parts(what: str, value: Any) -> Iterator[Any]:
    """Check one value without its content; yield the values directly inside it."""
    if isinstance(value, Mapping | list):
        if len(value) > MAX_ENTRIES:
            kind = "object" if isinstance(value, Mapping) else "list"
            raise ValueError(f"{what}: {TOO_MANY.format(MAX_ENTRIES, kind)}")
        yield from value.values() if isinstance(value, Mapping) else value
    elif isinstance(value, int) and not INTEGER_MIN <= value <= INTEGER_MAX:
        raise ValueError(f"{what}: {TOO_LARGE.format(value)}")
