"""A short run of the fuzzer, with the same inputs each time."""

import tracemalloc
from itertools import islice

import pytest

from tests.fuzz.__main__ import try_all
from tests.fuzz.mutate import LONGEST, inputs
from tests.fuzz.targets import TARGETS

COUNT = {
    "frames": 1000,
    "amqp_connection": 400,
    "amqp_login": 400,
    "stomp_connection": 400,
    "selector": 300,
    "http_connections": 30,
    "websocket": 250,
    "websocket_connections": 40,
}
MEMORY = 32 << 20  # bytes that inputs of 4 KiB may take at most


@pytest.mark.parametrize("name", TARGETS)
def test_no_input_makes_it_fail_hang_or_take_much_memory(name):
    count = COUNT.get(name, 3000)
    tracemalloc.start()
    try:
        assert try_all(name, TARGETS[name], islice(inputs(TARGETS[name].seeds, 1), count)) == count
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < MEMORY


def test_inputs_are_the_same_for_the_same_number():
    seeds = TARGETS["frames"].seeds
    first, again, other = (list(islice(inputs(seeds, number), 50)) for number in (1, 1, 2))
    assert first == again != other
    assert max(map(len, first)) <= LONGEST
