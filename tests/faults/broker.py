"""A broker process that is meant to die: started on a data directory, killed or stopped, started again."""

import re
import resource
import sys
from collections.abc import Sequence
from pathlib import Path
from subprocess import PIPE

import trio

STARTING = 30  # seconds on a busy machine
STOPPING = 5  # seconds that are promised


class StartError(Exception):
    """The broker did not come up; the text is its log."""


class Broker:
    """``leveret serve`` on one data directory. Every start has a log of its own beside it.

    ``prefix`` is a command that runs the broker.
    """

    def __init__(self, data: Path, *options: str, prefix: Sequence[str] = ()) -> None:
        self._prefix = prefix
        self.data = data
        self.starts = 0
        self.port = 0
        self._options = options
        self._process: trio.Process | None = None
        self._writer: trio.Process | None = None  # of the log

    @property
    def log(self) -> Path:
        return self.data.with_name(f"{self.data.name}.log.{self.starts}")

    @property
    def process_id(self) -> int:
        """Of the broker that runs."""
        assert self._process is not None
        return self._process.pid

    async def spawn(self) -> trio.Process:
        """Start the process, and do not wait until it listens."""
        assert self._process is None
        self.starts += 1
        command = [*self._prefix, sys.executable, "-m", "leveret", "serve", "--data", str(self.data)]
        command += ["--amqp", "127.0.0.1:0", "--http", "none", *self._options]
        with self.log.open("wb") as log:
            # The log goes through a pipe, so that it does not suffer with the disk.
            self._writer = await trio.lowlevel.open_process(["cat"], stdin=PIPE, stdout=log)
        assert self._writer.stdin is not None
        stderr = self._writer.stdin.fileno()
        self._process = await trio.lowlevel.open_process(command, stdout=PIPE, stderr=stderr)
        await self._writer.stdin.aclose()
        return self._process

    def fail_writes(self, failing: bool) -> None:
        """Have every write to a file fail, or none any more."""
        assert self._process is not None
        _, hard = resource.prlimit(self._process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(self._process.pid, resource.RLIMIT_FSIZE, (0 if failing else hard, hard))

    async def start(self) -> None:
        """Start the process and wait until it listens. Raises StartError."""
        process = await self.spawn()
        assert process.stdout is not None
        announced = b""
        with trio.fail_after(STARTING):
            while not announced.endswith(b"\n") and (data := await process.stdout.receive_some()):
                announced += data
        found = re.search(rb"amqp://\S+:(\d+)", announced)
        if found is None:
            await self.kill()
            raise StartError(self.log.read_text())
        self.port = int(found[1])

    async def kill(self) -> None:
        """SIGKILL, at whatever it is doing."""
        if self._process is not None:
            self._process.kill()
            await self._ended()

    async def stop(self) -> int:
        """SIGTERM; return the exit status."""
        assert self._process is not None
        self._process.terminate()
        with trio.fail_after(STOPPING):
            return await self._ended()

    async def _ended(self) -> int:
        assert self._process is not None
        with trio.CancelScope(shield=True):
            status = await self._process.wait()
            if self._writer is not None:
                await self._writer.wait()
            if self._process.stdout is not None:
                await self._process.stdout.aclose()
        self._process = None
        return status
