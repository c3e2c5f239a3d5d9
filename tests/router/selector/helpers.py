"""What a selector says of a message, seen from outside."""

from typing import Any

from leveret.protocol.amqp.properties import Properties
from leveret.router.selector import compile_selector

TRUE, FALSE, UNKNOWN = True, False, None


def matches(selector: str, headers: dict[str, Any] | None = None, **properties: Any) -> bool:
    return compile_selector(selector).matches(Properties(headers=headers, **properties))


def verdict(condition: str, headers: dict[str, Any] | None = None, **properties: Any) -> bool | None:
    """TRUE, FALSE or UNKNOWN: a condition is FALSE when its negation is TRUE."""
    if matches(condition, headers, **properties):
        return TRUE
    return FALSE if matches(f"NOT ({condition})", headers, **properties) else UNKNOWN
