"""Parsers for boolean and integer values of STOMP headers.

Source: RabbitMQ's STOMP plugin, which accepts ``True`` and ``False``, as Python writes them, besides ``true``
and ``false``, and accepts blanks around a number and a plus sign before it. For any other value RabbitMQ
sends ``Processing error`` or ignores the header, depending on the header; here it is always an error that
names the header.
"""

import re

from leveret.protocol.stomp.errors import StompError

INTEGER_MAX = 2**63 - 1
SHOWN = 80  # characters of an invalid value that the error text repeats
_BOOLEANS = {"true": True, "false": False}
PLAIN_DIGITS = 20  # most digits of a number that is parsed without the pattern
_NUMBER = re.compile(r" *([+-]?)0*([0-9]{1,20}) *")


def parse_boolean(header: str, text: str) -> bool:
    """Parse ``true`` or ``false``, in upper or lower case. Raises StompError for any other text."""
    value = _BOOLEANS.get(text.lower())
    if value is None:
        raise StompError("Invalid header", f"'{header}' must be true or false, not '{text[:SHOWN]}'\n")
    return value


def parse_number(header: str, text: str, lowest: int = -INTEGER_MAX, highest: int = INTEGER_MAX) -> int:
    """Parse an integer from ``lowest`` to ``highest``. Raises StompError for any other text."""
    number = find_number(text)
    if number is None or not lowest <= number <= highest:
        wanted = "a whole number" if lowest < 0 else f"a number from {lowest} to {highest}"
        raise StompError("Invalid header", f"'{header}' must be {wanted}, not '{text[:SHOWN]}'\n")
    return number


def find_number(text: str) -> int | None:
    """Parse an integer; return None for any other text, and for one of more than 20 digits."""
    if text.isdecimal() and text.isascii() and len(text) <= PLAIN_DIGITS:
        return int(text)
    found = _NUMBER.fullmatch(text)
    return None if found is None else int(found[1] + found[2])
