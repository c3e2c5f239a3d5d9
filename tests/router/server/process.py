"""``leveret serve`` as a process of its own, and clients on sockets."""

import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import PIPE

import trio

from tests.router.server.client import Client

TIMEOUT = 30  # seconds that starting and ending may take on a busy machine


@dataclass
class Leveret:
    """A running broker: ``announced`` is what it printed, ``ports`` are those that it listens on."""

    process: trio.Process
    announced: str
    log_file: Path

    @property
    def ports(self) -> list[int]:
        return [int(port) for port in re.findall(r"amqp://\S+:(\d+)", self.announced)]

    @property
    def log(self) -> str:
        return self.log_file.read_text()

    async def ended(self) -> int:
        """Wait for the process to end; return its exit status."""
        with trio.fail_after(TIMEOUT):
            return await self.process.wait()

    async def stop(self) -> int:
        """Stop it in good order; return its exit status."""
        self.process.terminate()
        return await self.ended()

    async def connect(self, host: str = "127.0.0.1", port: int = 0) -> Client:
        return Client(await trio.open_tcp_stream(host, port or self.ports[0]))


@asynccontextmanager
async def leveret(
    tmp_path: Path, *args: str, files: int = 0, module: str = "leveret"
) -> AsyncIterator[Leveret]:
    """Run ``leveret serve ARGS`` until the end of the block, where it is killed if it still runs.

    It may open so many ``files``, if that is not 0. ``module`` is run as ``python -m`` runs it.
    """
    log_file = tmp_path / "log"
    command = [
        sys.executable,
        "-m",
        module,
        "serve",
        "--data",
        ":memory:",
        "--set",
        "listen.amqp=127.0.0.1:0",
        "--set",
        "listen.http=none",
        *args,
    ]
    if files:
        command = ["sh", "-c", f'ulimit -n {files} && exec "$@"', "sh", *command]
    with log_file.open("wb") as log:
        process = await trio.lowlevel.open_process(command, stdout=PIPE, stderr=log)
    try:
        with trio.fail_after(TIMEOUT):
            announced = bytearray()
            while not announced.endswith(b"\n") and (data := await process.stdout.receive_some()):
                announced += data
        yield Leveret(process, announced.decode(), log_file)
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
            await process.stdout.aclose()
