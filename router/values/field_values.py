"""Field values: equality, tests of type, and the forms of reply texts.

The texts are RabbitMQ's: Erlang terms and the names of AMQP field types. RabbitMQ breaks an array or a table
of more than a line into several lines; here each stays on one.
"""

from collections.abc import Hashable
from decimal import Decimal
from typing import Any, TypeGuard

from leveret.protocol.amqp.packed_table import PackedTable
from leveret.protocol.amqp.table import Long, Timestamp

ESCAPES = str.maketrans(
    {
        "\b": "\\b",
        "\t": "\\t",
        "\n": "\\n",
        "\v": "\\v",
        "\f": "\\f",
        "\r": "\\r",
        "\x1b": "\\e",
        '"': '\\"',
        "\\": "\\\\",
    }
)
PRINTABLE = frozenset(b"\b\t\n\v\f\r\x1b") | frozenset(range(0x20, 0x7F)) | frozenset(range(0xA0, 0x100))


def canonical(value: object) -> Hashable:
    """Return a hashable form of a field value, equal only for the same value of the same type.

    In Python ``True == 1 == 1.0``; in a field table they differ, so each scalar carries its type. The order
    of a nested table counts, as in RabbitMQ; the width of an integer does not, because decoding does not keep
    it.
    """
    if isinstance(value, dict):
        return (dict, tuple((key, canonical(item)) for key, item in value.items()))
    if isinstance(value, list):
        return (list, tuple(map(canonical, value)))
    if isinstance(value, float | Decimal):
        return (type(value), repr(value))  # not a number equals itself, and 1.0 is not 1.00
    return (type(value), value)


def is_integer(value: object) -> TypeGuard[int]:
    """Return True for an integer; in Python booleans and timestamps are integers, too."""
    return isinstance(value, int) and not isinstance(value, bool | Timestamp)


def type_name(value: object) -> str:  # noqa: PLR0911 - one return for each type
    """Return the field type that ``value`` is sent as; of integers, the one for its size."""
    match value:
        case None:
            return "void"
        case bool():
            return "bool"
        case Timestamp():
            return "timestamp"
        case Long():
            return "long"
        case int():
            return "signedint" if -(2**31) <= value < 2**31 else "long"
        case float():
            return "double"
        case str():
            return "longstr"
        case bytes():
            return "binary"
        case Decimal():
            return "decimal"
        case dict():
            return "table"
        case list():
            return "array"
    raise TypeError(f"{type(value).__name__} is no field value")


def term(value: object) -> str:  # noqa: PLR0911 - one return for each type
    """Return ``value`` as an Erlang term: ``<<"a">>`` for a string, ``[{signedint,1}]`` for an array."""
    match value:
        case None:
            return "undefined"
        case bool():
            return "true" if value else "false"
        case str():
            return binary(value.encode("utf-8", "surrogateescape"))
        case bytes():
            return binary(value)
        case Decimal():
            scale = -int(value.as_tuple().exponent)
            return f"{{{scale},{int(value.scaleb(scale))}}}"
        case dict():
            entries = (f"{{{term(key)},{type_name(item)},{term(item)}}}" for key, item in value.items())
            return f"[{','.join(entries)}]"
        case list():
            return f"[{','.join(f'{{{type_name(item)},{term(item)}}}' for item in value)}]"
        case _:
            return str(value)


def binary(data: bytes) -> str:
    """Return a binary: quoted if every byte is printable Latin-1, else a list of bytes."""
    if data and PRINTABLE.issuperset(data):
        return f'<<"{data.decode("utf-8", "surrogateescape").translate(ESCAPES)}">>'
    return f"<<{','.join(map(str, data))}>>"


def json_term(value: Any) -> str:
    """Return a JSON value as an Erlang term, as RabbitMQ shows it."""
    match value:
        case None:
            return "null"
        case list():
            return f"[{','.join(map(json_term, value))}]"
        case dict():
            return f"#{{{','.join(f'{term(key)} => {json_term(item)}' for key, item in value.items())}}}"
    return term(value)


def plain(value: Any) -> Any:
    """Return a field value as JSON has it: without the types of timestamps and integers, bytes as text."""
    match value:
        case dict() | PackedTable():
            return {str(key): plain(item) for key, item in value.items()}
        case list():
            return [plain(item) for item in value]
        case bytes():
            return value.decode("utf-8", "surrogateescape")
        case Decimal():
            return float(value)
        case Timestamp() | Long():
            return int(value)
    return value
