"""Helpers to evaluate selectors for messages."""

from typing import Any

from leveret.protocol.amqp.properties import Properties
from leveret.router.selector import Selector, compile_in_slices
from leveret.router.turns.backlog import at_once

TRUE, FALSE, UNKNOWN = True, False, None


def compile_selector(text: str) -> Selector:
    """All slices of a compilation."""
    return at_once(compile_in_slices(text))


def matches(selector: str, headers: dict[str, Any] | None = None, **properties: Any) -> bool:
    return compile_selector(selector).accepts(headers or {}, Properties(**properties))


def verdict(condition: str, headers: dict[str, Any] | None = None, **properties: Any) -> bool | None:
    """TRUE, FALSE or UNKNOWN: a condition is FALSE when its negation is TRUE."""
    if matches(condition, headers, **properties):
        return TRUE
    return FALSE if matches(f"NOT ({condition})", headers, **properties) else UNKNOWN
