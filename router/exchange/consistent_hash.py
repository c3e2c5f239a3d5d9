"""The consistent-hash exchange of RabbitMQ's plugin: each message goes to one destination, chosen by a hash.

The binding key is a weight, and a destination's share of the messages is its share of the weights. What is
hashed is the routing key, or what the arguments ``hash-header`` or ``hash-property`` name; messages without
it all go one way. A destination that comes or goes moves only the messages it gains or held, and which
messages those are depends on nothing but names and weights: keys keep their queues over a restart.

A destination counts once, as in RabbitMQ: of several bindings to it the oldest gives its weight. (RabbitMQ
stops routing to a destination when any one of them is removed; here the next oldest takes over.)
"""

import re
from collections.abc import Mapping
from math import log
from typing import TYPE_CHECKING

from protocol.amqp.table import Value
from protocol.errors import PreconditionFailed
from router.exchange.base import Binding, Exchange
from router.exchange.hashing import stable_hash
from router.terms import term, type_name

if TYPE_CHECKING:
    from protocol.amqp.message import Message

PROPERTIES = ("correlation_id", "message_id", "timestamp")
SLOTS = 1 << 16  # enough that shares are true within some percent for a hundred queues
MAX_WEIGHT = 1_000_000


class ConsistentHashExchange(Exchange):
    """One destination for each hash, by weighted rendezvous.

    Hashes fall into slots. For each slot every destination waits a random time that depends on the two
    names alone and is exponential with the weight as its rate; the first to come owns the slot, which
    happens with a probability proportional to the weight. Owners are found when a slot is first used.
    """

    type = "x-consistent-hash"
    by_key = False

    def _prepare(self) -> None:
        self._header = self._string("hash-header")
        self._property = self._string("hash-property")
        if self._header is not None and self._property is not None:
            raise PreconditionFailed("hash-header and hash-property are mutually exclusive")
        if self._property is not None and self._property not in PROPERTIES:
            raise PreconditionFailed(f"Unsupported property: {self._property}")
        self._owners: dict[int, tuple[Binding]] = {}  # by slot
        self._weights: dict[Binding, int] = {}  # of the bindings that count

    def check_binding(self, routing_key: str, arguments: Mapping[str, Value]) -> None:
        if not re.fullmatch(r"[+-]?[0-9]+", routing_key):
            raise PreconditionFailed(f"The binding key must be an integer: {term(routing_key)}")
        if int(routing_key) < 1:
            raise PreconditionFailed("The binding key must be greater than 0")
        if int(routing_key) > MAX_WEIGHT:
            raise PreconditionFailed(f"The binding key must not be greater than {MAX_WEIGHT}")

    def match(self, routing_key: str, message: "Message") -> tuple[Binding, ...]:
        if not self.bindings:
            return ()
        slot = stable_hash(self._hashed(routing_key, message)) % SLOTS
        owner = self._owners.get(slot)
        if owner is None:
            owner = self._owners[slot] = (self._first(slot),)
        return owner

    def _hashed(self, routing_key: str, message: "Message") -> str:
        if self._header is not None:
            value = message.headers.get(self._header)
        elif self._property is not None:
            value = getattr(message.properties, self._property)
        else:
            return routing_key
        if value is None:
            return ""
        return value if isinstance(value, str) else repr(value)

    def _first(self, slot: int) -> Binding:
        """The binding that owns a slot."""
        if not self._weights:
            oldest = (next(iter(bindings)) for bindings in self._by_destination.values())
            self._weights = {binding: int(binding.routing_key) for binding in oldest}

        def wait(binding: Binding) -> float:
            kind, name = binding.identity[:2]
            drawn = (stable_hash(f"{slot} {kind} {name}") + 1) / 2**64  # above 0, at most 1
            return -log(drawn) / self._weights[binding]

        return min(self._weights, key=wait)

    def _string(self, argument: str) -> str | None:
        if argument not in self.arguments:
            return None
        value = self.arguments[argument]
        if not isinstance(value, str):
            # RabbitMQ ends the connection with an internal error.
            raise PreconditionFailed(f"invalid type '{type_name(value)}' for arg '{argument}'")
        return value

    def _insert(self, binding: Binding) -> None:
        self._forget()

    def _discard(self, binding: Binding) -> None:
        self._forget()

    def _forget(self) -> None:
        self._owners.clear()
        self._weights.clear()
