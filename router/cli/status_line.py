"""A status line at the bottom of a terminal, with the output of commands above it.

Responsible for the terminal, and for the pipes that receive the output of commands. The caller supplies the
text of the line and runs the commands.
"""

import os
import shutil
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import BinaryIO, TextIO

import trio

REFRESH = 0.25  # seconds between two drawings of the line
PLAIN_REFRESH = 10.0  # seconds between two lines if standard error is not a terminal
PARTIAL_MAX = 8192  # bytes of an incomplete line that are held back
READ = 1 << 16  # bytes; the capacity of a pipe

ERASE = "\r\x1b[K"


class StatusLine:
    """Draws ``render()`` as the last line of ``stream``; prints it every 10 s if ``stream`` is not a
    terminal.
    """

    def __init__(self, render: Callable[[], str], stream: TextIO) -> None:
        self._render = render
        self._stream = stream
        self._terminal = stream.isatty()
        self._drawn = False
        self.relays: Sequence[Relay] = ()

    def say(self, text: str) -> None:
        """Print a message of leveret above the status line, after the output of commands so far."""
        for relay in self.relays:
            relay.catch_up()
        self._erase()
        self._stream.write(f"leveret: {text}\n")
        self.draw()

    def pass_on(self, data: bytes, stream: BinaryIO) -> None:
        """Write whole lines of a command's output to ``stream``, above the status line."""
        self._erase()
        self._stream.flush()
        stream.write(data)
        stream.flush()
        self.draw()

    def draw(self) -> None:
        """Redraw the line, if ``stream`` is a terminal."""
        if self._terminal:
            columns = shutil.get_terminal_size().columns
            self._stream.write(f"{ERASE}{self._render()[: columns - 1]}")
            self._drawn = True
        self._stream.flush()

    def end(self) -> None:
        """Pass on what commands have printed, and remove the line."""
        for relay in self.relays:
            relay.close()
        self._erase()
        self._stream.flush()

    async def run(self) -> None:
        """Update the line until cancelled."""
        while True:
            if self._terminal:
                self.draw()
            await trio.sleep(REFRESH if self._terminal else PLAIN_REFRESH)
            if not self._terminal:
                self.say(self._render())

    def _erase(self) -> None:
        if self._drawn:
            self._stream.write(ERASE)
            self._drawn = False


class Relay:
    """Passes the output of commands on to ``stream``, in whole lines above the status line.

    Each command gets a pipe of its own, so that lines of different commands do not mix. A pipe is read until
    every process that holds it has ended, so that background processes of a command can go on writing.
    """

    def __init__(self, line: StatusLine, stream: BinaryIO, nursery: trio.Nursery) -> None:
        self._line = line
        self._stream = stream
        self._nursery = nursery
        self._pipes: dict[_Pipe, None] = {}

    def open(self) -> int:
        """Return a file descriptor for the output of one command; the caller closes it after its start."""
        output, given = os.pipe()
        pipe = _Pipe(output, self._pass_on)
        self._pipes[pipe] = None
        self._nursery.start_soon(self._run, pipe)
        return given

    def catch_up(self) -> None:
        """Pass on the output that is in the pipes now."""
        for pipe in list(self._pipes):
            pipe.drain()

    def close(self) -> None:
        """Pass on the output that is in the pipes, including incomplete lines; do not wait for more."""
        for pipe in list(self._pipes):
            pipe.drain()
            pipe.flush()

    def _pass_on(self, data: bytes) -> None:
        self._line.pass_on(data, self._stream)

    async def _run(self, pipe: "_Pipe") -> None:
        await pipe.run()
        del self._pipes[pipe]


class _Pipe:
    """The output of one command: ``pass_on`` gets whole lines of it."""

    def __init__(self, descriptor: int, pass_on: Callable[[bytes], None]) -> None:
        self._descriptor = descriptor
        self._stream = trio.lowlevel.FdStream(descriptor)
        self._pass_on = pass_on
        self._partial = b""

    async def run(self) -> None:
        """Pass output on until its end."""
        while True:
            # An incomplete line, such as a prompt, is shown after a pause in the output.
            with trio.move_on_after(REFRESH if self._partial else float("inf")) as waited:
                data = await self._stream.receive_some(READ)
            if waited.cancelled_caught:
                self.flush()
            elif data:
                self._take(data)
            else:
                break
        self.flush()
        await self._stream.aclose()

    def drain(self) -> None:
        """Pass on the available output with one read, since a command may never stop printing."""
        with suppress(BlockingIOError):
            self._take(os.read(self._descriptor, READ))

    def flush(self) -> None:
        """Pass on an incomplete line."""
        if self._partial:
            self._pass_on(self._partial + b"\n")
            self._partial = b""

    def _take(self, data: bytes) -> None:
        lines, end, self._partial = (self._partial + data).rpartition(b"\n")
        if end:
            self._pass_on(lines + end)
        if len(self._partial) > PARTIAL_MAX:
            self.flush()


@asynccontextmanager
async def shown(render: Callable[[], str]) -> AsyncIterator[tuple[StatusLine, Relay | None, Relay | None]]:
    """Show a status line on standard error during the block.

    With it come relays for the standard output and standard error of commands, where these are terminals.
    """
    line = StatusLine(render, sys.stderr)
    async with trio.open_nursery() as nursery:
        output = error = None
        if sys.stderr.isatty():
            error = Relay(line, sys.stderr.buffer, nursery)
            output = Relay(line, sys.stdout.buffer, nursery) if sys.stdout.isatty() else None
        line.relays = [each for each in (output, error) if each is not None]
        nursery.start_soon(line.run)
        try:
            yield line, output, error
        finally:
            nursery.cancel_scope.cancel()
            line.end()
