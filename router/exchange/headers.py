"""The headers exchange: bindings match header values, the routing key does not count (AMQP 0-9-1 3.1.3.4).

``x-match`` chooses whether all or any of a binding's arguments must match, and whether arguments whose names
begin with ``x-`` count (``all-with-x``, ``any-with-x``). A void argument only requires that the header
exists. A binding without arguments matches every message with ``all``, and none with ``any``.

Values compare as in RabbitMQ: numbers and timestamps by value, whatever their type; strings and binaries by
their bytes; arrays and tables by the types and values in them, in order.
"""

from collections.abc import Hashable, Mapping, Set
from decimal import Decimal
from itertools import chain
from typing import TYPE_CHECKING

from leveret.protocol.amqp.header_picker import HeaderNames, is_small
from leveret.protocol.amqp.table import Value
from leveret.protocol.errors import PreconditionFailed
from leveret.router.exchange.base import Binding, Exchange
from leveret.router.turns.backlog import Slicing, at_once
from leveret.router.values.field_values import canonical, term, type_name

if TYPE_CHECKING:
    from leveret.protocol.amqp.message import Message

Key = str | tuple[str, Hashable]  # a name, or a name with its comparable value
MODES = ("all", "any", "all-with-x", "any-with-x")
COMPARED = 1000  # headers of bindings that a message is compared with in a slice
NEVER_HEADERS = ("x-match", "x-selector")  # arguments that control the matching, in every mode


def comparable(value: Value) -> Hashable:
    """Return a form of a header value that is equal in Python if RabbitMQ considers the values equal."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    if isinstance(value, list | dict):
        return canonical(value) if value else ()  # an empty array is equal to an empty table
    if isinstance(value, bool | Decimal):
        return canonical(value)
    return value


class Pattern:
    """The condition of one binding: headers that must exist, and values that must be equal.

    ``paths`` are the parameters for ``HeaderNames.add``: the headers, each with a flag that is True if the
    content of a table or array in the header is needed.
    """

    __slots__ = ("every", "names", "paths", "size", "values")

    def __init__(self, arguments: Mapping[str, Value]) -> None:
        mode = str(arguments.get("x-match", "all"))
        self.every = mode.startswith("all")
        asked = {
            name: value
            for name, value in arguments.items()
            if name not in NEVER_HEADERS and (mode.endswith("-with-x") or not name.startswith("x-"))
        }
        self.paths = [((name,), isinstance(value, list | dict)) for name, value in asked.items()]
        self.names = frozenset(name for name, value in asked.items() if value is None)
        self.values = frozenset(
            (name, comparable(value)) for name, value in asked.items() if value is not None
        )

        self.size = 1 + len(asked)

    def met_by(self, names: Set[str], values: Set[tuple[str, Hashable]]) -> bool:
        """Return True if a message with these headers matches; ``values`` are names with their comparable
        values.
        """
        if self.every:
            return self.values <= values and self.names <= names
        return not (self.values.isdisjoint(values) and self.names.isdisjoint(names))


class HeadersExchange(Exchange):
    """Bindings by the headers in their conditions.

    A binding that needs any of its headers is indexed under each of these headers. A binding that needs all
    is indexed under only one: the header with the fewest bindings so far. A message is compared only with the
    bindings under its own headers, and only headers that occur in a binding are decoded.
    """

    type = "headers"
    description = "AMQP headers exchange, as per the AMQP specification"
    by_key = False

    def _prepare(self) -> None:
        self._keys: dict[Binding, list[Key]] = {}
        self._patterns: dict[Binding, Pattern] = {}
        self._names = HeaderNames()  # that occur in any pattern
        self._by_key: dict[Key, dict[Binding, Pattern]] = {}
        self._always: dict[Binding, None] = {}  # bindings for all of no headers

    def check_binding(self, routing_key: str, arguments: Mapping[str, Value]) -> None:
        mode = arguments.get("x-match", "all")
        if not isinstance(mode, str):
            raise PreconditionFailed(
                f"Invalid x-match field type {type_name(mode)} (value {term(mode)}); expected longstr"
            )
        if mode not in MODES:
            raise PreconditionFailed(
                f"Invalid x-match field value {term(mode)}; expected all, any, all-with-x, or any-with-x"
            )

    def match(self, routing_key: str, message: "Message") -> list[Binding]:
        return at_once(self.search(routing_key, message))

    def search(self, routing_key: str, message: "Message") -> Slicing[list[Binding]]:
        if is_small(message):
            headers = self._names.pick(message)
        else:
            headers = yield from self._names.pick_in_slices(message)
        names = headers.keys()
        values = {(name, comparable(value)) for name, value in headers.items()}
        found = dict(self._always)
        keys: chain[Key] = chain(names, values)
        left = COMPARED
        for key in keys:
            bindings = self._by_key.get(key)
            if bindings is None:
                continue
            for binding, pattern in list(bindings.items()):
                if binding not in found and (not pattern.every or pattern.met_by(names, values)):
                    found[binding] = None
                left -= pattern.size
                if left <= 0:
                    left = COMPARED
                    yield
        return list(found)

    def _insert(self, binding: Binding) -> None:
        pattern = self._patterns[binding] = Pattern(binding.arguments)
        for path, whole in pattern.paths:
            self._names.add(path, whole=whole)
        keys: list[Key] = [*pattern.names, *pattern.values]
        if pattern.every:
            if not keys:
                self._always[binding] = None
            keys = keys and [min(keys, key=lambda key: len(self._by_key.get(key, ())))]
        self._keys[binding] = keys
        for key in keys:
            self._by_key.setdefault(key, {})[binding] = pattern

    def _discard(self, binding: Binding) -> None:
        self._always.pop(binding, None)
        for path, whole in self._patterns.pop(binding).paths:
            self._names.remove(path, whole=whole)
        for key in self._keys.pop(binding):
            bindings = self._by_key[key]
            del bindings[binding]
            if not bindings:
                del self._by_key[key]
