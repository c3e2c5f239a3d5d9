"""Two brokers over a PostgreSQL with a synchronous standby, for the fail-over harness."""

import shutil
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from random import Random

from tests.faults.broker import Broker
from tests.faults.networks import ALLOWED, Network
from tests.postgresql import STANDBY, USER, PostgresPair, free_port

NAMES = ("a", "b")


class Cluster:
    """Two brokers over one PostgreSQL."""

    def __init__(
        self, directory: Path, pair: PostgresPair, database: str, random: Random, links: Sequence[Network]
    ) -> None:
        """``links`` are the networks of both brokers; empty if they cannot be cut."""
        self.pair = pair
        self.random = random
        self.database = database
        self.links = links
        hosts = [link.address for link in links] or ["127.0.0.1"] * 2
        self.ports = [(host, free_port()) for host in hosts]
        self.brokers = [self._broker(directory / name, number) for number, name in enumerate(NAMES)]

    def _broker(self, place: Path, number: int) -> Broker:
        host, port = self.ports[number]
        pair = self.pair
        at = self.links[number].postgresql if self.links else "127.0.0.1"
        url = f"postgresql://{USER}@{at}:{pair.primary.port},{at}:{pair.standby.port}/{self.database}"
        return Broker(
            place,
            *("--store", f"{url}?target_session_attrs=read-write", "--log-level", "info"),
            *("--node", NAMES[number], "--advertise", f"{host}:{port}", "--amqp", f"{host}:{port}"),
            *("--set", "loopback_users=", "--set", "auth.password_hash=sha256"),
            *("--set", "queue.default_delivery_limit=-1", "--set", "store.journal_size=1000000"),
            prefix=self.links[number].prefix if self.links else (),
        )

    @property
    def port(self) -> tuple[str, int]:
        """The address of either broker: the standby relays."""
        return self.random.choice(self.ports)

    async def start(self) -> None:
        for broker in self.brokers:
            await broker.start()

    async def kill(self) -> None:
        for broker in self.brokers:
            await broker.kill()

    def owner(self) -> Broker:
        """The broker that the newest take-over names."""
        return self.brokers[self.owner_number()]

    def owner_number(self) -> int:
        query = "SELECT node FROM leveret.takeovers ORDER BY epoch DESC LIMIT 1"
        ((node,),) = self.pair.primary.execute(query, self.database)
        return NAMES.index(node)

    def check_positions(self) -> list[str]:
        """Return the faults in the positions: one epoch each, none is missing, and epochs never go back."""
        database = self.database
        query = "SELECT tablename FROM pg_tables WHERE schemaname = 'leveret' AND tablename LIKE 'fence\\_%'"
        tables = [name for (name,) in self.pair.primary.execute(query, database)]
        rows = sorted(
            row
            for table in tables
            for row in self.pair.primary.execute(f"SELECT position, epoch FROM leveret.{table}", database)
        )
        wrong = []
        for (before, old), (position, epoch) in pairwise(rows):
            if position != before + 1:
                wrong.append(f"position {position} follows {before}")
            if epoch and epoch < old:
                wrong.append(f"position {position} has epoch {epoch}, after {old}")
        return wrong


def allow(pair: PostgresPair) -> None:
    """Let the servers accept the brokers in their namespaces."""
    for server in (pair.primary, pair.standby):
        with (server.directory / "pg_hba.conf").open("a") as file:
            file.write(ALLOWED)
        server.execute("SELECT pg_reload_conf()")


def promote(pair: PostgresPair) -> None:
    old, new = pair.primary, pair.standby
    old.kill()
    new.promote()
    while new.execute("SELECT pg_is_in_recovery()") != [(False,)]:
        time.sleep(0.05)
    new.configure(synchronous_standby_names=STANDBY)
    pair.primary, pair.standby = new, old
    shutil.rmtree(old.directory)
    old.copy_from(new)
    old.start()
    pair.wait_for_standby()
