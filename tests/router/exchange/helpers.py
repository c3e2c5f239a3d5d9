"""Destinations and messages with just what exchanges look at."""

from dataclasses import dataclass
from typing import Any

from leveret.protocol.amqp.message import Message
from leveret.protocol.amqp.properties import Properties
from leveret.router.exchange import EXCHANGE_TYPES, Binding, Exchange

CHOOSING = frozenset(("x-consistent-hash", "x-modulus-hash", "x-random"))  # types that choose one destination
assert EXCHANGE_TYPES.keys() > CHOOSING


@dataclass(eq=False)
class Queue:
    """Something to bind that is not an exchange."""

    name: str


def message(headers: dict[str, Any] | None = None, **properties: Any) -> Message:
    """A message with these headers and these properties; every other property is absent."""
    return Message.build("", "", Properties(headers=headers, **properties), b"")


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
