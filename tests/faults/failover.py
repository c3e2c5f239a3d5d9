"""Fail over a cluster again and again, and look each time whether it kept its promises.

    python -m tests.faults.failover --cycles 500 --seed 1

Two brokers over a PostgreSQL with a synchronous standby, and clients that follow the addresses of both. A
cycle: clients work; one thing fails (see ``cluster_faults``); they go on until the cluster has served them
for a moment; then everything in the queues is looked at, and every position of the store. Messages that were
confirmed must be there, settled ones must not come back, and each position belongs to one epoch.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import nullcontext, suppress
from functools import partial
from pathlib import Path
from random import Random

import trio

from leveret.protocol.amqp import methods as m
from tests.faults import streams
from tests.faults.broker import StartError
from tests.faults.client import LOST, Failed, FaultClient
from tests.faults.cluster import Cluster, allow
from tests.faults.cluster_faults import CUTS, FAULTS
from tests.faults.crash import Life, leaves, until_lost
from tests.faults.model import Model
from tests.faults.networks import missing, networks
from tests.faults.topology import ARGUMENTS, CHAINS, CONSUMED, FILLED, KEEPS_ALL
from tests.faults.workload import churner, consumer, declare, filler, mover, publisher, purger, transactions
from tests.postgresql import running_pair

LIFE = 6  # cycles a database lives through
PATIENCE = 90  # seconds of a cycle
SERVED = 1.0  # seconds that clients work after they were served again
QUIET = 0.5  # seconds without a change in the queues after which all has arrived that clients sent
RECOVERY = 30  # seconds in which some broker must serve again, also after PostgreSQL was away


class FailoverLife(Life):
    """One cluster from its beginning, through several cycles."""

    def __init__(self, cluster: Cluster, random: Random, longest: float) -> None:
        """``longest`` is how long a broker is suspended at most, in seconds."""
        super().__init__(Path("/nonexistent"), random)
        self.model = Model(CHAINS, KEEPS_ALL, transient_remain=True)
        self.cluster = cluster
        self.longest = longest
        self.broker = cluster  # type: ignore[assignment]  # only its port is used
        self.story = []
        self.faults = FAULTS
        self.gaps: list[float] = []  # the longest time in which no client was served, by cycle, in seconds

    async def cycle(self) -> None:
        """Raises Failed, StartError, or what a client ran into."""
        random = self.random
        fault = random.choice(self.faults)
        model = self.model
        if not model.topology:
            await self.cluster.start()
            await self._until_served()
            await declare(model, self.cluster.port)
            await streams.declare(self.cluster.port)
        async with trio.open_nursery() as nursery:
            self._run_clients(nursery)
            await trio.sleep(random.uniform(0.2, 1.5))
            self.gaps.append(0.0)
            nursery.start_soon(self._measure)
            await fault(self)
            await self._until_served()
            await trio.sleep(SERVED)
            self.story.append(f"{fault.__name__}: no client was served for {self.gaps[-1]:.1f} s")
            nursery.cancel_scope.cancel()
        await self.streamed.disconnect()
        await self._until_left()
        await self._verify(1000)
        if wrong := self.cluster.check_positions():
            raise Failed("\n".join(wrong[:20]))

    def _run_clients(self, nursery: trio.Nursery) -> None:
        """Start a random choice of everything, on connections to both brokers."""
        random = self.random

        def start(task: Callable[..., Awaitable[None]], *args: str) -> None:
            nursery.start_soon(self._follow, Random(random.getrandbits(32)), task, args)

        for _ in range(random.randint(1, 3)):
            start(publisher)
        for queue in CONSUMED:
            if random.random() < 0.4:
                start(consumer, queue)
        for task in (transactions, mover, purger, churner):
            if random.random() < 0.6:
                start(task)
        if random.random() < 0.3:
            start(filler, random.choice(FILLED))
        for name in ("n1", "n2"):
            if random.random() < 0.5:
                nursery.start_soon(self._follow_stream, streams.publisher, name)
        for task in (streams.reader, streams.looker):
            if random.random() < 0.5:
                nursery.start_soon(self._follow_stream, task)

    async def _follow_stream(self, task: Callable[..., Awaitable[None]], *args: str) -> None:
        """Run a task of the stream again and again, as ``_follow`` does."""
        random = Random(self.random.getrandbits(32))
        while True:
            await until_lost(task, self.streamed, random, self.cluster.port, *args)
            await trio.sleep(0.1)

    async def _follow(
        self, random: Random, task: Callable[..., Awaitable[None]], args: tuple[str, ...]
    ) -> None:
        """Run a task again and again, on a connection to either broker, until it is cancelled."""
        while True:
            client = FaultClient(self.model, random)
            with suppress(*LOST):
                await client.connect(self.cluster.port)
                try:
                    await task(client, *args)
                finally:
                    with trio.CancelScope(shield=True):
                        await trio.aclose_forcefully(client.client.stream)
            await trio.sleep(0.1)

    async def _measure(self) -> None:
        """Note the longest time in which no client was served, whichever address it tried."""
        last = trio.current_time()
        while True:
            for port in self.cluster.ports:
                if await self._serves(port):
                    self.gaps[-1] = max(self.gaps[-1], trio.current_time() - last)
                    last = trio.current_time()
            await trio.sleep(0.05)

    async def _until_served(self) -> None:
        """Wait until both addresses serve a client that publishes."""
        with trio.fail_after(RECOVERY):
            for port in self.cluster.ports:
                while not await self._serves(port):  # noqa: ASYNC110 - no event announces it
                    await trio.sleep(0.1)

    async def _serves(self, port: tuple[str, int]) -> bool:
        with trio.move_on_after(1), suppress(*LOST):
            client = FaultClient(Model(CHAINS, KEEPS_ALL), self.random)
            await client.connect(port)
            try:
                await client.call(m.QueueDeclare("barrier", durable=True), m.QueueDeclareOk)
                await client.confirmed()
                await client.send(client.barrier([]))
                while client.waiting():
                    await client.receive()
                return True
            finally:
                with trio.CancelScope(shield=True):
                    await trio.aclose_forcefully(client.client.stream)
        return False

    async def _until_left(self) -> None:
        """Wait until the brokers have noticed that all clients have left, and have handled what they sent."""
        client = FaultClient(self.model, self.random)
        await client.connect(self.cluster.port)
        for queue in (*CONSUMED, "move.a"):
            while True:
                ok = await client.call(m.QueueDeclare(queue, passive=True), m.QueueDeclareOk)
                if not ok.consumer_count:
                    break
                await trio.sleep(0.02)
        before: list[int] = []
        while (
            counts := [await self._count(client, queue) for queue in (*ARGUMENTS, streams.STREAM)]
        ) != before:
            before = counts
            await trio.sleep(QUIET)
        await client.client.close()

    async def _count(self, client: FaultClient, queue: str) -> int:
        ok = await client.call(m.QueueDeclare(queue, passive=True), m.QueueDeclareOk)
        return ok.message_count


async def fail_over(
    cycles: int, seed: int, seconds: float = 0, *, longest: float = 20, only: str = "", cuts: bool = False
) -> list[str]:
    """Run so many cycles, at most so long if that is not 0; return the stories of those that failed.

    ``longest`` is how long a broker is suspended at most, in seconds. With ``cuts`` networks are cut, too.
    """
    failures: list[str] = []
    gaps: list[float] = []
    end = time.monotonic() + seconds if seconds else float("inf")
    done = 0
    faults = [*FAULTS, *(CUTS if cuts else ())]
    with (
        running_pair(listen_addresses="*") as pair,
        tempfile.TemporaryDirectory(prefix="leveret-failover-") as directory,
        networks(2) if cuts else nullcontext([]) as links,
    ):
        allow(pair)
        while done < cycles and time.monotonic() < end:
            first, database = seed + done, f"cycle{done}"
            pair.primary.execute(f"CREATE DATABASE {database}")
            place = Path(directory) / database
            place.mkdir()
            random = Random(first)
            cluster = Cluster(place, pair, database, random, links)
            life = FailoverLife(cluster, random, longest)
            life.faults = [each for each in faults if not only or each.__name__ == only]
            try:
                for _ in range(min(LIFE, cycles - done)):
                    done += 1
                    with trio.fail_after(PATIENCE):
                        await life.cycle()
                    if time.monotonic() > end:
                        break
            except* (Failed, StartError, trio.TooSlowError, AssertionError) as group:
                errors = [f"{type(error).__name__}: {error}" for error in leaves(group)]
                logs = [f"{broker.log}\n{broker.log.read_text()[-4000:]}" for broker in cluster.brokers]
                command = f"python -m tests.faults.failover --cycles {LIFE} --seed {first}"
                failures.append("\n".join([command, *life.story, *errors, *logs]))
                print(failures[-1], file=sys.stderr, flush=True)
                done = (done + LIFE - 1) // LIFE * LIFE
            finally:
                gaps += life.gaps
                with trio.CancelScope(shield=True):
                    await cluster.kill()
    print(f"{len(failures)} failures in about {done} cycles; no client was served for {summary(gaps)}")
    return failures


def summary(gaps: list[float]) -> str:
    """Return the middle and the longest of the times in which no client was served."""
    ordered = sorted(gaps) or [0.0]
    return f"{ordered[len(ordered) // 2]:.1f} s (median), {ordered[-1]:.1f} s (longest)"


def main() -> None:
    parser = argparse.ArgumentParser(description="Fail over a cluster again and again.")
    parser.add_argument("--cycles", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=0, help="stop after so many seconds")
    parser.add_argument("--only", default="", help="name of the fault, instead of a random one")
    given = parser.parse_args()
    if reason := missing():
        print(f"no network is cut: {reason}", file=sys.stderr)
    run = partial(fail_over, given.cycles, given.seed, given.seconds, only=given.only, cuts=not reason)
    sys.exit(bool(trio.run(run)))


if __name__ == "__main__":
    main()
