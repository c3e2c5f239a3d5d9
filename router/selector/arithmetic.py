"""Arithmetic of selectors, with the integers and doubles of Java."""

import operator
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from leveret.router.selector.expression import (
    MAX_INTEGER,
    NUMBERS,
    Expression,
    Headers,
    literal,
    need,
    operation,
)

if TYPE_CHECKING:
    from leveret.protocol.amqp.properties import Properties


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

    return operation(evaluate, "number", (part,), column)


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

    return operation(evaluate, "number", (first, *(part for _symbol, part in rest)))


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
