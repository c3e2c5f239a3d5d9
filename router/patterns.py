"""Regular expressions that operators give: for permissions and policies.

Owns their compilation and their safety. They are searched for, not anchored, as in RabbitMQ. Topic patterns
are another language and belong to the topic exchange.

RE2 evaluates them, in time linear in the name. What RE2 leaves out (look-ahead, back references, possessive
quantifiers) falls back to ``re``, because ``^(?!amq\\.).*`` is common in policies. There an operator can
write an exponential pattern; but names are short and verdicts are kept, so that would slow declarations
and not each message.

Differences from RabbitMQ (PCRE over bytes): ``.`` is a character rather than a byte, and with RE2 ``$`` does
not match before a final newline.
"""

import re
from collections.abc import Callable

Matcher = Callable[[str], bool]

NAME_MAX = 255  # bytes: AMQP's short strings, so every name and routing key

_ANYTHING = frozenset(("", "^", ".*", "^.*", ".*$", "^.*$"))


class PatternError(ValueError):
    """No regular expression; the text says why."""


def compile_pattern(text: str) -> Matcher:
    """What tells whether a name matches. Names longer than ``NAME_MAX`` do not. Raises PatternError."""
    if text in _ANYTHING:
        return lambda name: True
    if text == "^$":
        return lambda name: not name
    import re2  # noqa: PLC0415 - most brokers need no other pattern, and it takes a while to load

    options = re2.Options()
    options.log_errors = False
    try:
        compiled = re2.compile(_bytes(text), options)
    except re2.error:
        return _fallback(text)
    search = compiled.search
    return lambda name: len(encoded := _bytes(name)) <= NAME_MAX and search(encoded) is not None


def _bytes(text: str) -> bytes:
    """UTF-8, or the bytes that arrived and were not."""
    return text.encode("utf-8", "surrogateescape")


def _fallback(text: str) -> Matcher:
    try:
        compiled = re.compile(text)
    except (re.error, OverflowError, RecursionError) as error:
        raise PatternError(f"regular expression '{text}' is invalid: {error}") from None
    return lambda name: len(_bytes(name)) <= NAME_MAX and compiled.search(name) is not None
