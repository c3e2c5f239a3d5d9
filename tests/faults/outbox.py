"""Kill the broker, PostgreSQL and their connection while an application fills an outbox; then count its rows.

    python -m tests.faults.outbox --cycles 500 --seed 1

Writers insert rows in transactions of all lengths, which overlap, and some of which are rolled back. In each
cycle the broker is killed or stopped, PostgreSQL is restarted or killed, or their connection is ended. At the
end every committed row is in the queue once, and no other.
"""

import argparse
import sys
import tempfile
import threading
import time
from functools import partial
from pathlib import Path
from random import Random

import psycopg
import trio

from leveret.protocol.amqp import methods as m
from leveret.router.transactional_outbox.maintenance import install
from tests.faults.broker import Broker
from tests.postgresql import PostgresPair, running_pair
from tests.router.server.client import Client

WRITERS = 3
PATIENCE = 60  # seconds until all rows must be published
QUEUE = "q"


class Writer(threading.Thread):
    """One connection of the application, made again whenever it is lost.

    ``committed`` are rows that must be published, ``uncertain`` those whose commit had no answer.
    """

    def __init__(self, url: str, name: str, seed: int, stop: threading.Event) -> None:
        super().__init__(name=name)
        self.committed: list[str] = []
        self.uncertain: list[str] = []
        self._url = url
        self._random = Random(seed)
        self._stopping = stop
        self._number = 0

    def run(self) -> None:
        while not self._stopping.is_set():
            try:
                with psycopg.connect(self._url, connect_timeout=5) as connection:
                    while not self._stopping.is_set():
                        self._write(connection)
            except psycopg.OperationalError:
                self._stopping.wait(0.05)

    def _write(self, connection: psycopg.Connection) -> None:
        """Run one transaction."""
        random, names = self._random, []
        for _ in range(random.choice((1, 1, 1, 3, 50))):
            self._number += 1
            names.append(f"{self.name}:{self._number}")
            connection.execute(
                "INSERT INTO leveret_outbox (routing_key, body_text) VALUES (%s, %s)", [QUEUE, names[-1]]
            )
        if random.random() < 0.3:
            self._stopping.wait(random.random() * 0.05)
        if random.random() < 0.1:
            connection.rollback()
            return
        try:
            connection.commit()
        except psycopg.Error:
            self.uncertain += names
            raise
        self.committed += names


class OutboxFaults:
    """A broker, its outbox and the application."""

    def __init__(
        self, directory: Path, pair: PostgresPair, url: str, random: Random, *, store: str | None
    ) -> None:
        """``store`` is the URL of the broker's store, None for a data directory in ``directory``."""
        self.random = random
        self.url = url
        self.pair = pair
        options = ["--log-level", "error", "--set", "auth.password_hash=sha256"]
        options += ["--set", f"outbox.databases={url}", "--set", f"outbox.batch={random.choice((3, 500))}"]
        options += ["--set", f"store.journal_size={random.choice((65536, 16777216))}"]
        if store is not None:
            options += ["--set", f"store.url={store}"]
        self.broker = Broker(directory / "data", *options)
        self.story = [" ".join(options)]
        self._stop = threading.Event()
        self.writers = [
            Writer(url, str(number), random.randrange(1 << 30), self._stop) for number in range(WRITERS)
        ]

    async def run(self, cycles: int) -> list[str]:
        """Return what is wrong at the end."""
        await self.broker.start()
        client = await self._connect()
        await client.call(m.QueueDeclare(QUEUE, durable=True), m.QueueDeclareOk)
        await client.close()
        for writer in self.writers:
            writer.start()
        try:
            for _ in range(cycles):
                await trio.sleep(self.random.choice((0.02, 0.2, 0.6)) * self.random.random())
                await self._fault()
        finally:
            self._stop.set()
            for writer in self.writers:
                await trio.to_thread.run_sync(writer.join)
        with trio.fail_after(PATIENCE):
            while await trio.to_thread.run_sync(self._waiting):  # noqa: ASYNC110 - in another process
                await trio.sleep(0.05)
        await self.broker.kill()  # what was deleted from the outbox is on disk
        await self.broker.start()
        return self._wrong(await self._bodies())

    async def _fault(self) -> None:
        """Do one of the things that must not matter."""
        kind = self.random.choice(("kill", "kill", "kill", "stop", "restart", "crash", "disconnect"))
        self.story.append(kind)
        primary = self.pair.primary
        if kind == "kill":
            await self.broker.kill()
            await self.broker.start()
        elif kind == "stop":
            await self.broker.stop()
            await self.broker.start()
        elif kind in ("restart", "crash"):
            await trio.to_thread.run_sync(primary.stop, "fast" if kind == "restart" else "immediate")
            await trio.to_thread.run_sync(primary.start)
        else:
            primary.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE application_name LIKE 'leveret outbox %'"
            )

    def _waiting(self) -> bool:
        with psycopg.connect(self.url) as connection:
            failed = connection.execute(
                "SELECT error FROM leveret_outbox WHERE failed_at IS NOT NULL"
            ).fetchone()
            assert failed is None, failed
            return connection.execute("SELECT FROM leveret_outbox LIMIT 1").fetchone() is not None

    async def _bodies(self) -> list[str]:
        client = await self._connect()
        count = await client.count(QUEUE)
        await client.call(m.BasicConsume(QUEUE), m.BasicConsumeOk)
        return [bytes(await client.delivered()).decode() for _ in range(count)]

    async def _connect(self) -> Client:
        return await Client(await trio.open_tcp_stream("127.0.0.1", self.broker.port)).login()

    def _wrong(self, bodies: list[str]) -> list[str]:
        committed = {name for writer in self.writers for name in writer.committed}
        uncertain = {name for writer in self.writers for name in writer.uncertain}
        found = set(bodies)
        twice = (
            sorted({name for name in bodies if bodies.count(name) > 1}) if len(found) < len(bodies) else []
        )
        wrong = []
        if lost := sorted(committed - found):
            wrong.append(f"{len(lost)} rows were lost: {lost[:5]}")
        if twice:
            wrong.append(f"{len(twice)} rows were published more than once: {twice[:5]}")
        if strange := sorted(found - committed - uncertain):
            wrong.append(f"{len(strange)} rows were published that were rolled back: {strange[:5]}")
        for writer in self.writers:
            numbers = [int(body.partition(":")[2]) for body in bodies if body.startswith(f"{writer.name}:")]
            if numbers != sorted(numbers):
                wrong.append(f"the rows of writer {writer.name} are out of order")
        print(f"{len(bodies)} rows, {self.broker.starts} starts of the broker")
        return wrong


async def outbox_faults(pair: PostgresPair, cycles: int, seed: int, *, in_postgresql: bool) -> list[str]:
    """Run so many cycles; return what is wrong at the end, with the story that led there.

    ``in_postgresql``: the broker stores its messages there too.
    """
    with (
        tempfile.TemporaryDirectory(prefix="leveret-outbox-", ignore_cleanup_errors=True) as directory,
        pair.new_database() as url,
        pair.new_database() as store,
    ):
        with psycopg.connect(url) as connection:
            install(connection)
        faults = OutboxFaults(
            Path(directory), pair, url, Random(seed), store=store if in_postgresql else None
        )
        try:
            wrong = await faults.run(cycles)
        finally:
            with trio.CancelScope(shield=True):
                await faults.broker.kill()
        return [*wrong, *faults.story] if wrong else []


def main() -> None:
    parser = argparse.ArgumentParser(description="Kill what an outbox depends on again and again.")
    parser.add_argument("--cycles", type=int, default=100)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--in-postgresql", action="store_true", help="store the broker's messages there too")
    given = parser.parse_args()
    run = partial(outbox_faults, in_postgresql=given.in_postgresql)
    with running_pair() as pair:
        wrong = trio.run(run, pair, given.cycles, given.seed)
    print("\n".join(wrong or ["every row was published once"]))
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
