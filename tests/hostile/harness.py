"""A broker in a process of its own, and a probe beside it that measures how long others wait.

A run starts the broker on a data directory, plays scenarios one after another, ends the broker, starts it
again on the directory, and looks for each message that the probe had confirmed.
"""

import json
import re
import resource
import sys
import traceback
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import PIPE

import trio
import trustme

from leveret.protocol.amqp import methods as m
from leveret.protocol.amqp.command import Delivery
from tests.hostile.probe import KEPT
from tests.hostile.scenario import Attack, Scenario
from tests.router.server.client import Client
from tests.router.server.process import Leveret, leveret

SETTLED = 0.3  # seconds that the probe goes on after the scenario, beside what goes on in later turns
PLAYING = 150  # seconds that a scenario may take
SLOW_TURN = "slow turn of the event loop"
LISTENERS = ("amqp", "amqps", "stomp", "http")


async def idle(attack: Attack) -> None:
    """Nothing, for comparison."""
    await trio.sleep(5 * attack.scale)


IDLE = Scenario("", idle, short=1 / 10, memory=200)


@dataclass
class Outcome:
    """What a scenario did to the others: seconds that the probe waited, the longest turn of the broker's loop
    that is not one of an earlier scenario in wall and processor seconds, the peak of resident memory in MiB,
    and what went wrong. ``slow`` are log lines of turns of 5 ms or longer, those with most processor time
    first. ``restart`` is how long the broker took to start again, if it did.
    """

    scenario: Scenario
    waits: list[float] = field(default_factory=list)
    turn: float = 0.0
    turn_cpu: float = 0.0
    memory: float = 0.0
    paused: float = 0.0
    restart: float = 0.0
    slow: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def quantile(self, share: float) -> float:
        """Of the waits, without the time in which the scenario kept the broker from running."""
        paused = self.paused
        waits = sorted(each - paused if paused and each > paused / 2 else each for each in self.waits)
        return max(0.0, waits[min(len(waits) - 1, int(len(waits) * share))]) if waits else 0.0


@dataclass(frozen=True)
class Bounds:
    """What others may wait at most, in seconds; and whether the turns of the broker's loop have a bound."""

    p99: float
    longest: float
    turns: bool = False

    def broken_by(self, outcome: Outcome) -> list[str]:
        """What went wrong, for people; empty if all is well."""
        found = list(outcome.failures)
        p99, longest = outcome.quantile(0.99), outcome.quantile(1)
        if p99 >= self.p99:
            found.append(f"probe p99 {1000 * p99:.0f} ms, not below {1000 * self.p99:.0f}")
        if longest > self.longest:
            found.append(f"probe max {1000 * longest:.0f} ms, over {1000 * self.longest:.0f}")
        if self.turns and outcome.turn_cpu > outcome.scenario.turn:
            found.append(f"turn of {1000 * outcome.turn_cpu:.0f} ms of CPU: {outcome.slow[:3]}")
        if outcome.memory > outcome.scenario.memory:
            found.append(f"{outcome.memory:.0f} MiB of memory, over {outcome.scenario.memory}")
        return [f"{outcome.scenario.name}: {each}" for each in found]


class ProbeProcess:
    """The probe, and all numbers that it said were confirmed."""

    def __init__(self, process: trio.Process) -> None:
        self._process = process
        self.confirmed: set[int] = set()

    async def line(self) -> bytes:
        assert self._process.stdout is not None
        line = b""
        while not line.endswith(b"\n"):
            data = await self._process.stdout.receive_some()
            assert data, "the probe has ended: its connection was lost"
            line += data
        return line

    async def report(self) -> list[float]:
        """Return the waits since the last report, once everything published until now is confirmed."""
        assert self._process.stdin is not None
        await self._process.stdin.send_all(b"report\n")
        report = json.loads(await self.line())
        self.confirmed |= set(report["confirmed"])
        return [float(each) for each in report["waits"]]


@asynccontextmanager
async def probing(port: int) -> AsyncIterator[ProbeProcess]:
    """Have a probe look at a broker during the block."""
    command = [sys.executable, "-m", "tests.hostile.probe", str(port)]
    process = await trio.lowlevel.open_process(command, stdin=PIPE, stdout=PIPE)
    try:
        probe = ProbeProcess(process)
        await probe.line()
        yield probe
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()


def flags(path: Path) -> list[str]:
    """The command line of the broker: all listeners, and a data directory below ``path``."""
    pem = path / "certificate.pem"
    if not pem.exists():
        certificate = trustme.CA().issue_cert("localhost")
        certificate.private_key_and_cert_chain_pem.write_to_path(str(pem))
    listeners = [f"--{name}=127.0.0.1:0" for name in LISTENERS]
    settings = [f"tls.certificate={pem}", "websocket.compression=true", "amqp.channel_max=65535"]
    return [*listeners, f"--data={path / 'data'}", *(f"--set={each}" for each in settings)]


def reset_peak_memory(broker: Leveret) -> None:
    Path(f"/proc/{broker.process.pid}/clear_refs").write_text("5")


def peak_memory(broker: Leveret) -> float:
    """The most resident memory since the reset, in MiB."""
    status = Path(f"/proc/{broker.process.pid}/status").read_text()
    found = re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)
    assert found is not None, status
    return int(found[1]) / 1024


def cpu_of(line: str) -> float:
    """The processor seconds of a turn, from its line in the log."""
    found = re.search(r"\bcpu_ms=(\S+)", line)
    assert found is not None, line
    return float(found[1]) / 1000


def slow_turns(log: str) -> list[str]:
    """The lines of a log about turns of 5 ms or longer, those with most processor time first."""
    return sorted((line for line in log.splitlines() if SLOW_TURN in line), key=cpu_of, reverse=True)


async def play(
    scenario: Scenario, broker: Leveret, probe: ProbeProcess, scale: float, *, first: bool
) -> Outcome:
    """Play a scenario in a virtual host of its own, and delete that. Unless it is the ``first``, the longest
    turn counts only if it is longer than those of the scenarios before.
    """
    outcome = Outcome(scenario)
    attack = Attack(broker, scale, scenario.name)
    vhost = f"/api/vhosts/{attack.vhost}"
    logged = len(broker.log)
    try:
        with trio.fail_after(PLAYING):
            await attack.ask(vhost, "PUT")
            before = await attack.longest_turn()
            await probe.report()
            reset_peak_memory(broker)
            await scenario.run(attack)
            await trio.sleep(SETTLED)
            outcome.waits = await probe.report()
            outcome.memory = peak_memory(broker)
            outcome.slow = slow_turns(broker.log[logged:])
            after = await attack.longest_turn()
            outcome.turn, outcome.turn_cpu = (
                new if first or new > old else 0.0 for new, old in zip(after, before, strict=True)
            )
            outcome.turn_cpu = max([outcome.turn_cpu, *(cpu_of(line) for line in outcome.slow)])
            outcome.paused = attack.paused
            await attack.ask(vhost, "DELETE")
    except Exception as problem:  # told in the outcome: the scenarios after this one are played all the same
        outcome.failures.append("".join(traceback.format_exception(problem))[-1500:])
    if broker.process.poll() is not None:
        outcome.failures.append(f"the broker has ended: {broker.log[-2000:]}")
    if "Traceback" in broker.log[logged:]:
        outcome.failures.append(f"a traceback in the log: {broker.log[logged:][-2000:]}")
    return outcome


async def run(scenarios: Sequence[Scenario], path: Path, *, scale: float, kill: bool) -> list[Outcome]:
    """Play scenarios one after another against a new broker, at ``scale`` or the size of their short form if
    that is larger. Then end it, with SIGKILL or in good order, and start it again on its data directory.
    """
    outcomes: list[Outcome] = []
    command = flags(path)
    async with leveret(path, *command, module="tests.hostile.broker") as broker:
        async with probing(broker.ports[0]) as probe:
            for scenario in scenarios:
                size = max(scale, scenario.short)
                outcomes.append(await play(scenario, broker, probe, size, first=not outcomes))
                if broker.process.poll() is not None:
                    return outcomes
        last = outcomes[-1]
        if kill:
            broker.process.kill()
            await broker.ended()
        elif (status := await broker.stop()) != 0:
            last.failures.append(f"the broker ended with status {status}: {broker.log[-2000:]}")
    began = trio.current_time()
    async with leveret(path, *command) as broker:
        last.restart = trio.current_time() - began
        if not broker.announced:
            last.failures.append(f"the broker did not start again: {broker.log[-2000:]}")
            return outcomes
        lost = probe.confirmed - await kept(await broker.connect(port=broker.ports[0]))
        if lost:
            last.failures.append(f"{len(lost)} confirmed messages are lost, among them {min(lost)}")
        if (status := await broker.stop()) != 0:
            last.failures.append(f"the restarted broker ended with status {status}: {broker.log[-2000:]}")
    return outcomes


async def kept(client: Client) -> set[int]:
    """Consume the messages that the probe had confirmed; return their numbers."""
    await client.login()
    count = await client.count(KEPT)
    await client.call(m.BasicConsume(KEPT, no_ack=True), m.BasicConsumeOk)
    found = set()
    for _ in range(count):
        delivery = await client.next()
        assert isinstance(delivery, Delivery), delivery
        found.add(int(delivery.message.body))
    await client.close()
    return found


def allow_files() -> None:
    """Allow as many open files as the system lets this process have: the clients are all in it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
