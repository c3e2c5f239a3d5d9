"""Expressions of selectors, each compiled to one closure over those of its parts.

Responsible for the meaning of names, literals and operators, their type rules and the limits on an
expression. Not for their syntax (see ``selector.lark`` and ``parser``).

A condition evaluates to True, False or None, which is UNKNOWN; any other expression to a number, string or
boolean, or to None, which is NULL. Where a condition is needed, a value that is neither True nor False is
UNKNOWN.
"""

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from math import isinf
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from leveret.router.selector.errors import SelectorError
from leveret.router.selector.like import compile_like

if TYPE_CHECKING:
    from leveret.protocol.amqp.properties import Properties

Headers: TypeAlias = Mapping[str, Any]
Evaluate: TypeAlias = Callable[[Headers, "Properties"], Any]
Kind: TypeAlias = Literal["string", "number", "boolean", "any"]  # any: a header of unknown type
Constant: TypeAlias = str | int | float | bool

MAX_DEPTH = 64  # nested operators; each is a Python call when a message is matched
MAX_OPERANDS = 500  # names and literals
MAX_LIKE_TEXT = 2048  # characters of a string that LIKE accepts
LIKE_COST = 4  # cost of LIKE beyond that of another comparison
MAX_INTEGER = 2**63  # as in Java, whose least integer is written with this literal and a sign

PROPERTIES: dict[str, Kind] = {
    "content_type": "string",
    "content_encoding": "string",
    "delivery_mode": "number",
    "priority": "number",
    "correlation_id": "string",
    "reply_to": "string",
    "expiration": "string",
    "message_id": "string",
    "timestamp": "number",
    "type": "string",
    "user_id": "string",
    "app_id": "string",
    "cluster_id": "string",
}

KINDS: dict[type, Kind] = {str: "string", bool: "boolean", int: "number", float: "number"}
NUMBERS = frozenset({int, float})
ALIKE = {str: frozenset({str}), bool: frozenset({bool}), int: NUMBERS, float: NUMBERS}
ORDERED = {int: NUMBERS, float: NUMBERS}
PLAIN = frozenset({str, int, float, bool, type(None)})
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


@dataclass(slots=True)
class Expression:
    """A compiled part of a selector.

    ``kind`` is the type that it can evaluate to, besides None; ``column`` is where it begins; ``constant`` is
    its value if it is a literal; ``depth`` is the number of nested operators, ``operands`` that of names and
    literals; ``cost`` is its longest time of evaluation, in times that of a name (0.1 to 0.2 us).
    """

    evaluate: Evaluate
    kind: Kind
    column: int
    constant: Constant | None = None
    depth: int = 0
    operands: int = 1
    cost: int = 1


def _operation(
    evaluate: Evaluate, kind: Kind, parts: Sequence[Expression], column: int | None = None, extra: int = 0
) -> Expression:
    """Make the expression of an operator with its operands.

    It begins with the first operand unless ``column`` is set. ``extra`` is its cost besides a step for itself
    and those of its operands. Raises SelectorError for an expression beyond a limit.
    """
    column = parts[0].column if column is None else column
    depth = 1 + max(part.depth for part in parts)
    operands = sum(part.operands for part in parts)
    if depth > MAX_DEPTH:
        raise SelectorError(f"operators are nested more than {MAX_DEPTH} deep", column)
    if operands > MAX_OPERANDS:
        raise SelectorError(f"there are more than {MAX_OPERANDS} names and literals", column)
    cost = 1 + extra + sum(part.cost for part in parts)
    return Expression(evaluate, kind, column, None, depth, operands, cost)


def need(part: Expression, kind: Kind, what: str) -> None:
    """Raise SelectorError if ``part`` can never have the type that ``what`` needs."""
    if part.kind not in (kind, "any"):
        raise SelectorError(f"{what} takes a {kind}, found a {part.kind}", part.column)


# -- names and literals --------------------------------------------------------------------------------------


def literal(value: Constant, column: int) -> Expression:
    """Make a literal. Raises SelectorError for a number beyond the range of Java's long or double."""
    if isinstance(value, int) and abs(value) > MAX_INTEGER:
        raise SelectorError("an integer must fit into 64 bits", column)
    if isinstance(value, float) and isinf(value):
        raise SelectorError("a number must fit into a double", column)
    return Expression(lambda _headers, _properties: value, KINDS[value.__class__], column, value)


def header(path: Sequence[str], column: int) -> Expression:
    """Make the value of a header, or of an entry of a table nested in the headers.

    The value is NULL if any step of the path is missing.
    """
    if len(path) == 1:
        name = path[0]

        def read(headers: Headers, _properties: "Properties") -> Any:
            value = headers.get(name)
            return value if value.__class__ in PLAIN else _plain(value)

        return Expression(read, "any", column)

    def descend(headers: Headers, _properties: "Properties") -> Any:
        value: Any = headers
        for step in path:
            if not isinstance(value, dict):
                return None
            value = value.get(step)
        return value if value.__class__ in PLAIN else _plain(value)

    return Expression(descend, "any", column)


def message_property(name: str, column: int) -> Expression:
    """Make the value of an AMQP basic property, one of PROPERTIES."""

    def read(_headers: Headers, properties: "Properties") -> Any:
        value = getattr(properties, name)
        return value if value.__class__ in PLAIN else _plain(value)

    return Expression(read, PROPERTIES[name], column)


def _plain(value: Any) -> Any:
    """Return timestamps as integers, decimals as doubles. Tables, arrays and bytes stay: no literal equals
    them.
    """
    if isinstance(value, int):
        return int(value)
    return float(value) if isinstance(value, Decimal) else value


# -- conditions ----------------------------------------------------------------------------------------------


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

    return _operation(evaluate, "boolean", parts)


def negation(part: Expression, column: int) -> Expression:
    """Make NOT: UNKNOWN stays UNKNOWN."""
    need(part, "boolean", "NOT")
    return _operation(_negated(part.evaluate), "boolean", (part,), column)


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

        return _operation(with_literal, "boolean", parts)

    def evaluate(headers: Headers, properties: "Properties") -> bool | None:
        one, other = first(headers, properties), second(headers, properties)
        if one is None or other is None:
            return None
        return other.__class__ in alike.get(one.__class__, NOTHING_ALIKE) and test(one, other)

    return _operation(evaluate, "boolean", parts)


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

    return _operation(evaluate, "boolean", parts)


def _ordered(test: Callable[[Any, Any], bool], one: Any, other: Any) -> bool | None:
    if one.__class__ in NUMBERS and other.__class__ in NUMBERS:
        return test(one, other)
    return None if one is None or other is None else False


def membership(value: Expression, items: Sequence[Expression], *, inside: bool) -> Expression:
    """Make IN, like ``=`` with any of the literals; or NOT IN, the opposite."""
    for item in items:
        if item.constant is None:
            raise SelectorError("IN takes literals only", item.column)
    constants = [item.constant for item in items]
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

    expression = _operation(evaluate if inside else _negated(evaluate), "boolean", (value, *items))
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
    return _operation(evaluate if inside else _negated(evaluate), "boolean", (value, pattern), extra=extra)


def null(name: Expression, *, inside: bool) -> Expression:
    """Make IS NULL: the message has no such header or property; or IS NOT NULL, the opposite."""
    read = name.evaluate

    def evaluate(headers: Headers, properties: "Properties") -> bool:
        return (read(headers, properties) is None) is inside

    return _operation(evaluate, "boolean", (name,))


# -- arithmetic ----------------------------------------------------------------------------------------------


def signed(sign: str, part: Expression, column: int) -> Expression:
    """Make a sign before a number. With a literal the result is another literal."""
    need(part, "number", sign)
    turn: Callable[[Any], Any] = operator.neg if sign == "-" else operator.pos
    if part.constant is not None:
        return literal(turn(part.constant), column)
    read = part.evaluate

    def evaluate(headers: Headers, properties: "Properties") -> Any:
        value = read(headers, properties)
        if value.__class__ not in NUMBERS:
            return None
        return _bounded(turn(value))

    return _operation(evaluate, "number", (part,), column)


def arithmetic(first: Expression, rest: Sequence[tuple[str, Expression]]) -> Expression:
    """Make a chain of operators of one precedence, from left to right.

    The result is NULL if an operand is not a number, for a division by zero, and for an integer beyond Java's
    long.
    """
    need(first, "number", rest[0][0])
    for symbol, part in rest:
        need(part, "number", symbol)
    start = first.evaluate
    steps = tuple((ARITHMETIC[symbol], part.evaluate) for symbol, part in rest)

    def evaluate(headers: Headers, properties: "Properties") -> Any:
        total = start(headers, properties)
        for apply, operand in steps:
            value = operand(headers, properties)
            if total.__class__ not in NUMBERS or value.__class__ not in NUMBERS:
                return None
            total = _bounded(apply(total, value))
        return total

    return _operation(evaluate, "number", (first, *(part for _symbol, part in rest)))


def _bounded(value: Any) -> Any:
    if value.__class__ is int and not -MAX_INTEGER <= value < MAX_INTEGER:
        return None
    return value


def _divided(one: Any, other: Any) -> Any:
    """Divide; the quotient of two integers is rounded towards zero, as in Java."""
    if not other:
        return None
    if one.__class__ is float or other.__class__ is float:
        return one / other
    quotient = abs(one) // abs(other)
    return quotient if (one < 0) is (other < 0) else -quotient


ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": _divided,
}
