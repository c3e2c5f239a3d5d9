import os
import resource

import pytest

from leveret.router.bench.load import SAME, BenchError, Load
from leveret.router.bench.sink import ceiling


@pytest.mark.parametrize("load", [Load(), Load(kind=SAME), Load(window=10, ack=1, prefetch=100, size=16)])
def test_both_sides_are_measured_against_a_sink(load, monkeypatch):
    monkeypatch.setattr("leveret.router.bench.sink.DELIVERIES", 10_000)
    found = ceiling(load, 0.1)
    assert found.published > 0
    assert found.received > 0


def test_a_body_that_is_too_large_for_it_is_refused():
    with pytest.raises(BenchError):
        ceiling(Load(size=1 << 22), 0.1)


def test_a_generator_works_though_many_files_are_open(monkeypatch):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 2048)), hard))
    files = [os.dup(0) for _ in range(1100)]  # beyond what select() takes
    try:
        test_both_sides_are_measured_against_a_sink(Load(), monkeypatch)
    finally:
        for file in files:
            os.close(file)
