r"""Regular expressions of operators, in permissions and policies.

Responsible for their compilation and for bounds on their time. They match anywhere in a name, as in RabbitMQ.
Not for topic patterns, which are another language (see ``exchange/topic``).

RE2 evaluates them, in time linear in the name. RE2 has no look-ahead, but patterns such as ``^(?!amq\.).*``
are common in policies: they are split into two RE2 patterns, one that must not match at the beginning and one
that must. Other constructs that RE2 does not support (look-around, back references, possessive quantifiers)
use a backtracking matcher with a limit on its time for a name, and one on its time for all slow names. The
backtracking matcher is for names of queues and exchanges, whose results are cached; callers that match once
per message accept ``linear`` patterns only.

Differences from RabbitMQ (PCRE over bytes): ``.`` is a character rather than a byte, and with RE2 ``$`` does
not match before a final newline.
"""

import re
from collections.abc import Callable
from time import thread_time

import structlog

Matcher = Callable[[str], bool]

NAME_MAX = 255  # bytes: AMQP's short strings, so every name and routing key
PATTERN_MAX = 10_000  # characters
# Bytes of memory of RE2 for a pattern; a pattern that needs more uses the backtracking matcher
MEMORY = 1_048_576
SMALL = 100  # instructions of RE2 up to which a simple pattern is quick
PATIENCE = 0.005  # seconds for one name: 25 times the usual time, and as long as a whole turn
SLOW = 0.001  # seconds of CPU from which on a name counts against the allowance
ALLOWANCE = 0.06  # seconds of CPU for all slow names of a pattern, after which it matches nothing

_ANYTHING = frozenset(("", "^", ".*", "^.*", ".*$", "^.*$"))
_NOT = "^(?!"
# Literal text, and single characters after an anchor: RE2 has one state for each character of a name. Other
# patterns of 60 instructions take up to 0.3 ms for a name that needs new states.
_SIMPLE = re.compile(
    r"(?:\^(?:[^\\^$*+?{}()|\[\]]|\\[^\w\s])*(?:\.\*)?|(?:[^\\^$*+?{}()|\[\].]|\\[^\w\s])*)\$?"
)


def is_quick(matcher: Matcher) -> bool:
    """Return True if a compiled pattern takes microseconds for each name: it is simple and small."""
    return not isinstance(matcher, _Bounded | _Complex)


class PatternError(ValueError):
    """A text that is not a valid regular expression; the message gives the reason."""


class _NotLinear(Exception):
    """A pattern that RE2 refuses; the message gives the reason."""


def compile_pattern(text: str, *, linear: bool = False) -> Matcher:
    """Compile an operator's pattern to a predicate; names over ``NAME_MAX`` bytes never match.

    Raises PatternError for an invalid pattern, and, if ``linear``, for one that may take more than linear
    time.
    """
    if text in _ANYTHING:
        return lambda name: True
    if text == "^$":
        return lambda name: not name
    if len(text) > PATTERN_MAX:
        raise PatternError(f"regular expression is invalid: longer than {PATTERN_MAX} characters")
    try:
        matches, size = _linear(text)
    except _NotLinear as reason:
        bounded = _Bounded(text)  # or it is no regular expression at all
        if linear:
            raise PatternError(
                f"regular expression '{text}' is invalid here: it is asked for each routing key, "
                f"and only what RE2 can match is quick enough for that; {reason}"
            ) from None
        return bounded
    if size > SMALL or not _SIMPLE.fullmatch(text):
        return _Complex(matches)
    return lambda name: len(encoded := _bytes(name)) <= NAME_MAX and matches(encoded)


def _linear(text: str) -> tuple[Callable[[bytes], bool], int]:
    """Return a matcher of bytes whose time is linear in them and in its size, and that size.

    Raises _NotLinear.
    """
    unwanted: list[Callable[[bytes], bool]] = []
    size = 0
    while (parts := _negation(text)) is not None:
        matches, more = _re2(f"^(?:{parts[0]})")
        unwanted.append(matches)
        size += more
        text = f"^{parts[1]}"
    wanted, more = _re2(text)
    size += more
    if not unwanted:
        return wanted, size
    return lambda name: wanted(name) and not any(matches(name) for matches in unwanted), size


def _re2(text: str) -> tuple[Callable[[bytes], bool], int]:
    import re2  # noqa: PLC0415 - most brokers need no other pattern, and it takes a while to load

    options = re2.Options()
    options.log_errors = False
    options.never_capture = True  # a match of a thousand groups takes 280 ms, and 4 ms without them
    options.max_mem = MEMORY
    try:
        compiled = re2.compile(_bytes(text), options)
    except re2.error as error:
        raise _NotLinear(str(error)) from None
    search = compiled.search
    return lambda name: search(name) is not None, compiled.programsize


def _negation(text: str) -> tuple[str, str] | None:
    """Split ``text`` into a pattern that must not match at the beginning and one that must.

    Returns None if ``text`` has another form.
    """
    if not text.startswith(_NOT):
        return None
    end = _end_of_group(text, len(_NOT))
    if end is None:
        return None
    rest = text[end + 1 :]
    if _end_of_group(rest, 0, alternative=True) is not None or rest[:1] in tuple("*+?{"):
        return None
    return text[len(_NOT) : end], rest


def _end_of_group(text: str, start: int, *, alternative: bool = False) -> int | None:
    """Return the position of the end of the group that ``start`` is in.

    With ``alternative`` the first ``|`` of the group counts as its end. Returns None if there is no end, or
    if counting parentheses does not suffice to find it.
    """
    depth, position = 0, start
    while position < len(text):
        character = text[position]
        if character == "\\":
            if text[position + 1 : position + 2] == "Q":
                return None if not alternative else position
            position += 1
        elif character == "[":
            # A bracket that comes first is one of the class, as in []a] and [^]a].
            first = position + (2 if text[position + 1 : position + 2] == "^" else 1)
            position = _end_of_class(text, first)
        elif character == "(":
            depth += 1
        elif character == ")" or (character == "|" and alternative and not depth):
            if not depth:
                return position
            depth -= 1
        position += 1
    return None


def _end_of_class(text: str, first: int) -> int:
    """Return the position of the ``]`` that ends a class whose first character is at ``first``.

    Returns the end of the text if the class does not end.
    """
    position = first
    while position < len(text):
        if text[position] == "\\":
            position += 1
        elif text.startswith("[:", position) and (end := text.find(":]", position)) >= 0:
            position = end + 1
        elif text[position] == "]" and position > first:
            return position
        position += 1
    return position


class _Complex:
    """A pattern with linear time that may still take a part of a millisecond, or some of them, for a name."""

    __slots__ = ("_matches",)

    def __init__(self, matches: Callable[[bytes], bool]) -> None:
        self._matches = matches

    def __call__(self, name: str) -> bool:
        return len(encoded := _bytes(name)) <= NAME_MAX and self._matches(encoded)


class _Bounded:
    """A backtracking pattern, with a limit on the time for one name and one on the time for all slow names.

    The second limit is for patterns that stay just below the first, for name after name.
    """

    __slots__ = ("_left", "_search", "_text")

    def __init__(self, text: str) -> None:
        """Compile the pattern. Raises PatternError."""
        import regex  # noqa: PLC0415 - few brokers need it

        try:
            self._search = regex.compile(text).search
        except (regex.error, OverflowError, RecursionError) as error:
            raise PatternError(f"regular expression '{text}' is invalid: {error}") from None
        self._text = text
        self._left = ALLOWANCE

    def __call__(self, name: str) -> bool:
        if self._left <= 0 or len(_bytes(name)) > NAME_MAX:
            return False
        began = thread_time()  # CPU: on a busy machine a good pattern is no slower
        try:
            found = self._search(name, timeout=PATIENCE) is not None
            timed_out = False
        except TimeoutError:
            found, timed_out = False, True
        took = thread_time() - began
        if took >= SLOW:
            self._left -= took
        if timed_out or self._left <= 0:
            after = "the pattern matches nothing from now on" if self._left <= 0 else "counted as no match"
            structlog.get_logger().warning("pattern is too slow", pattern=self._text, name=name, result=after)
        return found


def _bytes(text: str) -> bytes:
    """Return UTF-8, or the received bytes if they were not UTF-8."""
    return text.encode("utf-8", "surrogateescape")
