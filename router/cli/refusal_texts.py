"""Plain text from a broker's reason for a refusal: RabbitMQ's reasons hold Erlang terms and HTML entities."""

import html
import re
from collections.abc import Callable

_STRING = re.compile(r'<<"((?:[^"\\]|\\.)*)">>')
_FLAT = r"""(?:[^{}\[\]'"]|'[^']*'|"[^"]*")*"""  # text without nested terms
_TUPLE = re.compile(rf"\{{([a-z_]\w*|'[^']*'|\"[^\"]*\"),({_FLAT})\}}")
_LIST = re.compile(r"\[(\{(?:[a-z_]|<<|'|\").*)\](?=$|\s)", re.DOTALL)
_TYPES = frozenset(
    ("longstr", "binary", "bool", "byte", "short", "signedint", "long", "float", "double", "decimal", "table",
     "array", "timestamp", "void", "unsignedbyte", "unsignedshort", "unsignedint")
)  # fmt: skip
_WORDS: dict[str, Callable[[str], str]] = {
    "key_missing": lambda value: f"{value} is missing",
    "unacceptable_type": lambda value: f"a value of the type {value} is not accepted",
    "unacceptable_type_in_header": lambda value: f"header {value} is a type that is not accepted",
    "invalid_stream_offset_arg": lambda value: f"{value} is not an offset",
    "value_negative": lambda value: f"{value} is less than 0",
    "value_not_positive": lambda value: f"{value} is not more than 0",
    "value_zero": lambda value: f"{value} is not more than 0",
    "value_too_large": lambda value: f"{value} is too large",
    "max_value_exceeded": lambda value: f"{value} is too large",
    "value_out_of_range": lambda value: f"{value} is out of range",
    "leftover_string": lambda value: f"{value} follows a number",
}


def plain_reason(text: str) -> str:
    """Return a broker's reason without Erlang terms and empty lines; other text stays as it is."""
    text = html.unescape(text).removeprefix("Validation failed")
    text = "\n".join(line.strip() for line in text.splitlines() if line.strip())
    text = _STRING.sub(lambda found: f"'{found[1]}'", text)
    in_list = _LIST.search(text)
    if in_list is not None:
        text = text[: in_list.start()] + in_list[1].replace("},{", "}, {") + text[in_list.end() :]
    before = ""
    while before != text:
        before, text = text, _TUPLE.sub(_in_words, text)
    return text


def _in_words(found: re.Match[str]) -> str:
    kind, value = found[1], found[2].strip()
    if kind in _TYPES:
        return value
    if kind in _WORDS:
        return _WORDS[kind](value)
    return f"{kind.replace('_', ' ').strip(chr(34))}: {value}"
