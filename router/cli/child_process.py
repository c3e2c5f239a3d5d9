"""Subprocess that handles one message: its input, environment, time limit and result.

Responsible for the process and its group. ``worker_pool`` settles the message by the result.
"""

import os
import re
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any, Protocol

import trio

from leveret.protocol.amqp.plain import plain_properties, plain_value
from leveret.protocol.amqp.properties import Properties
from leveret.protocol.json_text import dump_json
from leveret.router.cli.terminal import shown_duration

PREFIX = "LEVERET_MSG_"
VARIABLE_MAX = 100_000  # bytes; Linux takes 128 KiB for one string
OUTPUT_MAX = 16 << 20  # bytes of a reply


@dataclass(frozen=True, slots=True)
class CommandOutcome:
    """Result of a command: ``failure`` is None for exit status 0, ``output`` its captured standard output."""

    failure: str | None
    output: bytes = b""


class Output(Protocol):
    """Receiver of the output of commands."""

    def open(self) -> int:
        """Return a file descriptor for the output of one command; the caller closes it after the command has
        started.
        """


@dataclass(frozen=True, slots=True)
class MessageCommand:
    """A command to run. ``timeout`` (None: no limit) and ``grace``, between SIGTERM and SIGKILL, are in ms.

    ``stdout`` and ``stderr`` receive its output; None: those of this process.
    """

    words: Sequence[str]
    timeout: int | None
    grace: int
    keep_output: bool
    stdout: Output | None = None
    stderr: Output | None = None

    async def run(self, body: bytes, variables: Mapping[str, str]) -> CommandOutcome:
        """Run the command with the body on standard input. If cancelled, its process group is killed."""
        try:
            process = await self._start(variables)
        except OSError as error:
            return CommandOutcome(f"the command could not be started: {error.strerror}")
        output = bytearray()
        finished = False
        try:
            with trio.move_on_after(float("inf") if self.timeout is None else self.timeout / 1000):
                finished = await self._communicate(process, body, output)
        finally:
            if not finished:
                await _end_group(process, self.grace / 1000)
            if process.stdout is not None:
                await trio.aclose_forcefully(process.stdout)
        if len(output) > OUTPUT_MAX:
            return CommandOutcome(f"the command printed more than {OUTPUT_MAX >> 20} MiB")
        if not finished:
            return CommandOutcome(f"the command took longer than {shown_duration(self.timeout or 0)}")
        return CommandOutcome(_failure(process.returncode or 0), bytes(output))

    async def _start(self, variables: Mapping[str, str]) -> trio.Process:
        """Start the process. Raises OSError."""
        stdout = subprocess.PIPE if self.keep_output else None
        stderr = None
        with ExitStack() as opened:
            if self.stdout is not None and not self.keep_output:
                stdout = self.stdout.open()
                opened.callback(os.close, stdout)
            if self.stderr is not None:
                stderr = self.stderr.open()
                opened.callback(os.close, stderr)
            return await trio.lowlevel.open_process(
                list(self.words),
                stdin=subprocess.PIPE,
                stdout=stdout,
                stderr=stderr,
                env=_environment(variables),
                start_new_session=True,
            )

    async def _communicate(self, process: trio.Process, body: bytes, output: bytearray) -> bool:
        """Write the body and read the output until the process ends; return False for too much output."""
        assert process.stdin is not None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_feed, process.stdin, body)
            if process.stdout is not None:
                # to the end of the pipe, which child processes may keep open
                async for data in process.stdout:
                    output += data
                    if len(output) > OUTPUT_MAX:
                        nursery.cancel_scope.cancel()
                        return False
            await process.wait()
            nursery.cancel_scope.cancel()  # background processes that still read standard input get no more
        return True


async def _feed(pipe: trio.abc.SendStream, body: bytes) -> None:
    """Write the body; a command need not read it."""
    with suppress(trio.BrokenResourceError):
        async with pipe:
            await pipe.send_all(body)


async def _end_group(process: trio.Process, grace: float) -> None:
    """End the process group: SIGTERM, and SIGKILL after the grace period."""
    with trio.CancelScope(shield=True):
        if process.returncode is None:
            _signal_group(process.pid, signal.SIGTERM)
            with trio.move_on_after(grace):
                await process.wait()
        _signal_group(process.pid, signal.SIGKILL)
        await process.wait()


def _signal_group(leader: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):  # all of its processes have ended
        os.killpg(leader, number)


def _failure(status: int) -> str | None:
    if status == 0:
        return None
    if status > 0:
        return f"exit status {status}"
    try:
        return f"killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"killed by signal {-status}"


# -- the environment -----------------------------------------------------------------------------------------


def message_variables(properties: Properties, **others: str | int | bool) -> dict[str, str]:
    """Return the variables for a message: its properties, each header, and ``others``; without the prefix.

    A value that a variable cannot hold (with a NUL, or of more than VARIABLE_MAX bytes) is left out.
    """
    found = {name.upper(): _text(value) for name, value in others.items()}
    plain = plain_properties(properties)
    headers = plain.pop("headers", None)
    found |= {name.upper(): _text(value) for name, value in plain.items()}
    if headers is not None:
        found["HEADERS"] = dump_json(headers)
        for name, value in (properties.headers or {}).items():
            spelled = re.sub("[^A-Z0-9]", "_", name.upper())
            found.setdefault(f"HEADER_{spelled}", _text(plain_value(value)))
    fits = {name: text for name, text in found.items() if "\0" not in text and len(text) <= VARIABLE_MAX}
    return {name: text for name, text in fits.items() if len(_bytes(text)) <= VARIABLE_MAX}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else dump_json(value)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _environment(variables: Mapping[str, str]) -> dict[str, str]:
    """Return this process's environment with the message's variables in place of those of an outer
    message.
    """
    found = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    return found | {PREFIX + name: os.fsdecode(_bytes(text)) for name, text in variables.items()}
