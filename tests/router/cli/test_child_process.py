"""Commands that really run: what they get, and what becomes of them."""

import contextlib
import os

import pytest
import trio

from leveret.protocol.amqp.properties import Properties
from leveret.protocol.amqp.table import Timestamp
from leveret.router.cli import child_process
from leveret.router.cli.child_process import CommandOutcome, MessageCommand, message_variables

LIMIT = 30  # seconds, for a busy machine


def shell(script, *, timeout=None, grace=5000, keep_output=True):
    return MessageCommand(("sh", "-c", script), timeout, grace, keep_output)


async def run(command, body=b"", **variables):
    with trio.fail_after(LIMIT):
        return await command.run(body, variables)


async def gone(pid):
    """Wait until the process of this id, which need not be a child, has ended."""
    with trio.fail_after(LIMIT), contextlib.suppress(ProcessLookupError):
        descriptor = os.pidfd_open(int(pid))
        await trio.lowlevel.wait_readable(descriptor)
        os.close(descriptor)


async def test_the_body_is_its_input_and_what_it_prints_is_kept():
    body = os.urandom(1 << 20)
    assert await run(shell("cat"), body) == CommandOutcome(None, body)


async def test_a_command_need_not_read_its_input():
    assert await run(shell("exit 0"), b"x" * (1 << 20)) == CommandOutcome(None)


async def test_input_that_a_child_keeps_open_does_not_hold_anything_up(tmp_path):
    script = f"sleep 60 >/dev/null 2>&1 & echo $! > {tmp_path}/pid"
    assert (await run(shell(script, keep_output=False), b"x" * (1 << 20))).failure is None
    os.kill(int((tmp_path / "pid").read_text()), 9)


@pytest.mark.parametrize(
    ("script", "failure"),
    [("exit 3", "exit status 3"), ("kill -9 $$", "killed by SIGKILL"), ("kill -34 $$", "killed by SIGRTMIN")],
)
async def test_how_it_failed_is_said(script, failure):
    assert (await run(shell(script))).failure == failure


async def test_a_command_that_cannot_be_started_is_a_failure():
    outcome = await run(MessageCommand(("/nowhere/command",), None, 0, False))
    assert outcome == CommandOutcome("the command could not be started: No such file or directory")


async def test_a_timeout_ends_the_whole_group(tmp_path):
    script = f"sleep 60 & echo $! > {tmp_path}/pid; wait"
    outcome = await run(shell(script, timeout=500))
    assert outcome.failure == "the command took longer than 500ms"
    await gone((tmp_path / "pid").read_text())


async def test_a_command_that_ignores_sigterm_is_killed(tmp_path):
    script = f"trap '' TERM; (trap '' TERM; sleep 60) & echo $! > {tmp_path}/pid; wait; sleep 60"
    outcome = await run(shell(script, timeout=500, grace=100))
    assert outcome.failure == "the command took longer than 500ms"
    await gone((tmp_path / "pid").read_text())


async def test_a_command_may_clean_up_after_sigterm(tmp_path):
    script = f"trap 'echo tidy > {tmp_path}/file; exit 0' TERM; sleep 60 & wait"
    assert (await run(shell(script, timeout=500))).failure == "the command took longer than 500ms"
    assert (tmp_path / "file").read_text() == "tidy\n"


async def test_cancelling_ends_the_group(tmp_path):
    os.mkfifo(tmp_path / "pid")
    script = f"sleep 60 & echo $! > {tmp_path}/pid; wait"
    with trio.fail_after(LIMIT):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(shell(script, keep_output=False).run, b"", {})
            pid = await trio.Path(tmp_path / "pid").read_text()
            nursery.cancel_scope.cancel()
    await gone(pid)


async def test_output_without_end_is_a_failure(monkeypatch):
    monkeypatch.setattr(child_process, "OUTPUT_MAX", 1 << 20)
    assert (await run(shell("yes", grace=100))).failure == "the command printed more than 1 MiB"


async def test_variables_reach_the_command_byte_for_byte(monkeypatch):
    monkeypatch.setenv("LEVERET_MSG_STALE", "x")
    script = 'printf "%s|%s|%s" "$LEVERET_MSG_TEXT" "$LEVERET_MSG_RAW" "${LEVERET_MSG_STALE-none}"'
    outcome = await run(shell(script), TEXT="grüße\n", RAW="\udcff")
    assert outcome.output == "grüße\n|".encode() + b"\xff|none"


def test_a_variable_for_each_property_and_header():
    properties = Properties(
        content_type="text/plain",
        priority=3,
        timestamp=5,
        headers={
            "a-b": "x",
            "A.B": "y",
            "n": 1,
            "yes": True,
            "raw": b"\xff",
            "t": Timestamp(1),
            "none": None,
        },
    )
    found = message_variables(properties, queue="q", attempt=2, redelivered=False)
    headers = found.pop("HEADERS")
    assert headers.startswith('{"a-b": "x", "A.B": "y", "n": 1, "yes": true, "raw": {"base64": "/w=="}')
    assert found == {
        "QUEUE": "q",
        "ATTEMPT": "2",
        "REDELIVERED": "false",
        "CONTENT_TYPE": "text/plain",
        "PRIORITY": "3",
        "TIMESTAMP": "5",
        "HEADER_A_B": "x",
        "HEADER_N": "1",
        "HEADER_YES": "true",
        "HEADER_RAW": '{"base64": "/w=="}',
        "HEADER_T": '{"timestamp": 1}',
        "HEADER_NONE": "null",
    }


def test_what_a_variable_cannot_hold_has_none():
    properties = Properties(message_id="a\0b", type="t", headers={"large": "ü" * 60_000, "nul": "\0"})
    assert message_variables(properties) == {"TYPE": "t"}
