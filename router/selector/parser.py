"""Parser from the text of a selector to its expression: lark's LALR parser with the builders of
``expression``, ``conditions`` and ``arithmetic``.

Responsible for the errors of text that is not a selector. Nothing here recurses, so no text within the limit
on its length can exhaust the stack. Importing this module builds the parser, which takes a tenth of a second:
only ``compile_in_slices`` imports it, when it is first called.
"""

import re
from typing import Any

from lark import Lark, Token, Transformer, UnexpectedCharacters, UnexpectedToken, v_args

from leveret.router.selector import arithmetic, conditions, expression
from leveret.router.selector.errors import SelectorError, shown
from leveret.router.selector.expression import Expression
from leveret.router.turns.backlog import Slicing

MAX_LENGTH = 4096  # characters
TOKENS = 64  # parsed in a slice: half a millisecond

PART = re.compile(r'"((?:[^"]|"")*)"|[^".]+')  # of a dotted name
WORD = re.compile(r"[\w$.]+")
MISTAKEN = {"==": "=", "!=": "<>"}  # operators of other languages

# Expected tokens, for error texts; some others that may follow, such as arithmetic, are left out.
OPERAND = "a name, a literal or '('"
TERMINALS = {
    "COMPARISON": "a comparison",
    "_LEFT": "'('",
    "STRING": "a string literal",
    "NOT": "NOT",
    "_NULL": "NULL",
    "_BETWEEN": "BETWEEN",
    "_IN": "IN",
    "_LIKE": "LIKE",
    "_ESCAPE": "ESCAPE",
    "_AND": "AND",
    "_OR": "OR",
    "_COMMA": "','",
    "_RIGHT": "')'",
    "$END": "the end",
}
COMPARISONS = {"NOT", "_BETWEEN", "_IN", "_LIKE", "_IS"}  # covered by "a comparison"
KEYWORDS = {"_AND", "_BETWEEN", "_ESCAPE", "FALSE", "_IN", "_IS", "_LIKE", "NOT", "_NULL", "_OR", "TRUE"}


def parse(text: str) -> Slicing[Expression]:
    """Compile a selector, some tokens in each slice. Raises SelectorError."""
    if len(text) > MAX_LENGTH:
        raise SelectorError(f"a selector has at most {MAX_LENGTH} characters", MAX_LENGTH + 1)
    state = PARSER.parse_interactive(text)
    try:
        for number, _ in enumerate(state.iter_parse(), 1):
            if number % TOKENS == 0:
                yield
        whole: Any = state.feed_eof()  # type: ignore[no-untyped-call]  # of lark
    except UnexpectedToken as error:
        error.interactive_parser = state  # which knows what would be accepted
        raise _unexpected_token(error, text) from None
    except UnexpectedCharacters as error:
        position: Any = error.pos_in_stream  # annotated as None
        raise _unexpected_characters(text, position) from None
    condition: Expression = whole
    return condition


def _column(token: Token) -> int:
    assert token.start_pos is not None  # only tokens made by hand have none
    return token.start_pos + 1


@v_args(inline=True)
class Actions(Transformer[Token, Expression]):
    """One method for each rule of the grammar; its arguments are the results of the rule's parts."""

    def start(self, condition: Expression) -> Expression:
        expression.need(condition, "boolean", "a selector")
        return condition

    def disjunction(self, *parts: Expression) -> Expression:
        return conditions.any_of(parts)

    def conjunction(self, *parts: Expression) -> Expression:
        return conditions.all_of(parts)

    def negation(self, keyword: Token, part: Expression) -> Expression:
        return conditions.negation(part, _column(keyword))

    def comparison(self, left: Expression, symbol: Token, right: Expression) -> Expression:
        if symbol in MISTAKEN:
            raise SelectorError(f"expected {MISTAKEN[symbol]!r}, found {str(symbol)!r}", _column(symbol))
        return conditions.comparison(left, symbol, right)

    def between(
        self, value: Expression, negated: Token | None, low: Expression, high: Expression
    ) -> Expression:
        return conditions.between(value, low, high, inside=negated is None)

    def membership(self, value: Expression, negated: Token | None, *items: Expression) -> Expression:
        return conditions.membership(value, items, inside=negated is None)

    def like(
        self, value: Expression, negated: Token | None, pattern: Token, escape: Token | None
    ) -> Expression:
        return conditions.like(
            value,
            self.string(pattern),
            None if escape is None else self.string(escape),
            inside=negated is None,
        )

    def null(self, name: Expression, negated: Token | None) -> Expression:
        return conditions.null(name, inside=negated is None)

    def sum(self, first: Expression, *rest: Any) -> Expression:
        return arithmetic.arithmetic(first, list(zip(rest[::2], rest[1::2], strict=True)))

    product = sum

    def signed(self, sign: Token, part: Expression) -> Expression:
        return arithmetic.signed(sign, part, _column(sign))

    def name(self, token: Token) -> Expression:
        parts = list(PART.finditer(token))
        path = [part[0] if part[1] is None else part[1].replace('""', '"') for part in parts]
        if len(parts) == 1 or parts[0][0] != "properties":
            return expression.header(path, _column(token))
        name = ".".join(path[1:])
        if name not in expression.PROPERTIES:
            raise SelectorError(f"there is no property {shown(name)}", _column(token) + parts[1].start())
        return expression.message_property(name, _column(token))

    def string(self, token: Token) -> Expression:
        return expression.literal(token[1:-1].replace("''", "'"), _column(token))

    def integer(self, token: Token) -> Expression:
        digits = token.rstrip("lL")
        base = 16 if token.type == "HEXADECIMAL" else 8 if token.type == "OCTAL" else 10
        if base == 10 and len(digits) > len(str(expression.MAX_INTEGER)):
            digits = str(2 * expression.MAX_INTEGER)  # too large as well, and quick to convert
        return expression.literal(int(digits, base), _column(token))

    def float(self, token: Token) -> Expression:
        return expression.literal(float(token), _column(token))

    def boolean(self, token: Token) -> Expression:
        return expression.literal(token.type == "TRUE", _column(token))


PARSER = Lark.open("selector.lark", rel_to=__file__, parser="lalr", lexer="basic", transformer=Actions())


def _unexpected_token(error: UnexpectedToken, text: str) -> SelectorError:
    token = error.token
    expected = _expected(error.accepts)
    if token.type == "$END":
        return SelectorError(f"expected {expected}, found the end", len(text) + 1)
    piece = shown(token)
    if token.type in KEYWORDS:
        piece = f"the keyword {piece}"
    return SelectorError(f"expected {expected}, found {piece}", _column(token))


def _expected(accepted: set[str]) -> str:
    """Return texts for the tokens that the parser would accept, given as names of the grammar."""
    if "NAME" in accepted:
        return OPERAND
    if "COMPARISON" in accepted:
        accepted = accepted - COMPARISONS
    *names, last = (name for terminal, name in TERMINALS.items() if terminal in accepted)
    return f"{', '.join(names)} or {last}" if names else last


def _unexpected_characters(text: str, position: int) -> SelectorError:
    character = text[position]
    if character in "'\"":
        what = "string" if character == "'" else "quoted name"
        return SelectorError(f"this {what} is not closed: {shown(text[position:])}", position + 1)
    word = WORD.match(text, position)
    if word and word[0] != ".":
        return SelectorError(f"{shown(word[0])} is neither a name nor a number", position + 1)
    return SelectorError(f"unexpected character {character!r}", position + 1)
