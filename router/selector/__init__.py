"""Selectors: conditions on a message's headers and properties, in the language of JMS 2.0, section 3.8.1.

Responsible for the language of the binding argument ``x-selector``; ``docs/selectors.md`` describes it. Not
for the time of evaluation (see ``exchange/routing``). A selector is compiled once, to a tree of closures
(``expression``), and from then on only called.
"""

from typing import TYPE_CHECKING

from leveret.router.selector.errors import SelectorError
from leveret.router.turns.backlog import Slicing

if TYPE_CHECKING:
    from leveret.protocol.amqp.properties import Properties
    from leveret.router.selector.expression import Evaluate

__all__ = ["Selector", "SelectorError", "compile_in_slices"]


class Selector:
    """A compiled selector. ``text`` is its source, ``cost`` its longest time for a message, in times that of
    one name.
    """

    __slots__ = ("_evaluate", "cost", "text")

    def __init__(self, text: str, evaluate: "Evaluate", cost: int) -> None:
        self.text = text
        self.cost = cost
        self._evaluate = evaluate

    def matches(self, properties: "Properties") -> bool:
        """Return True if the condition is TRUE for these properties, not FALSE or UNKNOWN. Raises nothing."""
        return self._evaluate(properties.headers or {}, properties) is True

    def __repr__(self) -> str:
        return f"Selector({self.text!r})"


def compile_in_slices(text: str) -> Slicing[Selector]:
    """Compile a selector in slices; a long one takes 8 ms.

    Raises SelectorError with the expected token and its position.
    """
    # The import takes a tenth of a second, which commands that compile no selector never pay.
    from leveret.router.selector.parser import parse  # noqa: PLC0415

    condition = yield from parse(text)
    return Selector(text, condition.evaluate, condition.cost)
