"""Packed tables: mappings with the content of the tables that they are made of."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leveret.protocol.amqp.packed_table import FEW, PackedTable, pack_if_large
from leveret.protocol.amqp.table import Timestamp, encode_table
from tests.protocol.amqp.strategies import TABLES


@given(TABLES, st.text(max_size=20))
def test_a_packed_table_is_a_mapping_equal_to_its_table(table, other):
    made = PackedTable(table)
    assert made == table
    assert table == made
    assert list(made) == list(table)
    assert (len(made), list(made.values()), list(made.items())) == (
        len(table),
        list(table.values()),
        list(table.items()),
    )
    for name in [*table, other]:
        assert (name in made) == (name in table)
        assert made.get(name) == table.get(name)
    assert encode_table(made) == encode_table(table)


def test_types_of_values_survive():
    table = {"time": Timestamp(2), "true": True, "bytes": b"x", "none": None, "float": 1.5}
    assert {name: type(value) for name, value in PackedTable(table).items()} == {
        name: type(value) for name, value in table.items()
    }


def test_a_missing_name_raises_key_error():
    with pytest.raises(KeyError, match="missing"):
        PackedTable({"a": 1})["missing"]


@pytest.mark.parametrize(
    ("table", "is_packed"),
    [
        ({}, False),
        ({"x-max-length": 1}, False),
        ({str(number): number for number in range(FEW - 1)}, False),
        ({str(number): number for number in range(FEW)}, True),
        ({"list": []}, True),
        ({"table": {"a": 1}}, True),
    ],
)
def test_only_large_tables_are_packed(table, is_packed):
    made = pack_if_large(table)
    assert isinstance(made, PackedTable) == is_packed
    assert made == table
