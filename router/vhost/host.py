"""What a virtual host asks of the broker, and the dead letters that it hands over."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from leveret.router.persistence.api import Keeper
from leveret.router.queue.entry import Entry
from leveret.router.queue.host import Reason
from leveret.router.queue.interface import AnyQueue
from leveret.router.queue.queue import Queue
from leveret.router.turns.backlog import Backlog
from leveret.router.turns.budget import Budget
from leveret.router.turns.timers import Timed
from leveret.router.values.counters import Churn
from leveret.router.vhost.drops import Drops

if TYPE_CHECKING:
    from leveret.router.vhost.vhost import VHost


class VHostHost(Protocol):
    """What a virtual host asks of the broker."""

    now: int
    wall: int
    default_delivery_limit: int
    keeper: Keeper
    churn: Churn
    backlog: Backlog
    budget: Budget
    drops: Drops

    def touch(self, queue: AnyQueue) -> None: ...
    def suspect(self, queue: AnyQueue) -> None: ...
    def catch_up(self) -> None: ...
    def deliver_touched(self) -> None: ...
    def schedule(self, when: int, target: Timed) -> None: ...
    def dead_letter(self, letters: Iterable["DeadLetter"]) -> None: ...


class Holder(Protocol):
    """A session, as far as it holds messages of queues."""

    def held_of(self, queue: AnyQueue) -> list[Entry]:
        """The messages of a queue that it was given and has not settled."""

    def pauses(self, queue: AnyQueue) -> bool:
        """Return True while it gives messages back to a queue, which delivers nothing until all are back."""

    def recount(self) -> None:
        """Count again what it and its consumers hold, after an exception."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message on its way to where its queue sent it when it died, whatever the queue is told since."""

    vhost: "VHost"
    queue: Queue
    entry: Entry
    reason: Reason
    exchange: str
    routing_key: str | None  # None: the message's own
