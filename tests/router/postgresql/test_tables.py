"""The rows of files: what is written anywhere, in any order, is what a file would hold."""

from hypothesis import given
from hypothesis import strategies as st

from leveret.router.postgresql import tables
from leveret.router.postgresql.tables import file_of, overlay, rows, table_of

PIECES = st.lists(st.tuples(st.integers(0, 60), st.binary(min_size=1, max_size=40)), max_size=12)


@given(PIECES)
def test_rows_have_the_bytes_of_the_pieces(pieces):
    longest, tables.ROW = tables.ROW, 16
    try:
        found = list(rows(pieces))
    finally:
        tables.ROW = longest
    expected = bytearray()
    for start, data in pieces:
        expected.extend(bytes(max(0, start + len(data) - len(expected))))
        expected[start : start + len(data)] = data
    assert overlay(found, 0) == expected
    assert all(0 < len(data) <= 16 for _, data in found)


def test_many_small_pieces_are_one_row():
    """A page of a queue is written in three pieces for each message."""
    pieces = [(place, b"x") for place in range(3000)]
    assert list(rows(pieces)) == [(0, b"x" * 3000)]


@given(st.integers(1, 10**9), st.integers(0, 10**12))
def test_file_of_a_table_is_the_one_that_it_was_made_for(number, offset):
    for name in (
        f"journal/{number:010d}.journal",
        f"segments/{number:010d}.segment",
        f"streams/{number:010d}-{offset:020d}.segment",
    ):
        table = table_of(name, 3)
        assert table is not None
        assert (file_of(table, 3), file_of(table, 4)) == (name, None)
