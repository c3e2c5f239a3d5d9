import gc
import subprocess
import sys

import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner

from leveret.router.cli import main


def completed(*words):
    """What a shell is offered behind these words, the last of which is not complete."""
    *before, incomplete = words
    found = ShellComplete(main, {}, "leveret", "_LEVERET_COMPLETE").get_completions(before, incomplete)
    return [each.value for each in found]


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("pu",), ["publish"]),
        (("con",), ["consume", "context", "connection", "consumer"]),
        (("queue", "d"), ["declare", "delete", "delete-messages"]),
        (("consume", "q", "--settle", ""), ["ack", "requeue", "reject"]),
        (("work", "--dead"), ["--dead-letter", "--dead-letter-exchange", "--dead-letter-key"]),
    ],
)
def test_words_are_completed(words, offered):
    assert sorted(completed(*words)) == sorted(offered)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_is_printed(shell):
    result = CliRunner().invoke(main, ["completion", shell], prog_name="leveret")
    assert result.exit_code == 0, result.output
    assert f"_LEVERET_COMPLETE={shell}_complete" in result.stdout


def test_the_command_answers_a_shell():
    done = subprocess.run(
        [sys.executable, "-c", "from leveret.router.cli import main; main(prog_name='leveret')"],
        env={"_LEVERET_COMPLETE": "bash_complete", "COMP_WORDS": "leveret ping --t", "COMP_CWORD": "2"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "plain,--timeout\n"


def test_a_subcommand_runs_with_garbage_collection_though_loading_modules_does_not():
    gc.disable()
    try:
        CliRunner().invoke(main, ["completion", "bash"], prog_name="leveret")
        assert gc.isenabled()
    finally:
        gc.enable()
