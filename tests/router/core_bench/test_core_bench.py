import msgspec
import pytest
from click.testing import CliRunner

from leveret.protocol.amqp import methods as m
from leveret.protocol.amqp.command import Publishes
from leveret.protocol.amqp.reader import CommandReader
from leveret.router.bench.load import KINDS, RAGGED, BenchError
from leveret.router.cli import main
from leveret.router.core_bench import measure as measuring
from leveret.router.core_bench.measure import measure
from leveret.router.core_bench.memory_broker import MemoryBroker
from leveret.router.core_bench.workloads import WORKLOADS, Script


@pytest.mark.slow
@pytest.mark.parametrize("name", WORKLOADS)
def test_every_message_is_delivered_and_costs_time(name):
    assert measure(WORKLOADS[name], RAGGED, passes=1) > 0


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_traffic_is_measured(kind):
    assert measure(WORKLOADS["durable"], kind, passes=1) > 0


def test_a_message_that_is_not_delivered_is_noticed(monkeypatch):
    monkeypatch.setattr(measuring, "_subscribe", lambda client, script: None)
    with pytest.raises(BenchError, match="4096 messages should have come, 0 did"):
        measure(WORKLOADS["auto-ack"], RAGGED, passes=1)


@pytest.mark.parametrize(("name", "together"), [("queues-1", 1), ("queues-4", 4)])
def test_a_read_has_so_many_messages_for_each_queue(name, together):
    script = Script(WORKLOADS[name], RAGGED)
    read = next(script.reads())
    found = CommandReader(0, 1 << 30).receive(read.publishes)
    keys = [command.routing_key for _, command in found if not isinstance(command, Publishes)]
    assert len(keys) == read.count == 100 * together
    assert keys == [f"bench-{number:02}" for number in range(100)] * together
    assert script.count % read.count == 0


def test_delivery_tags_go_on_in_the_next_pass():
    script = Script(WORKLOADS["ack-each"], RAGGED)
    first, second = (b"".join(read.acks for read in script.reads()) for _ in range(2))
    commands = [command for data in (first, second) for _, command in CommandReader(0, 0).receive(data)]
    tags = [tag for each in commands for tag in (each.tags if hasattr(each, "tags") else [each.delivery_tag])]
    assert tags == list(range(1, 2 * script.count + 1))


def test_the_store_of_a_broker_in_memory_commits_persistent_messages():
    broker = MemoryBroker()
    client = broker.connect()
    client.call(m.QueueDeclare("bench-0", durable=True))
    before = broker.store.committed_batch
    script = Script(WORKLOADS["durable"], RAGGED)
    client.call(m.ConfirmSelect())
    client.send(next(script.reads()).publishes)
    assert broker.store.committed_batch > before


@pytest.mark.slow
def test_the_command_prints_a_table_or_json():
    arguments = ["bench", "core", "--passes", "1", "--workload", "auto-ack"]
    shown = CliRunner().invoke(main, arguments)
    assert shown.exit_code == 0, shown.output
    assert "one queue, 100 B, automatic ack" in shown.output
    assert "upper bound" in shown.output
    found = CliRunner().invoke(main, [*arguments, "--kind", "ragged", "--json"])
    assert msgspec.json.decode(found.stdout)["workloads"]["auto-ack"].keys() == {"ragged"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["core", "--kind", "x"], "leveret: --kind x: must be one of ragged, varied, same\n"),
        (["--size", "9", "core"], "leveret: --size has no effect on the subcommand core\n"),
    ],
)
def test_wrong_usage(arguments, said):
    result = CliRunner().invoke(main, ["bench", *arguments])
    assert (result.exit_code, result.output) == (2, said)
