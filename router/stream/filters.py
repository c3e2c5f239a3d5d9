"""What a reader of a stream wants of it: values of a header, and a selector.

Owns the choice, and the Bloom filter of each chunk, by which chunks are passed over that hold nothing for a
reader. Unlike RabbitMQ, which leaves it to the client to sort out what else is in a chunk, each message is
looked at.

Source: RabbitMQ 3.13, "Streams" (Filtering).
"""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from hashlib import blake2b
from typing import Any

from leveret.protocol.errors import PreconditionFailed
from leveret.router.queue.entry import Entry
from leveret.router.selector import Selector, SelectorError, compile_selector
from leveret.router.stream.chunk import Chunk
from leveret.router.values.field_values import type_name

VALUE = "x-stream-filter-value"  # header of a message
WANTED = "x-stream-filter"  # arguments of a consumer
UNFILTERED = "x-stream-match-unfiltered"
SELECTOR = "x-selector"

SIZE = 16  # bytes of a chunk's filter, unless the stream says otherwise
_HASHES = 3
_SHORT = 64  # characters of a value whose bits are kept


def _mask(value: str | None, size: int) -> int:
    """The bits of a value, or of having none, in a filter of ``size`` bytes."""
    # Publishers choose the values: long ones are not kept.
    return _bits(value, size) if value is not None and len(value) > _SHORT else _known_bits(value, size)


def _bits(value: str | None, size: int) -> int:
    key = b"" if value is None else b"v" + value.encode("utf-8", "surrogateescape")
    digest = int.from_bytes(blake2b(key, digest_size=8).digest())
    one, two = digest >> 32, digest & 0xFFFFFFFF | 1
    mask = 0
    for number in range(_HASHES):
        mask |= 1 << (one + number * two) % (8 * size)
    return mask


_known_bits = lru_cache(4096)(_bits)


def pack_filter(values: Iterable[str | None], size: int) -> bytes:
    """The filter of messages with these values; None for those that have none. Empty if none has any."""
    found = set(values)
    if found <= {None}:
        return b""
    bits = 0
    for value in found:
        bits |= _mask(value, size)
    return bits.to_bytes(size, "big")


def value_of(headers: Mapping[str, Any] | None) -> str | None:
    """The filter value that a message's headers give it."""
    value = None if headers is None else headers.get(VALUE)
    return value if isinstance(value, str) else None


class Wanted:
    """What a reader wants: messages with one of ``values``, and, if so ``unfiltered``, those without any; of
    these what satisfies the selector.
    """

    __slots__ = ("_selector", "_unfiltered", "_values")

    def __init__(self, values: frozenset[str] | None, unfiltered: bool, selector: Selector | None) -> None:
        self._values = values
        self._unfiltered = unfiltered
        self._selector = selector

    def may_be_in(self, chunk: Chunk) -> bool:
        """Whether a chunk may hold any of it."""
        values = self._values
        if values is None:
            return True
        bloom = chunk.filter
        if not bloom:
            return self._unfiltered
        bits, size = int.from_bytes(bloom), len(bloom)
        masks = [_mask(value, size) for value in values]
        if self._unfiltered:
            masks.append(_mask(None, size))
        return any(bits & mask == mask for mask in masks)

    def matches(self, entry: Entry) -> bool:
        """Whether it is wanted."""
        properties = entry.message.properties
        if self._values is not None:
            value = value_of(properties.headers)
            if not (self._unfiltered if value is None else value in self._values):
                return False
        return self._selector is None or self._selector.matches(properties)


def wanted(arguments: Mapping[str, Any], what: str) -> Wanted | None:
    """What the arguments of a consumer ask for; None when that is everything. Raises PreconditionFailed."""
    values = _values(arguments, what)
    unfiltered = arguments.get(UNFILTERED, False)
    if not isinstance(unfiltered, bool):
        raise PreconditionFailed(
            f"invalid arg '{UNFILTERED}' for {what}: {{unacceptable_type,{type_name(unfiltered)}}}"
        )
    selector = None
    if SELECTOR in arguments:
        text = arguments[SELECTOR]
        if not isinstance(text, str):
            raise PreconditionFailed(f"invalid arg '{SELECTOR}' for {what}: a string is needed")
        try:
            selector = compile_selector(text)
        except SelectorError as error:
            raise PreconditionFailed(f"invalid arg '{SELECTOR}' for {what}: {error}") from None
    return None if values is None and selector is None else Wanted(values, unfiltered, selector)


def _values(arguments: Mapping[str, Any], what: str) -> frozenset[str] | None:
    if WANTED not in arguments:
        return None
    given = arguments[WANTED]
    values = given if isinstance(given, list) else [given]
    for value in values:
        if not isinstance(value, str):
            raise PreconditionFailed(
                f"invalid arg '{WANTED}' for {what}: {{unacceptable_type,{type_name(value)}}}"
            )
    return frozenset(values)
