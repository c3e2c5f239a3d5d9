"""Crash a broker again and again, and look each time whether it kept its promises.

    python -m tests.faults.crash --cycles 1000 --seed 1 [--store postgresql]

A cycle: clients work, the broker is killed (or, now and then, stopped), started, killed again soon after or
while it still starts, and started once more; then everything in its queues is looked at. A data directory
lives through several cycles. With ``--store postgresql`` there is a PostgreSQL with a synchronous standby
instead of the directory, and one of the servers is killed where otherwise the disk fails. The choices are
drawn from the seed; the moments are those of the machine, so that a failure may need some repeating.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from random import Random
from typing import Any

import trio

from leveret.protocol.amqp import methods as m
from leveret.protocol.amqp.codec import method_frame
from tests.faults import streams
from tests.faults.broker import Broker, StartError
from tests.faults.client import LOST, Failed, FaultClient, found_of
from tests.faults.model import Found, Model, Publication
from tests.faults.topology import ARGUMENTS, CHAINS, KEEPS_ALL, ORDERED
from tests.faults.workload import declare, numbers, run
from tests.postgresql import PostgresPair, running_pair

LIFE = 6  # cycles a data directory lives through
PATIENCE = 30  # seconds until a broker that hangs counts as failed


class Life:
    """One data directory, or schema of a PostgreSQL, from its beginning, through several cycles."""

    def __init__(self, directory: Path, random: Random, servers: PostgresPair | None = None) -> None:
        self.random = random
        self.servers = servers
        self.model = Model(CHAINS, KEEPS_ALL)
        self.streamed = streams.StreamModel()
        options = ["--log-level", "error", "--set", "queue.default_delivery_limit=-1"]
        options += ["--set", "auth.password_hash=sha256"]  # a slow hash for each start tells nothing here
        if random.random() < 0.5:
            options += ["--set", "store.journal_size=65536"]
        if random.random() < 0.5:
            options += ["--set", "store.memory=1"]  # whatever can be on disk is
        if servers is not None:
            options += ["--store", servers.primary.dsn(), "--set", f"store.schema=life_{next(numbers)}"]
        elif random.random() < 0.3:  # a process that is killed loses nothing by it
            options += ["--set", "store.sync=interval", "--set", "store.sync_interval=20"]
        self.broker = Broker(directory / "data", *options)
        self.story: list[str] = [" ".join(options)]

    async def cycle(self) -> None:
        """Raises Failed, StartError, or what a client ran into."""
        broker, random = self.broker, self.random
        if broker.starts == 0:
            await broker.start()
            await declare(self.model, broker.port)
            await streams.declare(broker.port)
        seconds = random.choice((0.05, 0.3, 0.6, 1.2, 2)) * random.random()
        async with trio.open_nursery() as nursery:
            run(self.model, random, broker.port, nursery)
            self._stream(nursery)
            await trio.sleep(seconds)
            if random.random() < 0.15:
                await self._sicken()
            if random.random() < 0.15:
                self.story.append(f"stopped after {seconds:.3f} s")
                status = await broker.stop()
                if status:
                    raise Failed(f"exit status {status}\n{broker.log.read_text()}")
            else:
                self.story.append(f"killed after {seconds:.3f} s")
                await broker.kill()
            self.story.append(f"{self._paged()} bytes in pages")
        await self._verify(await self._restart())

    def _stream(self, nursery: trio.Nursery) -> None:
        """Have the stream written and read."""
        random, port, model = self.random, self.broker.port, self.streamed

        def start(task: Callable[..., Awaitable[None]], *args: str) -> None:
            nursery.start_soon(until_lost, task, model, Random(random.getrandbits(32)), port, *args)

        for name in ("n1", "n2"):
            if random.random() < 0.5:
                start(streams.publisher, name)
        if random.random() < 0.6:
            start(streams.reader)
        if random.random() < 0.4:
            start(streams.looker)

    def _paged(self) -> int:
        files = self.broker.data.glob("segments/*"), self.broker.data.glob("transient/*")
        return sum(file.stat().st_size for each in files for file in each)

    async def _sicken(self) -> None:
        """Have the disk fail, and mostly recover: what was not written is written again after a second."""
        broker, random = self.broker, self.random
        if self.servers is not None:
            await self._kill_server(self.servers)
            return
        broker.fail_writes(True)
        failing = random.choice((0.05, 0.5, 1.5)) * random.random()
        self.story.append(f"the disk failed for {failing:.3f} s")
        await trio.sleep(failing)
        if random.random() < 0.8:
            broker.fail_writes(False)
            await trio.sleep(random.uniform(0, 1.5))
            self.story.append("and recovered")

    async def _kill_server(self, servers: PostgresPair) -> None:
        """Kill the primary, or its standby, without which no commit ends; start it again after a while."""
        server = self.random.choice((servers.primary, servers.primary, servers.standby))
        self.story.append(f"the {server.directory.name} was killed")
        server.kill()
        await trio.sleep(self.random.choice((0.05, 0.5, 1.5)) * self.random.random())
        await trio.to_thread.run_sync(server.start)
        await trio.sleep(self.random.uniform(0, 1.5))
        self.story.append("and started")

    async def _restart(self) -> int:
        broker, random = self.broker, self.random
        restarts = 1
        kind = random.random()
        if kind < 0.4:
            delay = random.uniform(0.1, 0.8)
            self.story.append(f"killed {delay:.3f} s after it was started")
            await broker.spawn()
            await trio.sleep(delay)
            await broker.kill()
            restarts += 1
        elif kind < 0.8:
            await broker.start()
            self.story.append("killed as soon as it was up")
            await trio.sleep(random.choice((0, 0.01, 0.1)))
            await broker.kill()
            restarts += 1
        await broker.start()
        return restarts

    async def _verify(self, restarts: int) -> None:
        model = self.model
        client = FaultClient(model, self.random)
        await client.connect(self.broker.port)
        await client.confirmed()
        wrong = await self._check_topology(client)
        await client.call(m.QueuePurge("barrier"), m.QueuePurgeOk)
        found = await self._drain(client)
        wrong += model.check(found, ORDERED, restarts + 1)
        if wrong:
            raise Failed("\n".join([*wrong[:20], f"{len(wrong)} faults"]))
        self.story.append(f"{sum(map(len, found.values()))} messages in the queues")
        await self._verify_streams()
        model.accept(found)
        count = sum(map(len, found.values()))
        self.story.append(f"verified with {count} messages")
        if count > 5000 or self.random.random() < 0.3:
            tokens = [message.token for messages in found.values() for message in messages]
            model.settling.update(tokens)
            await client.send(method_frame(1, m.BasicAck(0, multiple=True)), client.barrier(tokens))
            while client.waiting():
                await client.receive()
        await client.client.close()

    async def _verify_streams(self) -> None:
        streamed = await streams.verify(self.streamed, self.model, self.broker.port)
        self.story.append(f"{streamed} messages in the stream")

    async def _check_topology(self, client: FaultClient) -> list[str]:
        wrong = []
        topology = self.model.topology
        for thing, expected in list(topology.items()):
            there = await self._is_there(thing, client)
            if expected is not None and there != expected:
                wrong.append(f"{' '.join(thing)} is {'there' if there else 'gone'}")
            topology[thing] = there
        return wrong

    async def _is_there(self, thing: tuple[str, ...], client: FaultClient) -> bool:
        kind, name = thing[0], thing[-1]
        if kind == "binding":
            publication = Publication(f"b{next(numbers)}", 1, (name,))
            await client.send(client.pack(publication, "churn", name, mandatory=True))
            before = client.returned
            while client.waiting():
                await client.receive()
            if client.returned > before:
                publication.confirmed = False
                self.model.gone.update(publication.tokens())
                return False
            return True
        asker = FaultClient(self.model, self.random)
        await asker.connect(self.broker.port)
        question: m.Method = m.QueueDeclare(name, passive=True)
        if kind == "exchange":
            question = m.ExchangeDeclare(name, passive=True)
        await asker.client.send(question)
        answer = await asker.client.next()
        await asker.client.stream.aclose()
        return not isinstance(answer, m.ChannelClose)

    async def _drain(self, client: FaultClient) -> dict[str, list[Found]]:
        """Everything in the queues, as it is delivered; it stays unsettled on this channel."""
        model = self.model
        queues = [*ARGUMENTS, *(thing[1] for thing, there in model.topology.items()
                                if there and thing[0] == "queue" and thing[1] not in ARGUMENTS)]  # fmt: skip
        for empty in ("ttl", "mixed"):
            await self._expired(client, empty)
        found: dict[str, list[Found]] = {}
        for queue in queues:
            await client.call(m.BasicConsume(queue, queue), m.BasicConsumeOk)
            await self._emptied(client, queue)
            found[queue] = [found_of(delivery, queue) for delivery in client.deliveries]
            client.deliveries.clear()
            await client.call(m.BasicCancel(queue), m.BasicCancelOk)
        return found

    async def _expired(self, client: FaultClient, queue: str) -> None:
        """Wait until what has a short deadline has passed it."""
        if queue == "mixed":
            await trio.sleep(0.1)  # all deadlines were before the last restart was over
            return
        await self._emptied(client, queue)

    async def _emptied(self, client: FaultClient, queue: str) -> None:
        """Wait until nothing in a queue is ready, though some of it comes from the disk first."""
        while True:
            ok = await client.call(m.QueueDeclare(queue, passive=True), m.QueueDeclareOk)
            assert isinstance(ok, m.QueueDeclareOk)
            if not ok.message_count:
                return
            await trio.sleep(0.01)


async def until_lost(task: Callable[..., Awaitable[None]], *args: object) -> None:
    """Run a task until its broker is gone."""
    try:
        await task(*args)
    except LOST:
        pass
    except AssertionError as error:  # something else came than was expected: its end
        match error.args:
            case (m.ConnectionClose(reply_code=320),):
                pass
            case _:
                raise


async def crash(cycles: int, seed: int, seconds: float = 0, servers: PostgresPair | None = None) -> list[str]:
    """Run so many cycles, at most so long if that is not 0; return the stories of those that failed.

    ``servers`` hold the store if it is not a data directory.
    """
    failures = []
    end = time.monotonic() + seconds if seconds else float("inf")
    done = 0
    while done < cycles and time.monotonic() < end:
        first = seed + done
        with tempfile.TemporaryDirectory(prefix="leveret-crash-", ignore_cleanup_errors=True) as directory:
            life = Life(Path(directory), Random(first), servers)
            try:
                for _ in range(min(LIFE, cycles - done)):
                    done += 1
                    with trio.fail_after(PATIENCE):
                        await life.cycle()
                    if time.monotonic() > end:
                        break
            except* (Failed, StartError, trio.TooSlowError, AssertionError) as group:
                command = f"python -m tests.faults.crash --cycles {LIFE} --seed {first}"
                errors = [f"{type(error).__name__}: {error}" for error in leaves(group)]
                log = life.broker.log.read_text()[-3000:]
                failures.append("\n".join([command, *life.story, *errors, log]))
                print(failures[-1], file=sys.stderr, flush=True)
                done = (done + LIFE - 1) // LIFE * LIFE
            finally:
                with trio.CancelScope(shield=True):
                    await life.broker.kill()
    print(f"{len(failures)} failures in about {done} cycles")
    return failures


def leaves(group: BaseExceptionGroup[Any]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from leaves(error)
        else:
            yield error


def main() -> None:
    parser = argparse.ArgumentParser(description="Crash a broker again and again.")
    parser.add_argument("--cycles", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=0, help="stop after so many seconds")
    parser.add_argument("--store", choices=["directory", "postgresql"], default="directory")
    given = parser.parse_args()
    with running_pair() if given.store == "postgresql" else nullcontext() as servers:
        sys.exit(bool(trio.run(crash, given.cycles, given.seed, given.seconds, servers)))


if __name__ == "__main__":
    main()
