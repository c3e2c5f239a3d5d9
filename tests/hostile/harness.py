"""A broker in a process of its own, and a probe beside it that measures how long others wait."""

import json
import re
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import PIPE

import trio

from tests.router.server.client import Client
from tests.router.server.process import Leveret, leveret
from tests.router.server.web import Browser

SETTLED = 0.3  # seconds that the probe goes on after the scenario, beside what goes on in later turns


@dataclass
class Attack:
    """What a scenario uses: clients of the broker, the API, and ``scale`` (1: full size)."""

    broker: Leveret
    scale: float

    def many(self, count: int) -> int:
        """A number of things at this scale."""
        return max(1, int(count * self.scale))

    async def client(self, channels: int = 1) -> Client:
        client = await self.broker.connect(port=self.broker.ports[0])
        return await client.login(channels=range(1, channels + 1))

    async def ask(self, path: str, method: str = "GET", body: bytes = b"", *, refused: bool = False) -> bytes:
        """The body of an answer of the API, which must be a good one, or one that says what is wrong."""
        found = re.search(r"http://127\.0\.0\.1:(\d+)", self.broker.announced)
        assert found is not None
        browser = Browser(await trio.open_tcp_stream("127.0.0.1", int(found[1])))
        answer = await browser.ask(path, method, body, authorization="Basic Z3Vlc3Q6Z3Vlc3Q=")
        await browser.stream.aclose()
        assert answer.status < 300 or (refused and 400 <= answer.status < 500), (answer.status, answer.body)
        return bytes(answer.body)

    async def metric(self, name: str) -> float:
        text = (await self.ask("/metrics")).decode()
        found = re.search(rf"^{name} (\S+)$", text, re.MULTILINE)
        assert found is not None, name
        return float(found[1])


Scenario = Callable[[Attack], Awaitable[None]]


@asynccontextmanager
async def probing(port: int, waits: list[float]) -> AsyncIterator[None]:
    """Have a probe look at a broker during the block; ``waits`` gets the seconds of each look."""
    command = [sys.executable, "-m", "tests.hostile.probe", str(port)]
    process = await trio.lowlevel.open_process(command, stdin=PIPE, stdout=PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        ready = b""
        while not ready.endswith(b"\n"):
            data = await process.stdout.receive_some()
            assert data, "the probe has ended"
            ready += data
        yield
        await trio.sleep(SETTLED)
        await process.stdin.aclose()
        told = b""
        while data := await process.stdout.receive_some():
            told += data
        waits += json.loads(told)
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()


@dataclass(frozen=True)
class Outcome:
    """How long the probe waited, and the longest turn of the broker's loop in wall and processor seconds.

    ``slow`` are the lines of the log about slow turns.
    """

    p99: float
    longest: float
    turn: float
    turn_cpu: float
    slow: tuple[str, ...]


async def play(scenario: Scenario, path: Path, *, scale: float = 1, data: str = ":memory:") -> Outcome:
    """Play a scenario against a new broker with a probe beside it; the broker must be well afterwards, and
    stop, and start again if it has ``data``.
    """
    flags = ("--amqp=127.0.0.1:0", "--http=127.0.0.1:0", f"--data={data}")
    async with leveret(path, *flags) as broker:
        attack = Attack(broker, scale)
        waits: list[float] = []
        async with probing(broker.ports[0], waits):
            await scenario(attack)
        waits.sort()
        outcome = Outcome(
            waits[int(len(waits) * 0.99)],
            waits[-1],
            await attack.metric("leveret_loop_longest_turn_seconds"),
            await attack.metric("leveret_loop_longest_turn_cpu_seconds"),
            tuple(line for line in broker.log.splitlines() if "took long" in line),
        )
        assert await broker.stop() == 0
    if data != ":memory:":
        async with leveret(path, *flags) as broker:
            await Attack(broker, scale).client()
            assert await broker.stop() == 0
    return outcome
