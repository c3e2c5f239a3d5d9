"""The selectors of an exchange's bindings, and the choice of the bindings whose selector accepts a message.

Responsible for the headers that all these selectors need, which are read once for each message, and for an
index of the selectors that require a header to have certain values. Not for the rule of the exchange's type.
"""

from collections.abc import Container, Sequence
from typing import TYPE_CHECKING

from leveret.protocol.amqp.header_picker import HeaderNames, is_small
from leveret.protocol.amqp.table import Table
from leveret.router.selector import NO_PROPERTIES, Selector, fields_of
from leveret.router.selector.expression import PLAIN, Constant, plain
from leveret.router.turns.backlog import Slicing

if TYPE_CHECKING:
    from leveret.protocol.amqp.message import Message
    from leveret.router.exchange.base import Binding, BindingDestination

STEPS = 2000  # bindings, or steps of their selectors, checked in a slice
FEW = 4  # bindings that are checked without the index


class BindingSelectors:
    """The bindings of an exchange that have selectors. ``cost`` is the sum of the costs of their selectors.

    A binding whose selector has ``required`` values is indexed under each of them, by header and value.
    """

    __slots__ = ("_indexed", "_names", "_others", "_with_properties", "cost")

    def __init__(self) -> None:
        self.cost = 0
        self._names = HeaderNames()
        self._with_properties = 0  # number of selectors that read properties
        self._indexed: dict[str, dict[Constant, dict[Binding, None]]] = {}
        self._others: dict[Binding, None] = {}

    def add(self, binding: "Binding", selector: Selector) -> None:
        """Add a binding with this selector."""
        self.cost += selector.cost
        self._with_properties += selector.reads_properties
        for path in selector.paths:
            self._names.add(path)
        if selector.required is None:
            self._others[binding] = None
            return
        for name, values in selector.required.items():
            by_value = self._indexed.setdefault(name, {})
            for value in values:
                by_value.setdefault(value, {})[binding] = None

    def remove(self, binding: "Binding", selector: Selector) -> None:
        """Remove a binding that was added with this selector."""
        self.cost -= selector.cost
        self._with_properties -= selector.reads_properties
        for path in selector.paths:
            self._names.remove(path)
        if selector.required is None:
            del self._others[binding]
            return
        for name, values in selector.required.items():
            by_value = self._indexed[name]
            for value in values:
                bindings = by_value[value]
                del bindings[binding]
                if not bindings:
                    del by_value[value]
            if not by_value:
                del self._indexed[name]

    def destinations(
        self, bindings: Sequence["Binding"], message: "Message"
    ) -> Slicing[list["BindingDestination"]]:
        """Return the destinations of the bindings whose selector accepts the message, or that have none.

        Works in slices of about ``STEPS`` steps. One slice is enough for few headers and cheap selectors.
        """
        if is_small(message):
            headers = self._names.pick(message)
        else:
            headers = yield from self._names.pick_in_slices(message)
        properties = fields_of(message) if self._with_properties else NO_PROPERTIES
        possible = self._possible(headers) if len(bindings) > FEW else bindings
        found = []
        left = STEPS
        for binding in bindings:
            selector = binding.selector
            if selector is None:
                found.append(binding.destination)
            elif binding in possible:
                left -= selector.cost
                if selector.accepts(headers, properties):
                    found.append(binding.destination)
            left -= 1
            if left <= 0:
                left = STEPS
                yield
        return found

    def _possible(self, headers: Table) -> Container["Binding"]:
        """Return the bindings whose selectors can be TRUE for a message with these headers."""
        found = set(self._others)
        for name, value in headers.items():
            by_value = self._indexed.get(name)
            if by_value is not None:
                if value.__class__ not in PLAIN:
                    value = plain(value)  # noqa: PLW2901
                if value.__class__ in PLAIN:
                    found.update(by_value.get(value, ()))  # type: ignore[arg-type]  # plain values are hashable
        return found
