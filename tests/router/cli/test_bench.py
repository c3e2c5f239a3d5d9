import pytest
from click.testing import CliRunner

from leveret.router.cli import main
from tests.router.cli.test_serve import modules_after


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--url", "localhost"], "leveret: the URL of the broker is amqp://USER:PASSWORD@HOST:PORT/VHOST\n"),
        (["--queues", "0"], "leveret: at least one queue and one process are needed\n"),
        (["--consumers", "0"], "leveret: at least one publisher and one consumer are needed\n"),
        (["--backlog", "0"], "leveret: backlog 0: no message may wait, so none can be sent\n"),
        (
            ["--profile", "celery", "--size", "9"],
            "leveret: --size has no effect on messages of a profile, which have their own sizes\n",
        ),
        (
            ["--profile", "pika", "--kind", "same"],
            "leveret: the messages of a profile differ as they are: kind same has no effect\n",
        ),
        (
            ["--workload", "replies", "--rate", "100"],
            "leveret: --rate has no effect on the workload replies\n",
        ),
        (
            ["--workload", "connections", "--size", "9"],
            "leveret: --size has no effect on the workload connections\n",
        ),
    ],
)
def test_what_makes_no_sense_is_wrong_usage(arguments, told):
    result = CliRunner().invoke(main, ["bench", *arguments])
    assert (result.exit_code, result.output) == (2, told)


@pytest.mark.parametrize("arguments", [["--seconds", "0"], ["--seconds", "-1"], ["--warm-up", "-1"]])
def test_a_time_that_is_none_is_wrong_usage(arguments):
    result = CliRunner().invoke(main, ["bench", *arguments])
    assert result.exit_code == 2
    assert arguments[0] in result.output


def test_a_broker_that_is_not_there_is_a_failure():
    result = CliRunner().invoke(main, ["bench", "--url", "amqp://127.0.0.1:1"])
    assert (result.exit_code, result.output) == (1, "leveret: 127.0.0.1:1: Connection refused\n")


def test_the_other_subcommands_do_not_load_it():
    loaded = modules_after("serve", "--set", "x=1")
    assert not {name for name in loaded if name.startswith("leveret.router.bench")}
