"""The values of headers that are true or false, or a number: one parser for each, for all headers.

Source: RabbitMQ's STOMP plugin, which takes ``True`` and ``False``, as Python writes them, besides ``true``
and ``false``, and blanks around a number and a plus before it. Anything else it answers with a ``Processing
error`` or passes over, depending on the header; here it is always an error that names the header.
"""

import re

from protocol.stomp.errors import StompError

INTEGER_MAX = 2**63 - 1
SHOWN = 80  # characters of a wrong value that are told
_BOOLEANS = {"true": True, "false": False}
_NUMBER = re.compile(r" *([+-]?)0*([0-9]{1,20}) *")


def parse_boolean(header: str, text: str) -> bool:
    """Return the value of a header that is ``true`` or ``false``, in upper or lower case.

    Raises StompError for anything else.
    """
    value = _BOOLEANS.get(text.lower())
    if value is None:
        raise StompError("Invalid header", f"'{header}' must be true or false, not '{text[:SHOWN]}'\n")
    return value


def parse_number(header: str, text: str, lowest: int = -INTEGER_MAX, highest: int = INTEGER_MAX) -> int:
    """Return the value of a header that is a whole number from ``lowest`` to ``highest``.

    Raises StompError for anything else.
    """
    number = find_number(text)
    if number is None or not lowest <= number <= highest:
        wanted = "a whole number" if lowest < 0 else f"a number from {lowest} to {highest}"
        raise StompError("Invalid header", f"'{header}' must be {wanted}, not '{text[:SHOWN]}'\n")
    return number


def find_number(text: str) -> int | None:
    """Return the number that ``text`` is; None for other text, and for a number of more than 20 digits."""
    found = _NUMBER.fullmatch(text)
    return None if found is None else int(found[1] + found[2])
