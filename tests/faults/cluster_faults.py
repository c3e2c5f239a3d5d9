"""Faults of a cluster: each function lets one thing fail, and recover before it returns."""

import os
import signal
from collections.abc import Awaitable, Callable
from functools import partial
from random import Random
from typing import Protocol

import trio

from tests.faults.client import Failed
from tests.faults.cluster import Cluster, promote
from tests.faults.networks import CLIENTS, POSTGRESQL


class Failing(Protocol):
    """What fails. ``longest`` is how long a broker is suspended at most, in seconds."""

    cluster: Cluster
    random: Random
    longest: float


async def owner_killed(life: Failing) -> None:
    owner = life.cluster.owner()
    await owner.kill()
    await trio.sleep(life.random.choice((0, 1, 6)))
    await owner.start()


async def owner_stopped(life: Failing) -> None:
    """In good order, with SIGTERM."""
    owner = life.cluster.owner()
    if status := await owner.stop():
        raise Failed(f"exit status {status}\n{owner.log.read_text()}")
    await owner.start()


async def owner_suspended(life: Failing) -> None:
    """With SIGSTOP: when it continues, it believes that it is active."""
    owner = life.cluster.owner()
    os.kill(owner.process_id, signal.SIGSTOP)
    try:
        await trio.sleep(life.random.choice((1, 2.8, 3.2, 5, life.longest)))
    finally:
        os.kill(owner.process_id, signal.SIGCONT)
    await trio.sleep(life.random.choice((0, 2)))


async def standby_killed(life: Failing) -> None:
    owner = life.cluster.owner()
    (standby,) = [each for each in life.cluster.brokers if each is not owner]
    await standby.kill()
    await standby.start()


async def both_killed(life: Failing) -> None:
    await life.cluster.kill()
    await life.cluster.start()


async def postgresql_restarted(life: Failing) -> None:
    """At once, or after a while; in good order, or as after a crash."""
    primary = life.cluster.pair.primary
    await trio.to_thread.run_sync(primary.stop, life.random.choice(("fast", "immediate")))
    await trio.sleep(life.random.choice((0, 0, 2, 6)))
    await trio.to_thread.run_sync(primary.start)
    await trio.to_thread.run_sync(life.cluster.pair.wait_for_standby)


async def postgresql_suspended(life: Failing) -> None:
    primary = life.cluster.pair.primary
    primary.pause()
    try:
        await trio.sleep(life.random.choice((0.5, 2, 4, 8)))
    finally:
        primary.resume()


async def replication_suspended(life: Failing) -> None:
    """Commits wait for the standby of PostgreSQL."""
    standby = life.cluster.pair.standby
    standby.pause()
    try:
        await trio.sleep(life.random.choice((0.5, 2, 5)))
    finally:
        standby.resume()


async def postgresql_promoted(life: Failing) -> None:
    """The primary dies, its standby is promoted, and gets a standby of its own."""
    pair = life.cluster.pair
    await trio.to_thread.run_sync(partial(promote, pair))


async def owner_cut_from_postgresql(life: Failing) -> None:
    await cut(life, life.cluster.owner_number(), POSTGRESQL)


async def standby_cut_from_postgresql(life: Failing) -> None:
    await cut(life, 1 - life.cluster.owner_number(), POSTGRESQL)


async def owner_cut_from_clients(life: Failing) -> None:
    """And from the standby, but not from PostgreSQL: it stays active."""
    await cut(life, life.cluster.owner_number(), CLIENTS)


async def cut(life: Failing, number: int, kind: str) -> None:
    with life.cluster.links[number].cut(kind):
        await trio.sleep(life.random.choice((1, 4, 12)))


FAULTS: tuple[Callable[[Failing], Awaitable[None]], ...] = (
    owner_killed,
    owner_killed,
    owner_stopped,
    owner_suspended,
    owner_suspended,
    standby_killed,
    both_killed,
    postgresql_restarted,
    postgresql_suspended,
    replication_suspended,
    postgresql_promoted,
)
CUTS = (owner_cut_from_postgresql, standby_cut_from_postgresql, owner_cut_from_clients)
