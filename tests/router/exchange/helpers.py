"""Destinations and messages with just what exchanges look at."""

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from leveret.router.exchange import Binding, Exchange


@dataclass(eq=False)
class Queue:
    """Something to bind that is not an exchange."""

    name: str


@dataclass(eq=False)
class Message:
    """A message as an exchange sees one."""

    headers: dict[str, Any] = field(default_factory=dict)
    properties: Any = None
    frames: bytes = b""


def message(headers: dict[str, Any] | None = None, **properties: Any) -> Any:
    """A message with these headers and these properties; every other property is absent."""
    absent = dict.fromkeys(("correlation_id", "message_id", "timestamp"))
    return Message(headers or {}, SimpleNamespace(headers=headers, **absent | properties))


def bind(
    exchange: Exchange, destination: Any, key: str = "", arguments: dict[str, Any] | None = None
) -> Binding:
    """Bind ``destination``, a queue when only a name is given, and return the binding."""
    if isinstance(destination, str):
        destination = Queue(destination)
    binding = Binding(exchange, destination, key, arguments)
    assert exchange.add(binding)
    return binding


def matched(exchange: Exchange, key: str = "", headers: dict[str, Any] | None = None) -> list[str]:
    """The names of the destinations that a message matches, in order; twice if matched twice."""
    return sorted(binding.destination.name for binding in exchange.match(key, message(headers)))
