"""Selectors: conditions on a message's headers and properties, in the language of JMS 2.0, section 3.8.1.

Responsible for the language of the binding argument ``x-selector``; ``docs/selectors.md`` describes it. Not
for the time of evaluation (see ``exchange/routing``). A selector is compiled once, to a tree of closures
(``expression``), which is called for each message.
"""

from typing import TYPE_CHECKING

from leveret.protocol.amqp.content_frames import FLAGS_OFFSET
from leveret.protocol.amqp.header_picker import HeaderNames, is_small
from leveret.protocol.amqp.properties import Properties, decode_without_headers
from leveret.router.selector.errors import SelectorError
from leveret.router.turns.backlog import Slicing

if TYPE_CHECKING:
    from leveret.protocol.amqp.message import Message
    from leveret.router.selector.expression import Expression, Headers

NO_PROPERTIES = Properties()
__all__ = ["NO_PROPERTIES", "Selector", "SelectorError", "compile_in_slices", "fields_of"]


class Selector:
    """A compiled selector.

    ``text`` is its source; ``cost`` is its longest time for a message, in units of the time to evaluate one
    name. ``paths`` are the headers that it reads, and entries of tables in headers; ``reads_properties`` is
    True if it reads other properties. ``required`` as in ``Expression``.
    """

    __slots__ = ("_evaluate", "_names", "cost", "paths", "reads_properties", "required", "text")

    def __init__(self, text: str, condition: "Expression") -> None:
        self.text = text
        self.cost = condition.cost
        self.paths = condition.paths
        self.reads_properties = condition.reads_properties
        self.required = condition.required
        self._evaluate = condition.evaluate
        self._names: HeaderNames | None = None

    def accepts(self, headers: "Headers", properties: Properties) -> bool:
        """Return True if the condition is TRUE, not FALSE or UNKNOWN, for these headers and properties.

        ``headers`` needs to contain only the headers in ``paths``. Raises nothing.
        """
        return self._evaluate(headers, properties) is True

    def check(self, message: "Message") -> Slicing[bool]:
        """Return True if the condition is TRUE for a message; in slices if it has many headers."""
        names = self._names
        if names is None:
            names = self._names = HeaderNames()
            for path in self.paths:
                names.add(path)
        headers = names.pick(message) if is_small(message) else (yield from names.pick_in_slices(message))
        return self.accepts(headers, fields_of(message) if self.reads_properties else NO_PROPERTIES)

    def __repr__(self) -> str:
        return f"Selector({self.text!r})"


def fields_of(message: "Message") -> Properties:
    """Return the properties of a message without its headers."""
    return decode_without_headers(message.header_bytes, FLAGS_OFFSET)


def compile_in_slices(text: str) -> Slicing[Selector]:
    """Compile a selector in slices; a long one takes 8 ms.

    Raises SelectorError with the expected token and its position.
    """
    # The import takes a tenth of a second, which commands that compile no selector never pay.
    from leveret.router.selector.parser import parse  # noqa: PLC0415

    condition = yield from parse(text)
    return Selector(text, condition)
