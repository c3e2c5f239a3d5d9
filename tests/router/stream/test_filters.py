"""The Bloom filter of a chunk."""

import tracemalloc

import pytest

from leveret.router.stream.filters import pack_filter


@pytest.mark.parametrize("length", [1, 64, 65, 10_000])
def test_a_value_has_the_same_bits_however_often_it_comes(length):
    value = "v" * length
    assert pack_filter([value], 16) == pack_filter([value, value], 16)
    assert pack_filter([value], 16) != pack_filter(["w" * length], 16)


def test_long_values_are_not_kept_in_memory():
    tracemalloc.start()
    try:
        for number in range(200):
            pack_filter([f"{number}" + "x" * 100_000], 16)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 1_000_000
