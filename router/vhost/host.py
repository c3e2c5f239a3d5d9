"""Interfaces of the broker and of sessions, as a virtual host sees them."""

from typing import Protocol

from leveret.router.persistence.api import Storage
from leveret.router.queue.entry import Entry
from leveret.router.queue.interface import AnyQueue
from leveret.router.turns.backlog import Backlog
from leveret.router.turns.budget import Budget
from leveret.router.turns.timers import Timed
from leveret.router.values.counters import Churn
from leveret.router.vhost.dead_letters import DeadLetters
from leveret.router.vhost.drops import Drops


class DeliveryScheduler(Protocol):
    """The part of the broker that decides when queues deliver."""

    def touch(self, queue: AnyQueue) -> None: ...
    def catch_up(self) -> None: ...
    def deliver_touched(self) -> None: ...


class VHostHost(Protocol):
    """The broker, as a virtual host sees it."""

    now: int
    wall: int
    default_delivery_limit: int
    storage: Storage
    churn: Churn
    backlog: Backlog
    budget: Budget
    drops: Drops
    dead_letters: DeadLetters

    @property
    def scheduler(self) -> DeliveryScheduler: ...
    def schedule_repair(self, queue: AnyQueue) -> None: ...
    def schedule(self, when: int, target: Timed) -> None: ...


class HoldingSession(Protocol):
    """A session that may hold messages of queues."""

    def held_of(self, queue: AnyQueue) -> list[Entry]:
        """Return the messages of a queue that were delivered to the session and are not settled."""

    def pauses(self, queue: AnyQueue) -> bool:
        """Return True while the session requeues messages; the queue delivers nothing until it has all of
        them.
        """

    def recount(self) -> None:
        """Recompute the unsettled counts of the session and its consumers after an exception."""
