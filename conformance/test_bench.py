"""The measurements themselves: each runs on a broker that keeps its word, and writes what it found."""

import msgspec
import pytest
from click.testing import CliRunner

from conformance.bench import page
from conformance.bench.__main__ import QUICK, compare
from conformance.bench.sides import start
from conformance.bench.workloads import WORKLOADS
from conformance.brokers import Broker
from leveret.router.cli import main

HEAVY = {"queues", "fanout-1000", "4m"}  # which say nothing on a small scale that others do not


@pytest.fixture(scope="module")
def leveret():
    """A leveret with a data directory, ready to be measured."""
    with start("leveret") as side:
        yield side


@pytest.mark.parametrize("name", sorted(WORKLOADS.keys() - HEAVY))
def test_a_short_run_gives_every_figure(leveret, name):
    ((figures,),) = compare(WORKLOADS[name], [leveret], QUICK, rounds=1)
    # No more than that: within a moment a busy disk may do nothing. That nothing was lost is checked anyway.
    assert all(figures[row.figure] >= 0 for row in WORKLOADS[name].rows)


def test_the_command_measures_any_broker(broker: Broker):
    arguments = ["bench", "--url", broker.url, "--seconds", "0.2", "--warm-up", "0.1", "--json"]
    arguments += ["--exchange", "topic", "--queues", "4", "--bindings", "20", "--consumers", "2"]
    result = CliRunner().invoke(main, [*arguments, "--processes", "2", "--ack", "10", "--persistent"])
    assert result.exit_code == 0, result.output
    found = msgspec.json.decode(result.stdout)["result"]
    assert found["sent_in_all"] == found["received_in_all"] > 0


def test_the_table_that_it_prints_says_that_nothing_was_lost(broker: Broker):
    arguments = ["bench", "--url", broker.url, "--seconds", "0.2", "--warm-up", "0.1", "--rate", "500"]
    result = CliRunner().invoke(main, arguments)
    assert "none lost" in result.stdout
    assert "p99" in result.stdout


def test_the_page_is_written_from_what_was_kept(tmp_path):
    figures = {"deliveries": 100.0}
    kept = {"began": "2030-01-01T00:00+00:00", "load": 0.5, "seconds": 3.0}
    slow = [{"deliveries": 40.0}, {"deliveries": 50.0}]
    page.keep(tmp_path, "transient", kept | {"figures": {"leveret": [figures, figures], "rabbitmq": slow}})
    page.keep(tmp_path, "single", kept | {"figures": {"leveret": [figures], "rabbitmq": [figures]}})
    page.write(tmp_path)
    text = (tmp_path / "performance.md").read_text()
    assert "| `transient` | 100 msg/s | 45 msg/s | 2.00 / **2.25** / 2.50 | ≥ 2 | yes |" in text
    assert "| `single` | 100 msg/s | 100 msg/s | 1.00 / **1.00** / 1.00 | ≥ 1.7 | **no** |" in text


def test_plots_are_drawn_of_what_there_are_figures_for(tmp_path):
    latency = {f"p{at:g}": 1.0 for at in (50, 75, 90, 95, 99, 99.9, 99.99)}
    kept = {"began": "2030-01-01T00:00+00:00", "load": 0.5, "seconds": 3.0}
    page.keep(tmp_path, "rate", kept | {"figures": {"leveret": [latency], "rabbitmq": [latency]}})
    page.write(tmp_path)
    assert "performance-latency.svg" in (tmp_path / "performance.md").read_text()
    assert (tmp_path / "performance-latency.svg").read_text().startswith("<?xml")
