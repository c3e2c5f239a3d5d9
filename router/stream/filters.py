"""Filters of a stream's readers: values of a header, and selectors.

Responsible for the choice of messages, and for the Bloom filter of each chunk, which lets a reader skip
chunks without matching messages. The broker also checks each message of a chunk; in RabbitMQ the client does.

Source: RabbitMQ 3.13, "Streams" (Filtering).
"""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from hashlib import blake2b
from typing import Any

from leveret.protocol.amqp.header_picker import HeaderNames, is_small
from leveret.protocol.amqp.message import Message
from leveret.protocol.errors import PreconditionFailed
from leveret.router.selector import Selector, SelectorError, compile_in_slices
from leveret.router.stream.chunk import Chunk
from leveret.router.turns.backlog import Slicing
from leveret.router.values.field_values import type_name

VALUE = "x-stream-filter-value"  # header of a message
WANTED = "x-stream-filter"  # arguments of a consumer
UNFILTERED = "x-stream-match-unfiltered"
SELECTOR = "x-selector"

VALUES_MAX = 1024  # of a reader: each is compared with the filter of each chunk
SIZE = 16  # bytes of a chunk's filter, unless the stream's arguments set another size
# Characters that are hashed, and masks that are compared, in the time of one delivered message
HASHED, COMPARED = 1024, 16
_HASHES = 3
_SHORT = 64  # characters; longer values are not cached


def value_mask(value: str | None, size: int) -> int:
    """Return the bits of a value, or of None for no value, in a filter of ``size`` bytes."""
    # Publishers choose the values: long ones are not cached.
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
    """Return the filter of messages with these values (None: no value); empty if no message has a value."""
    return pack_masks((None if value is None else value_mask(value, size) for value in values), size)


def pack_masks(masks: Iterable[int | None], size: int) -> bytes:
    """Return the filter of messages whose values have these masks (None: no value)."""
    found = set(masks)
    if found <= {None}:
        return b""
    bits = 0
    for mask in found:
        bits |= value_mask(None, size) if mask is None else mask
    return bits.to_bytes(size, "big")


def value_of(message: Message) -> str | None:
    """Return the filter value in a message's headers, or None."""
    return _text(message.header(VALUE))


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


class ReaderFilter:
    """The filter of a reader: selects messages by their filter value and by a selector.

    A message matches if its value is one of ``values``, or (with ``unfiltered``) if it has none, and if the
    selector, if any, is true. ``chunk_cost`` is the work of the next ``may_be_in``, in delivered messages.
    """

    __slots__ = ("_masks", "_names", "_selector", "_unfiltered", "_values", "chunk_cost", "cost")

    def __init__(self, values: frozenset[str] | None, unfiltered: bool, selector: Selector | None) -> None:
        self._values = values
        self._unfiltered = unfiltered
        self._selector = selector
        self.cost = 1 if selector is None else 1 + selector.cost  # in steps of a selector
        self._masks: dict[int, list[int]] = {}  # of the values, by the size of a filter
        self.chunk_cost = 1 + sum(1 + len(value) // HASHED for value in values or ())
        self._names = HeaderNames()
        self._names.add((VALUE,))

    def may_be_in(self, chunk: Chunk) -> bool:
        """Return True if a chunk may hold matching messages."""
        values = self._values
        if values is None:
            return True
        bloom = chunk.filter
        if not bloom:
            return self._unfiltered
        bits, size = int.from_bytes(bloom), len(bloom)
        masks = self._masks.get(size)
        if masks is None:
            self._masks[size] = masks = [value_mask(value, size) for value in values]
            if self._unfiltered:
                masks.append(value_mask(None, size))
            self.chunk_cost = 1 + len(masks) // COMPARED
        return any(bits & mask == mask for mask in masks)

    def check(self, message: Message) -> Slicing[bool]:
        """Return True if the message matches; in slices if it has many headers."""
        if self._values is not None:
            names = self._names
            headers = names.pick(message) if is_small(message) else (yield from names.pick_in_slices(message))
            value = _text(headers.get(VALUE))
            if not (self._unfiltered if value is None else value in self._values):
                return False
        return self._selector is None or (yield from self._selector.check(message))


def check_filter(arguments: Mapping[str, Any], what: str) -> None:
    """Raise PreconditionFailed if the types of a consumer's arguments for its filter are wrong."""
    _values(arguments, what)
    unfiltered = arguments.get(UNFILTERED, False)
    if not isinstance(unfiltered, bool):
        raise PreconditionFailed(
            f"invalid arg '{UNFILTERED}' for {what}: {{unacceptable_type,{type_name(unfiltered)}}}"
        )
    if not isinstance(arguments.get(SELECTOR, ""), str):
        raise PreconditionFailed(f"invalid arg '{SELECTOR}' for {what}: a string is needed")


def reader_filter(arguments: Mapping[str, Any], what: str) -> Slicing[ReaderFilter | None]:
    """Return the filter in the checked arguments of a consumer, or None if there is none.

    Works in slices, since a selector may take long to compile. Raises PreconditionFailed for an invalid
    selector.
    """
    values = _values(arguments, what)
    selector = None
    if SELECTOR in arguments:
        try:
            selector = yield from compile_in_slices(arguments[SELECTOR])
        except SelectorError as error:
            raise PreconditionFailed(f"invalid arg '{SELECTOR}' for {what}: {error}") from None
    if values is None and selector is None:
        return None
    return ReaderFilter(values, arguments.get(UNFILTERED, False), selector)


def _values(arguments: Mapping[str, Any], what: str) -> frozenset[str] | None:
    if WANTED not in arguments:
        return None
    given = arguments[WANTED]
    values = given if isinstance(given, list) else [given]
    if len(values) > VALUES_MAX:
        raise PreconditionFailed(
            f"invalid arg '{WANTED}' for {what}: at most {VALUES_MAX} values are allowed"
        )
    for value in values:
        if not isinstance(value, str):
            raise PreconditionFailed(
                f"invalid arg '{WANTED}' for {what}: {{unacceptable_type,{type_name(value)}}}"
            )
    return frozenset(values)
