"""Selectors: conditions on a message's headers and properties, in the language of JMS 2.0, section 3.8.1.

Owns the language that the binding argument ``x-selector`` is written in; ``docs/selectors.md`` describes it.
Does not own when a selector is asked: that is routing's business. A selector is compiled once, to a tree of
closures (``expression``), and from then on only called.
"""

from typing import TYPE_CHECKING

from leveret.router.selector.errors import SelectorError
from leveret.router.turns.backlog import Slicing, at_once

if TYPE_CHECKING:
    from leveret.protocol.amqp.properties import Properties
    from leveret.router.selector.expression import Evaluate

__all__ = ["Selector", "SelectorError", "compile_in_slices", "compile_selector", "load_parser"]


class Selector:
    """A compiled selector; ``text`` is what it was compiled from, ``cost`` how long it takes at most to match
    a message, in times what one name takes.
    """

    __slots__ = ("_evaluate", "cost", "text")

    def __init__(self, text: str, evaluate: "Evaluate", cost: int) -> None:
        self.text = text
        self.cost = cost
        self._evaluate = evaluate

    def matches(self, properties: "Properties") -> bool:
        """Whether the condition is TRUE, neither FALSE nor UNKNOWN, of these properties. Raises nothing."""
        return self._evaluate(properties.headers or {}, properties) is True

    def __repr__(self) -> str:
        return f"Selector({self.text!r})"


def compile_selector(text: str) -> Selector:
    """Compile a selector. Raises SelectorError, which says what was expected and where."""
    return at_once(compile_in_slices(text))


def compile_in_slices(text: str) -> Slicing[Selector]:
    """Do the same in slices: a long one takes 8 ms. Raises as ``compile_selector``."""
    # Costs a tenth of a second, which commands that compile no selector never pay.
    from leveret.router.selector.parser import parse  # noqa: PLC0415

    condition = yield from parse(text)
    return Selector(text, condition.evaluate, condition.cost)


def load_parser() -> None:
    """Make the parser, so that the first selector of a client does not: that takes 50 ms."""
    import leveret.router.selector.parser  # noqa: F401, PLC0415 - as above
