"""Field tables and message properties by their wire types: written with any type, read without losing one.

The broker's own tables choose a type for each value and forget it when they read. Here the type is the point:
a scenario may send a number in any of eight types, and a transcript tells which came. Shares no code with the
broker, so that neither can hide the other's mistakes.
"""

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

FIXED = {
    "t": ">?", "b": ">b", "B": ">B", "s": ">h", "u": ">H", "I": ">i", "i": ">I",
    "l": ">q", "L": ">q", "f": ">f", "d": ">d", "T": ">Q",
}  # fmt: skip
SHOWN_BYTES = 60  # of a text, so that a transcript can be read
PROPERTIES = (
    ("content_type", "s"),
    ("content_encoding", "s"),
    ("headers", "F"),
    ("delivery_mode", "B"),
    ("priority", "B"),
    ("correlation_id", "s"),
    ("reply_to", "s"),
    ("expiration", "s"),
    ("message_id", "s"),
    ("timestamp", "T"),
    ("type", "s"),
    ("user_id", "s"),
    ("app_id", "s"),
    ("cluster_id", "s"),
)


@dataclass(frozen=True)
class Typed:
    """A value with its type character; a ``value`` of bytes is what follows the character, as it is."""

    kind: str
    value: Any = None

    def __repr__(self) -> str:
        return f"{self.kind}:{self.value!r}"


def encode_table(table: Mapping[str, Any]) -> bytes:
    """A table with its length; texts become ``S``, integers ``I`` or ``l``, and ``Typed`` what it says."""
    return block(b"".join(short(name) + encode_value(value) for name, value in table.items()))


def encode_value(value: Any) -> bytes:  # noqa: PLR0911 - one for each type
    """A value behind its type character."""
    match value:
        case Typed(kind, bytes() as raw):
            return kind.encode("latin-1") + raw
        case Typed(kind, inner) if kind in FIXED:
            return kind.encode() + struct.pack(FIXED[kind], inner)
        case bool():
            return b"t" + bytes([value])
        case int():
            small = -(2**31) <= value < 2**31
            return struct.pack(">ci", b"I", value) if small else struct.pack(">cq", b"l", value)
        case float():
            return struct.pack(">cd", b"d", value)
        case str():
            return b"S" + block(value.encode("utf-8", "surrogateescape"))
        case bytes():
            return b"x" + block(value)
        case None:
            return b"V"
        case list():
            return b"A" + block(b"".join(map(encode_value, value)))
        case dict():
            return b"F" + encode_table(value)
    raise TypeError(f"no field type holds {value!r}")


def block(content: bytes) -> bytes:
    """Content behind its length of four bytes."""
    return struct.pack(">I", len(content)) + content


def short(text: str) -> bytes:
    """A short string."""
    content = text.encode("utf-8", "surrogateescape")
    return bytes([len(content)]) + content


def encode_properties(properties: Mapping[str, Any]) -> bytes:
    """Flags and list."""
    flags, parts = 0, []
    for bit, (name, kind) in enumerate(PROPERTIES):
        if (value := properties.get(name)) is None:
            continue
        flags |= 1 << (15 - bit)
        write: Callable[[Any], bytes] = {"s": short, "F": encode_table}.get(kind) or _number(kind)
        parts.append(write(value))
    return struct.pack(">H", flags) + b"".join(parts)


def _number(kind: str) -> Callable[[Any], bytes]:
    return lambda value: struct.pack(FIXED[kind], value)


# -- reading -------------------------------------------------------------------------------------------------


def show_properties(data: bytes) -> str:
    """The properties in ``data``, which begins with the flags, as ``name=value``."""
    (flags,) = struct.unpack_from(">H", data)
    offset, shown = 2, []
    for bit, (name, kind) in enumerate(PROPERTIES):
        if not flags & 1 << (15 - bit):
            continue
        if kind == "s":
            text, offset = _short(data, offset)
            shown.append(f"{name}={text}")
        elif kind == "F":
            text, offset = show_table(data, offset)
            shown.append(f"{name}={text}")
        else:
            (number,) = struct.unpack_from(FIXED[kind], data, offset)
            offset += struct.calcsize(FIXED[kind])
            shown.append(f"{name}={number}")
    if flags & 3 or offset != len(data):
        shown.append(f"flags {flags:#x}, {len(data) - offset} bytes more")
    return " ".join(shown)


def show_table(data: bytes, offset: int) -> tuple[str, int]:
    """The table whose length stands at ``offset``, in the order of names, which means nothing on the wire."""
    (size,) = struct.unpack_from(">I", data, offset)
    offset += 4
    end = offset + size
    entries = []
    while offset < end:
        name, offset = _short(data, offset)
        value, offset = _show_value(data, offset)
        entries.append(f"{name[1:-1]}: {value}")
    return "{" + ", ".join(sorted(entries)) + "}", end


def _show_value(data: bytes, offset: int) -> tuple[str, int]:
    kind, offset = chr(data[offset]), offset + 1
    if kind in FIXED:
        (value,) = struct.unpack_from(FIXED[kind], data, offset)
        return f"{kind}:{value}", offset + struct.calcsize(FIXED[kind])
    if kind == "D":
        scale, value = struct.unpack_from(">Bi", data, offset)
        return f"D:{value}e-{scale}", offset + 5
    if kind == "V":
        return "V", offset
    (size,) = struct.unpack_from(">I", data, offset)
    end = offset + 4 + size
    if kind == "F":
        return show_table(data, offset)
    if kind == "A":
        offset += 4
        items = []
        while offset < end:
            item, offset = _show_value(data, offset)
            items.append(item)
        return "[" + ", ".join(items) + "]", end
    text = show_bytes(data[offset + 4 : end])
    return text if kind == "S" else f"{kind}:{text}", end


def _short(data: bytes, offset: int) -> tuple[str, int]:
    end = offset + 1 + data[offset]
    return show_bytes(data[offset + 1 : end], 255), end


def show_bytes(data: bytes, most: int = SHOWN_BYTES) -> str:
    """Bytes as a quoted text; of a long one the beginning, the length and a sum of all."""
    shown = repr(data[:most])[1:]
    return shown if len(data) <= most else f"{shown}... ({len(data)} bytes, sum {sum(data) % 65536})"
