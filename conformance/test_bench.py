"""The measurements themselves: each runs on a broker that keeps its word, and writes what it found."""

import signal
import subprocess
import sys
import time

import msgspec
import pika
import pytest
from click.testing import CliRunner

from conformance.bench import page, readme
from conformance.bench.__main__ import QUICK, compare
from conformance.bench.__main__ import main as run
from conformance.bench.sides import start
from conformance.bench.workloads import WORKLOADS
from conformance.brokers import Broker
from leveret.router.cli import main

HEAVY = {"queues", "fanout-1000", "4m", "topic-100k"}  # which say nothing on a small scale that others do not


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


def test_the_command_measures_brokers_beside_each_other(broker: Broker):
    arguments = ["bench", "--url", broker.url, "--beside", broker.url, "--seconds", "0.2", "--warm-up", "0.1"]
    found = msgspec.json.decode(CliRunner().invoke(main, [*arguments, "--json"]).stdout)
    (other,) = found["beside"]
    assert other["url_host"] == found["url_host"] == f"{broker.host}:{broker.port}"
    assert other["ratio"] == pytest.approx(found["result"]["received"] / other["result"]["received"], 0.01)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("amqp://guest:guest@127.0.0.1:1", "127.0.0.1:1: Connection refused"),
        ("amqp://guest:wrong@{address}", "{address}: the broker refused: 403 ACCESS_REFUSED"),
    ],
)
def test_a_broker_beside_is_looked_at_before_anything_is_measured(broker: Broker, wrong, said):
    address = f"{broker.host}:{broker.port}"
    result = CliRunner().invoke(
        main, ["bench", "--url", broker.url, "--beside", wrong.format(address=address)]
    )
    assert result.exit_code == 1
    assert result.output.startswith(f"leveret: {said.format(address=address)}")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_run_that_is_ended_deletes_its_queue(broker: Broker, number):
    # A shell that runs the tests in the background has them ignore SIGINT, and a program inherits that.
    program = ["env", "--default-signal=INT", sys.executable, "-m", "leveret", "bench"]
    command = [*program, "--url", broker.url, "--seconds", "60"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    connection = pika.BlockingConnection(pika.URLParameters(broker.url))

    def exists() -> bool:
        channel = connection.channel()
        try:
            channel.queue_declare(f"bench-{process.pid}-0", passive=True)
        except pika.exceptions.ChannelClosedByBroker:
            return False
        return True

    deadline = time.monotonic() + 20
    while not exists() and time.monotonic() < deadline:
        connection.process_data_events(0.05)
    process.send_signal(number)
    assert process.wait(20) != 0
    assert time.monotonic() < deadline, "it never declared its queue"
    with pytest.raises(pika.exceptions.ChannelClosedByBroker):
        connection.channel().queue_declare(f"bench-{process.pid}-0", passive=True)
    connection.close()


KEPT = {"began": "2030-01-01T00:00+00:00", "load": 0.5, "seconds": 3.0}


def test_the_page_has_ragged_traffic_first_and_identical_messages_last(tmp_path):
    slow = [{"ragged": 40.0, "same": 10.0}, {"ragged": 50.0, "same": 10.0}]
    fast = [{"ragged": 100.0, "same": 500.0}] * 2
    page.keep(tmp_path, "transient", KEPT | {"figures": {"leveret": fast, "rabbitmq": slow}})
    page.keep(tmp_path, "single", KEPT | {"figures": {"leveret": fast[:1], "rabbitmq": fast[:1]}})
    page.write(tmp_path)
    text = (tmp_path / "performance.md").read_text()
    ragged, same = (
        "| `transient` | 100 msg/s | 45 msg/s | 2.00 / **2.25** / 2.50 | ≥ 2.5 | **no** |",
        "identical messages: an upper bound",
    )
    assert "| `single` | 100 msg/s | 100 msg/s | 1.00 / **1.00** / 1.00 | ≥ 2.5 | **no** |" in text
    assert text.index(ragged) < text.index(same) < text.index("| `transient` | 500 msg/s |")
    assert "Not measured: `multiple`" in text


def test_the_page_shows_what_only_leveret_has_without_a_ratio(tmp_path):
    page.keep(tmp_path, "selectors", KEPT | {"figures": {"leveret": [{"ragged": 7.0}], "rabbitmq": [{}]}})
    page.write(tmp_path)
    assert "| `selectors` | 7.00 msg/s | - |  |  |  |" in (tmp_path / "performance.md").read_text()


def test_another_broker_beside_has_columns_of_its_own(tmp_path):
    figures = {
        side: [{"ragged": value}] for side, value in (("leveret", 9.0), ("rabbitmq", 3.0), ("h:1", 6.0))
    }
    page.keep(tmp_path, "transient", KEPT | {"figures": figures})
    page.write(tmp_path)
    text = (tmp_path / "performance.md").read_text()
    assert "| h:1 | leveret / h:1 |" in text
    assert "| 3.00 / **3.00** / 3.00 | ≥ 2.5 | yes | 6.00 msg/s | 1.50 |" in text


def test_plots_are_drawn_of_what_there_are_figures_for(tmp_path):
    latency = {f"p{at:g}": 1.0 for at in (50, 75, 90, 95, 99, 99.9, 99.99)}
    page.keep(tmp_path, "rate", KEPT | {"figures": {"leveret": [latency], "rabbitmq": [latency]}})
    page.write(tmp_path)
    assert "performance-latency.svg" in (tmp_path / "performance.md").read_text()
    assert (tmp_path / "performance-latency.svg").read_text().startswith("<?xml")


def test_a_broker_beside_that_cannot_be_used_ends_the_comparison_at_once(leveret, capsys):
    wrong = leveret.url.replace("guest:guest", "guest:wrong")
    assert run(["--broker", "leveret", "--beside", wrong, "--only", "transient", "--quick"]) == 1
    assert f"conformance.bench: {leveret.target.host}:{leveret.target.port}: the broker refused: 403" in (
        capsys.readouterr().err
    )


def test_a_broker_beside_is_measured_too(leveret, capsys, tmp_path):
    arguments = ["--broker", "leveret", "--beside", leveret.url, "--only", "transient", "--kind", "varied"]
    assert run([*arguments, "--quick", "--docs", str(tmp_path)]) == 0
    name = f"{leveret.target.host}:{leveret.target.port}"
    found = page.load(tmp_path)["transient"]["figures"]
    assert all("varied" in each and "ragged" not in each for (each,) in found.values())
    assert found.keys() == {"leveret", name}
    assert f"{name} " in capsys.readouterr().out


def test_no_workload_begins_after_the_time(capsys):
    assert run(["--broker", "leveret", "--minutes", "0", "--only", "transient"]) == 0
    assert "not begun after 0 minutes: transient" in capsys.readouterr().err


def test_the_sentences_of_the_readme_quote_messages_that_differ(tmp_path, capsys, monkeypatch):
    rows = {
        "transient": {"ragged": 100.0, "same": 900.0},
        "durable": {"ragged": 50.0},
        "fresh": {"start": 300.0, "idle": float(40 << 20)},
        "backlog": {"memory": float(90 << 20)},
        "topic-100k": {"ragged": 70.0},
    }
    for name, figures in rows.items():
        theirs = {figure: value / 2 for figure, value in figures.items()}
        page.keep(tmp_path, name, KEPT | {"figures": {"leveret": [figures], "rabbitmq": [theirs]}})
    monkeypatch.setattr("sys.argv", ["readme", str(tmp_path)])
    assert readme.main() == 0
    text = capsys.readouterr().out
    assert "100 messages a second from one publisher to one consumer, 2.0 times" in text
    assert "with identical ones it is 900" in text
    monkeypatch.setattr("sys.argv", ["readme", str(tmp_path / "none")])
    assert readme.main() == 1
