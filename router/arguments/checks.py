"""Checks of single values of arguments.

A check takes a field value of any type. It returns "" for a valid value, and RabbitMQ 3.10's text for an
invalid one. Checks that concern several arguments, or the queue's properties, are in ``queue``.
"""

import re
from collections.abc import Callable
from typing import Any

from leveret.router.values.bounds import refused_name
from leveret.router.values.field_values import is_integer, type_name

Check = Callable[[Any], str]

EXPIRY_MAX = 10 * 365 * 24 * 3600 * 1000  # ms: RabbitMQ's longest TTL, ten years
PRIORITY_MAX = 255
FILTER_SIZES = 16, 255  # bytes, smallest and largest

_AGE = re.compile(r"0*([1-9][0-9]{0,14})([YMDhms])")
_DAY = 24 * 3600
_SECONDS = {"Y": 365 * _DAY, "M": 30 * _DAY, "D": _DAY, "h": 3600, "m": 60, "s": 1}


def parse_age(text: str) -> int | None:
    """Return the ms of an age such as ``7D`` (RabbitMQ, "Streams"); None for other text, and for 0 days."""
    found = _AGE.fullmatch(text)
    if found is None:
        return None
    return int(found[1]) * _SECONDS[found[2]] * 1000


def integer(value: Any) -> str:
    return "" if is_integer(value) else f'"expected integer, got {type_name(value)}"'


def natural(value: Any) -> str:
    return integer(value) or (f"{{value_negative,{value}}}" if value < 0 else "")


def positive(value: Any) -> str:
    return natural(value) or ("{value_zero,0}" if value == 0 else "")


def milliseconds(value: Any) -> str:
    return natural(value) or (f"{{value_too_large,{value}}}" if value > EXPIRY_MAX else "")


def positive_milliseconds(value: Any) -> str:
    return positive(value) or milliseconds(value)


def priority(value: Any) -> str:
    return natural(value) or (f"{{max_value_exceeded,{value}}}" if value > PRIORITY_MAX else "")


def filter_size(value: Any) -> str:
    smallest, largest = FILTER_SIZES
    return natural(value) or ("" if smallest <= value <= largest else f"{{value_out_of_range,{value}}}")


def version(value: Any) -> str:
    return integer(value) or ("" if value in (1, 2) else f"\"unsupported queue version '{value}'\"")


def _typed(kind: type, value: object) -> str:
    return "" if isinstance(value, kind) else f"{{unacceptable_type,{type_name(value)}}}"


def boolean(value: Any) -> str:
    return _typed(bool, value)


def text(value: Any) -> str:
    return _typed(str, value)


def routing_key(value: Any) -> str:
    """Refuse text that no delivery could carry as its routing key."""
    return text(value) or refused_name("the routing key", value)


def max_age(value: Any) -> str:
    return text(value) or ("" if parse_age(value) else "invalid_max_age")


def one_of(*values: str, otherwise: str) -> Check:
    """Make a check for these texts; ``otherwise`` is the text for another one, which replaces ``{}``."""

    def check(value: Any) -> str:
        return text(value) or ("" if value in values else otherwise.format(value))

    return check
