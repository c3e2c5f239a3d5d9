"""A field table kept as its bytes: decoded, a table of many entries takes three times as much memory.

Responsible for tables that are kept for long and rarely used, such as the arguments of queues and consumers.
"""

from collections.abc import ItemsView, Iterator, Mapping, ValuesView
from typing import Any

from leveret.protocol.amqp.table import (
    KEPT,
    Table,
    Value,
    decode_table,
    decode_value,
    encode_table,
    find_entries,
)

FEW = 16  # entries; a smaller table without tables or arrays in it is kept decoded


def pack_if_large(table: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a mapping with the same content as ``table``, packed if it is large.

    Raises the errors of ``encode_table``.
    """
    if len(table) < FEW and not any(isinstance(value, dict | list) for value in table.values()):
        return table
    return PackedTable(table)


class PackedTable(Mapping[str, Any]):
    """A table that cannot be changed, decoded each time that it is used."""

    __slots__ = ("_raw",)

    def __init__(self, table: Mapping[str, Value]) -> None:
        self._raw = encode_table(table, KEPT)

    def table(self) -> Table:
        """Return the decoded table. ``dict`` of this mapping would search for each of its names."""
        return decode_table(self._raw, 0, KEPT)[0]

    def __getitem__(self, name: str) -> Any:
        raw, key = self._raw, name.encode("utf-8", "surrogateescape")
        for _, _, value, after in find_entries(raw, 4, len(raw), (key,)):
            return decode_value(raw, value, after, KEPT)[0]
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.table())

    def __len__(self) -> int:
        return len(self.table())

    def items(self) -> ItemsView[str, Any]:
        return self.table().items()

    def values(self) -> ValuesView[Any]:
        return self.table().values()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.table()!r})"
