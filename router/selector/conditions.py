"""Conditions of selectors: comparisons, LIKE, IN, BETWEEN, IS NULL, and their combination.

Responsible for their three-valued logic, and for the values of headers that a condition requires.
"""

import operator
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from leveret.router.selector.errors import SelectorError
from leveret.router.selector.expression import (
    NUMBERS,
    Constant,
    Evaluate,
    Expression,
    Headers,
    Required,
    need,
    operation,
)
from leveret.router.selector.like import compile_like

if TYPE_CHECKING:
    from leveret.protocol.amqp.properties import Properties

MAX_LIKE_TEXT = 2048  # characters of a string that LIKE accepts
LIKE_COST = 4  # additional cost of LIKE compared with other comparisons
MAX_REQUIRED = 64  # values in ``Expression.required``

ALIKE = {str: frozenset({str}), bool: frozenset({bool}), int: NUMBERS, float: NUMBERS}
ORDERED = {int: NUMBERS, float: NUMBERS}
NOTHING_ALIKE: frozenset[type] = frozenset()

COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "<>": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
MIRRORED = {"=": "=", "<>": "<>", "<": ">", "<=": ">=", ">": "<", ">=": "<="}


def any_of(parts: Sequence[Expression]) -> Expression:
    """Make OR: TRUE if any part is, else UNKNOWN if any is, else FALSE."""
    return _combined("OR", parts, True)


def all_of(parts: Sequence[Expression]) -> Expression:
    """Make AND: FALSE if any part is, else UNKNOWN if any is, else TRUE."""
    return _combined("AND", parts, False)


def _combined(what: str, parts: Sequence[Expression], decisive: bool) -> Expression:
    """Make AND or OR: the first ``decisive`` part decides; if all are the opposite, so is the result."""
    for part in parts:
        need(part, "boolean", what)
    opposite = not decisive
    conditions = tuple(part.evaluate for part in parts)

    def evaluate(headers: Headers, properties: "Properties") -> bool | None:
        result: bool | None = opposite
        for condition in conditions:
            value: object = condition(headers, properties)
            if value is decisive:
                return decisive
            if value is not opposite:
                result = None
        return result

    required = _required_by_or(parts) if decisive else _required_by_and(parts)
    return operation(evaluate, "boolean", parts, required=required)


def _required_by_or(parts: Sequence[Expression]) -> Required | None:
    """Return ``required`` of an OR: the required values of all parts together.

    Returns None if a part requires no values, and for more than ``MAX_REQUIRED`` values.
    """
    found: dict[str, frozenset[Constant]] = {}
    for part in parts:
        if part.required is None:
            return None
        for name, values in part.required.items():
            found[name] = found.get(name, frozenset()) | values
    return found if sum(map(len, found.values())) <= MAX_REQUIRED else None


def _required_by_and(parts: Sequence[Expression]) -> Required | None:
    """Return ``required`` of an AND: that of the part with the fewest required values."""
    known = [part.required for part in parts if part.required is not None]
    return min(known, key=lambda each: sum(map(len, each.values())), default=None)


def negation(part: Expression, column: int) -> Expression:
    """Make NOT: UNKNOWN stays UNKNOWN."""
    need(part, "boolean", "NOT")
    return operation(_negated(part.evaluate), "boolean", (part,), column)


def _negated(condition: Evaluate) -> Evaluate:
    def evaluate(headers: Headers, properties: "Properties") -> bool | None:
        value = condition(headers, properties)
        return False if value is True else True if value is False else None

    return evaluate


def comparison(left: Expression, symbol: str, right: Expression) -> Expression:
    """Make a comparison.

    ``=`` and ``<>`` compare values of the same type, the others numbers; the result is UNKNOWN with NULL,
    else FALSE.
    """
    alike = ALIKE
    if symbol not in ("=", "<>"):
        alike = ORDERED
        need(left, "number", symbol)
        need(right, "number", symbol)
    parts = (left, right)
    if left.constant is not None:
        left, symbol, right = right, MIRRORED[symbol], left
    test, first, second, constant = COMPARISONS[symbol], left.evaluate, right.evaluate, right.constant
    if constant is not None:
        classes = alike[constant.__class__]

        def with_literal(headers: Headers, properties: "Properties") -> bool | None:
            value = first(headers, properties)
            if value.__class__ in classes:
                return test(value, constant)
            return None if value is None else False

        return operation(with_literal, "boolean", parts, required=_equal(left, symbol, (constant,)))

    def evaluate(headers: Headers, properties: "Properties") -> bool | None:
        one, other = first(headers, properties), second(headers, properties)
        if one is None or other is None:
            return None
        return other.__class__ in alike.get(one.__class__, NOTHING_ALIKE) and test(one, other)

    return operation(evaluate, "boolean", parts)


def _equal(name: Expression, symbol: str, constants: Iterable[Constant]) -> Required | None:
    """Return ``required`` of a comparison with ``=`` or IN: the constants, if ``name`` is a header's name."""
    paths = name.paths
    if symbol != "=" or name.depth or len(paths) != 1:
        return None
    (path,) = paths
    return {path[0]: frozenset(constants)} if len(path) == 1 else None


def between(value: Expression, low: Expression, high: Expression, *, inside: bool) -> Expression:
    """Make BETWEEN: ``value >= low AND value <= high``; or NOT BETWEEN: ``value < low OR value > high``."""
    parts = (value, low, high)
    for part in parts:
        need(part, "number", "BETWEEN")
    middle, bottom, top = value.evaluate, low.evaluate, high.evaluate
    above, below = (operator.ge, operator.le) if inside else (operator.lt, operator.gt)
    decisive = not inside

    def evaluate(headers: Headers, properties: "Properties") -> bool | None:
        one = middle(headers, properties)
        first = _ordered(above, one, bottom(headers, properties))
        if first is decisive:
            return first
        second = _ordered(below, one, top(headers, properties))
        return second if second is decisive or first is not None else None

    return operation(evaluate, "boolean", parts)


def _ordered(test: Callable[[Any, Any], bool], one: Any, other: Any) -> bool | None:
    if one.__class__ in NUMBERS and other.__class__ in NUMBERS:
        return test(one, other)
    return None if one is None or other is None else False


def membership(value: Expression, items: Sequence[Expression], *, inside: bool) -> Expression:
    """Make IN, like ``=`` with any of the literals; or NOT IN, the opposite."""
    for item in items:
        if item.constant is None:
            raise SelectorError("IN takes literals only", item.column)
    constants = [item.constant for item in items if item.constant is not None]
    booleans = tuple(one for one in constants if one.__class__ is bool)
    others = frozenset(one for one in constants if one.__class__ is not bool)  # True would be found as 1
    read = value.evaluate

    def evaluate(headers: Headers, properties: "Properties") -> bool | None:
        one = read(headers, properties)
        if one.__class__ is bool:
            return one in booleans
        if one.__class__ in ALIKE:
            return one in others
        return None if one is None else False

    required = _equal(value, "=", constants) if inside and len(constants) <= MAX_REQUIRED else None
    condition = evaluate if inside else _negated(evaluate)
    expression = operation(condition, "boolean", (value, *items), required=required)
    expression.cost = value.cost + 2  # independent of the number of items
    return expression


def like(value: Expression, pattern: Expression, escape: Expression | None, *, inside: bool) -> Expression:
    """Make LIKE or its opposite, NOT LIKE.

    LIKE is FALSE for a value that is not a string, UNKNOWN for a string that is longer than MAX_LIKE_TEXT.
    """
    need(value, "string", "LIKE")
    try:
        matches, cost = compile_like(str(pattern.constant), None if escape is None else str(escape.constant))
    except ValueError as error:
        raise SelectorError(str(error), (escape or pattern).column) from None
    read = value.evaluate

    def evaluate(headers: Headers, properties: "Properties") -> bool | None:
        text = read(headers, properties)
        if text.__class__ is str:
            return matches(text) if len(text) <= MAX_LIKE_TEXT else None
        return None if text is None else False

    extra = LIKE_COST + cost
    return operation(evaluate if inside else _negated(evaluate), "boolean", (value, pattern), extra=extra)


def null(name: Expression, *, inside: bool) -> Expression:
    """Make IS NULL: the message has no such header or property; or IS NOT NULL, the opposite."""
    read = name.evaluate

    def evaluate(headers: Headers, properties: "Properties") -> bool:
        return (read(headers, properties) is None) is inside

    return operation(evaluate, "boolean", (name,))
