import io
import math

import pytest
from rich.console import Console

from leveret.router.bench import processes
from leveret.router.bench.benchmark_run import BenchResult, LatencySummary
from leveret.router.bench.load import BenchError, BenchTarget, Load
from leveret.router.bench.processes import BenchRun, Counters, Meter
from leveret.router.bench.report import ratio, table

RESULT = BenchResult(1000.0, 0.0, 900.0, 5000, 5000, 0.1, 0.2, seconds=5.0)
LATENCY = LatencySummary(7, 1.0, dict.fromkeys((50.0, 75.0, 90.0, 95.0, 99.0, 99.9, 99.99, 100.0), 1500))


def shown(load, *results, why=""):
    console = Console(file=io.StringIO(), width=200)
    names = [f"broker-{number}" for number in range(len(results))]
    console.print(table(load, dict(zip(names, results, strict=True)), None, why))
    return console.file.getvalue()


def test_one_broker_is_shown_without_its_address():
    text = shown(Load(), RESULT)
    assert "900 msg/s" in text
    assert "none lost" in text
    assert "broker-0" not in text
    assert "ratio" not in text


def test_brokers_beside_have_columns_and_ratios():
    slow = BenchResult(500.0, 0.0, 450.0, 5000, 5000, 0.1, 0.2, LATENCY, seconds=5.0)
    text = shown(Load(), RESULT, slow)
    assert "broker-0" in text
    assert "broker-1" in text
    (line,) = [line for line in text.splitlines() if "ratio" in line]
    assert "2.00" in line
    assert "1.500 ms" in text


def test_a_ratio_to_nothing_is_none():
    nothing = BenchResult(500.0, 0.0, 0.0, 5000, 0, 0.1, 0.2)
    assert ratio(RESULT, nothing) is None


def test_a_run_without_latencies_says_why():
    assert "latency" not in shown(Load(), RESULT)
    assert "use --rate" in shown(Load(), RESULT, why=Load(publishers=2).without_stamps)


@pytest.mark.parametrize(
    ("load", "why"),
    [
        (Load(), ""),
        (Load(publishers=2, rate=1.0), ""),
        (Load(size=5), "needs 9 bytes"),
        (Load(publishers=2), "--rate"),
    ],
)
def test_the_reason_for_no_timestamps(load, why):
    assert why in load.without_stamps
    assert bool(load.without_stamps) == bool(why)


def test_a_short_run_says_that_its_rates_are_worth_nothing():
    short = BenchResult(500.0, 0.0, 450.0, 10, 10, 0.1, 0.2, seconds=0.01)
    assert "too short for a rate" in shown(Load(), short)
    assert "too short" not in shown(Load(), RESULT)


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test sets."""

    class Clock:
        now = 0.0

        def monotonic(self):
            return self.now

    made = Clock()
    monkeypatch.setattr(processes, "time", made)
    return made


def test_a_run_of_a_count_is_measured_up_to_its_last_message(clock):
    run = BenchRun(BenchTarget("none"), Load(), Counters(1))
    run.measure(0.0, math.inf)
    meter = Meter(run)
    for now, count in ((0.0, 0), (1.0, 50), (2.0, 100), (9.0, 100)):
        clock.now = now
        meter.note(count, end=now == 9.0)
    report = meter.report({}, 0)
    assert (report.rate, report.seconds) == (50.0, 2.0)


def test_a_run_of_a_time_is_measured_between_its_start_and_its_end(clock):
    run = BenchRun(BenchTarget("none"), Load(), Counters(1))
    run.measure(1.0, 3.0)
    meter = Meter(run)
    for now, count in ((0.0, 10), (1.0, 50), (2.0, 100), (3.0, 150), (4.0, 900)):
        clock.now = now
        meter.note(count)
    assert meter.report({}, 0).rate == 50.0


def test_a_run_that_ends_before_it_is_measured_is_an_error():
    with pytest.raises(BenchError):
        Meter(BenchRun(BenchTarget("none"), Load(), Counters(1))).report({}, 0)
