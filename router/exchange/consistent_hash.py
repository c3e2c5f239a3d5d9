"""The consistent-hash exchange of RabbitMQ's plugin: a hash sends each message to one destination.

The binding key is a weight, and a destination's share of the messages is its share of the weights. The
routing key is hashed, or the header or property that the argument ``hash-header`` or ``hash-property`` names.
Messages without that header or property all go to the same destination.

A new destination takes keys from the others; no keys move between the others. The keys of a removed
destination are shared among the rest. The result depends only on names and weights, so keys keep their queues
over a restart.

A destination counts once, as in RabbitMQ: of several bindings to it the oldest sets its weight. (RabbitMQ
stops routing to a destination when any of its bindings is removed; here the next oldest sets the weight.)
"""

import re
from collections.abc import Mapping
from hashlib import blake2b
from math import inf, log
from typing import TYPE_CHECKING, NamedTuple

from leveret.protocol.amqp.properties import decode_without_headers
from leveret.protocol.amqp.table import Value
from leveret.protocol.errors import PreconditionFailed
from leveret.router.exchange.base import Binding, Exchange
from leveret.router.exchange.hashing import stable_hash
from leveret.router.values.field_values import term, type_name

if TYPE_CHECKING:
    from leveret.protocol.amqp.message import Message

PROPERTIES = ("correlation_id", "message_id", "timestamp")
SLOTS = 1 << 16  # with a hundred queues the shares are exact to a few percent
MAX_WEIGHT = 1_000_000


class ConsistentHashExchange(Exchange):
    """One destination for each hash, by weighted rendezvous hashing.

    Hashes are divided into slots. For each slot every destination has a pseudo-random waiting time,
    exponential with the weight as its rate, which depends only on slot and destination. The destination with
    the shortest one owns the slot, so its probability is proportional to its weight. Owners are computed when
    a slot is first used. After a change, a slot whose owner still exists compares the owner with newer
    destinations only; a slot that lost its owner compares all destinations.
    """

    type = "x-consistent-hash"
    description = "Consistent Hashing Exchange"
    by_key = False

    def _prepare(self) -> None:
        self._header = self._string("hash-header")
        self._property = self._string("hash-property")
        if self._header is not None and self._property is not None:
            raise PreconditionFailed("hash-header and hash-property are mutually exclusive")
        if self._property is not None and self._property not in PROPERTIES:
            raise PreconditionFailed(f"Unsupported property: {self._property}")
        self._owners: dict[int, SlotOwner] = {}  # by slot
        self._counted: dict[int, Rival] = {}  # by a growing number, the oldest binding to each destination
        self._numbers: dict[Binding, int] = {}  # the number of each of these bindings
        self._last = 0  # the last number
        self._changes = 0

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
        if owner is None or owner.changes != self._changes:
            owner = self._owners[slot] = self._first(slot, owner)
        return self._counted[owner.number].bindings

    def _hashed(self, routing_key: str, message: "Message") -> str:
        if self._header is not None:
            value = message.header(self._header)
        elif self._property is not None:
            # To decode 130 kB of headers as well would take 20 ms.
            value = getattr(decode_without_headers(message.raw_properties, 0), self._property)
        else:
            return routing_key
        if value is None:
            return ""
        return value if isinstance(value, str) else repr(value)

    def _first(self, slot: int, last: "SlotOwner | None") -> "SlotOwner":
        """Return the owner of a slot, whose owner was ``last`` before the latest changes."""
        first, shortest, since = 0, inf, 0
        if last is not None and last.number in self._counted:
            first, shortest, since = last.number, last.wait, last.last
        prefix = b"%d " % slot
        for number, rival in reversed(self._counted.items()):
            if number <= since:
                break
            wait = _wait(prefix, rival)
            if wait < shortest:
                first, shortest = number, wait
        return SlotOwner(first, shortest, self._last, self._changes)

    def _string(self, argument: str) -> str | None:
        if argument not in self.arguments:
            return None
        value = self.arguments[argument]
        if not isinstance(value, str):
            # RabbitMQ ends the connection with an internal error.
            raise PreconditionFailed(f"invalid type '{type_name(value)}' for arg '{argument}'")
        return value

    def _insert(self, binding: Binding) -> None:
        if len(self._by_destination[binding.identity[:2]]) == 1:
            self._count(binding)

    def _discard(self, binding: Binding) -> None:
        number = self._numbers.pop(binding, None)
        if number is not None:
            del self._counted[number]
            self._changes += 1
            siblings = self._by_destination.get(binding.identity[:2])
            if siblings:
                self._count(next(iter(siblings)))
            elif not self._counted:
                self._owners.clear()

    def _count(self, binding: Binding) -> None:
        """Let a binding compete for slots. It must be the oldest binding to its destination."""
        self._last += 1
        self._changes += 1
        name = " ".join(binding.identity[:2]).encode("utf-8", "surrogateescape")
        self._counted[self._last] = Rival((binding,), name, int(binding.routing_key))
        self._numbers[binding] = self._last


class SlotOwner(NamedTuple):
    """The owner of a slot: the number of its binding and its waiting time.

    A reference to the binding would keep a deleted queue in memory. ``last`` and ``changes`` are the values
    of the exchange when the owner was found.
    """

    number: int
    wait: float
    last: int
    changes: int


class Rival(NamedTuple):
    """A binding that competes for slots, in a tuple for ``match``, with its destination's name and its
    weight.
    """

    bindings: tuple[Binding]
    name: bytes
    weight: int


def _wait(slot: bytes, rival: Rival) -> float:
    """Return a binding's waiting time for a slot. Called for each binding, and so as short as possible."""
    drawn = int.from_bytes(blake2b(slot + rival.name, digest_size=8).digest()) + 1
    return -log(drawn / 2**64) / rival.weight  # logarithm of a number above 0, at most 1
