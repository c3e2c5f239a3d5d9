"""Expressions of selectors, each compiled to one closure over those of its parts.

Responsible for names and literals, the type rules and the limits on an expression. Not for operators (see
``conditions`` and ``arithmetic``) nor for the syntax (see ``selector.lark`` and ``parser``).

A condition evaluates to True, False or None, which is UNKNOWN; any other expression to a number, string or
boolean, or to None, which is NULL. Where a condition is needed, a value that is neither True nor False is
UNKNOWN.
"""

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from math import isinf
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from msgspec import Struct

from leveret.router.selector.errors import SelectorError

if TYPE_CHECKING:
    from leveret.protocol.amqp.properties import Properties

Headers: TypeAlias = Mapping[str, Any]
Evaluate: TypeAlias = Callable[[Headers, "Properties"], Any]
Kind: TypeAlias = Literal["string", "number", "boolean", "any"]  # any: a header of unknown type
Constant: TypeAlias = str | int | float | bool
Required: TypeAlias = Mapping[str, frozenset[Constant]]

MAX_DEPTH = 64  # nested operators; each is a Python call when a message is matched
MAX_OPERANDS = 500  # names and literals
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
PLAIN = frozenset({str, int, float, bool, type(None)})


class Expression(Struct):
    """A compiled part of a selector.

    ``kind`` is the type that it can evaluate to, besides None; ``column`` is where it begins; ``constant`` is
    its value if it is a literal; ``depth`` is the number of nested operators, ``operands`` the number of
    names and literals; ``cost`` is its longest time of evaluation, where a name costs 1 (0.1 to 0.2 us).

    ``paths`` are the headers, and entries of tables in headers, that it reads; ``reads_properties`` is True
    if it reads other properties. ``required`` has values by name of header: the expression is TRUE only for a
    message with one of these values. ``required`` is None if no such values are known.
    """

    evaluate: Evaluate
    kind: Kind
    column: int
    constant: Constant | None = None
    depth: int = 0
    operands: int = 1
    cost: int = 1
    paths: frozenset[tuple[str, ...]] = frozenset()
    reads_properties: bool = False
    required: Required | None = None


def operation(
    evaluate: Evaluate,
    kind: Kind,
    parts: Sequence[Expression],
    column: int | None = None,
    *,
    extra: int = 0,
    required: Required | None = None,
) -> Expression:
    """Make the expression of an operator with its operands.

    It begins with the first operand unless ``column`` is set. ``extra`` is added to its cost, which is the
    cost of its operands and one step. Raises SelectorError for an expression beyond a limit.
    """
    column = parts[0].column if column is None else column
    depth = 1 + max(part.depth for part in parts)
    operands = sum(part.operands for part in parts)
    if depth > MAX_DEPTH:
        raise SelectorError(f"operators are nested more than {MAX_DEPTH} deep", column)
    if operands > MAX_OPERANDS:
        raise SelectorError(f"there are more than {MAX_OPERANDS} names and literals", column)
    return Expression(
        evaluate,
        kind,
        column,
        depth=depth,
        operands=operands,
        cost=1 + extra + sum(part.cost for part in parts),
        paths=frozenset().union(*(part.paths for part in parts)),
        reads_properties=any(part.reads_properties for part in parts),
        required=required,
    )


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
            return value if value.__class__ in PLAIN else plain(value)

        required = {name: frozenset((True,))}  # as a condition
        return Expression(read, "any", column, paths=frozenset(((name,),)), required=required)

    def descend(headers: Headers, _properties: "Properties") -> Any:
        value: Any = headers
        for step in path:
            if not isinstance(value, dict):
                return None
            value = value.get(step)
        return value if value.__class__ in PLAIN else plain(value)

    return Expression(descend, "any", column, paths=frozenset((tuple(path),)))


def message_property(name: str, column: int) -> Expression:
    """Make the value of an AMQP basic property, one of PROPERTIES."""

    def read(_headers: Headers, properties: "Properties") -> Any:
        value = getattr(properties, name)
        return value if value.__class__ in PLAIN else plain(value)

    return Expression(read, PROPERTIES[name], column, reads_properties=True)


def plain(value: Any) -> Any:
    """Return timestamps as integers, decimals as doubles. Tables, arrays and bytes stay: no literal equals
    them.
    """
    if isinstance(value, int):
        return int(value)
    return float(value) if isinstance(value, Decimal) else value
