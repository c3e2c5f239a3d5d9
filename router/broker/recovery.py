"""Repair of queues after an exception in the broker's own code, and retries of failed dead letters.

An exception may leave a queue inconsistent: messages acquired and not delivered, wrong counters, deliveries
that are not scheduled. Responsible for finding the queues in the traceback of an exception, for their
repair at the end of the turn, and for dead letters whose publishing failed. A queue whose deliveries fail
repeatedly stops the broker in order. Failures of the storage are handled in ``store.failure``.
"""

from collections.abc import Iterator, Mapping
from itertools import islice
from types import TracebackType
from typing import Any, Protocol
from weakref import ProxyType

import structlog
from msgspec import Struct

from leveret.router.persistence.api import Storage
from leveret.router.queue.entry import Entry
from leveret.router.queue.interface import AnyQueue
from leveret.router.queue.queue import Queue
from leveret.router.stream.stream import Stream
from leveret.router.turns.timers import Timed
from leveret.router.vhost.dead_letters import DeadLetter, DeadLetters
from leveret.router.vhost.vhost import VHost

TRIES = 20  # deliveries of one queue that may fail in a row
AGAIN = 1000  # ms until a dead letter is published again after a failure; doubled after each further one,
LONGEST = 60_000  # up to this many ms
LOOK = 64  # items of a list in a traceback that may be queues


class RecoveryHost(Protocol):
    """Interface of the broker to its recovery."""

    now: int
    storage: Storage
    dead_letters: DeadLetters

    @property
    def vhosts(self) -> Mapping[str, VHost]: ...
    def schedule(self, when: int, target: Timed) -> None: ...


class _Retry(Struct, eq=False):
    """A dead letter that is published again later; ``delay`` in ms."""

    recovery: "Recovery"
    letter: DeadLetter
    delay: int

    @property
    def finished(self) -> bool:
        return False

    def on_timer(self, now: int) -> None:
        self.recovery.publish_again(self)


class Recovery:
    """The queues to repair (``to_repair``), and the number of deliveries in a row that failed, by queue
    (``failures``).
    """

    def __init__(self, host: RecoveryHost) -> None:
        self.failures: dict[AnyQueue, int] = {}
        self._host = host
        self.to_repair: dict[AnyQueue, None] = {}
        self._retries: dict[_Retry, None] = {}
        self._delays: dict[int, int] = {}  # of letters that are being published again, by the id of the entry
        self._log = structlog.get_logger()

    def schedule_repair(self, queue: AnyQueue) -> None:
        """Schedule the repair of a queue for the end of the turn."""
        self.to_repair[queue] = None

    def examine(self, error: BaseException) -> None:
        """Schedule the repair of the queues in the traceback of an exception."""
        for queue in queues_in(error):
            self.schedule_repair(queue)

    def delivery_failed(self, queue: AnyQueue, error: Exception) -> None:
        """Count a delivery that raised; after ``TRIES`` in a row commit nothing more, so the broker stops."""
        self.schedule_repair(queue)
        count = self.failures[queue] = self.failures.get(queue, 0) + 1
        if count > TRIES:
            self.to_repair.pop(queue)
            self._host.storage.break_off(error)

    def letter_failed(self, letter: DeadLetter, error: Exception) -> None:
        """Schedule a dead letter to be published again. Until then its queue stores it, so that a restart
        does not lose it.
        """
        delay = min(2 * self._delays.pop(id(letter.entry), AGAIN // 2), LONGEST)
        self._log.error(
            "a dead letter could not be published",
            queue=letter.queue.what,
            position=letter.entry.position,
            exchange=letter.exchange,
            again_in_ms=delay,
            exc_info=error,
        )
        retry = _Retry(self, letter, delay)
        self._retries[retry] = None
        self._host.schedule(self._host.now + delay, retry)

    def publish_again(self, retry: _Retry) -> None:
        """Publish a dead letter again."""
        if retry in self._retries:
            del self._retries[retry]
            self._delays[id(retry.letter.entry)] = retry.delay
            self._host.dead_letters.add([retry.letter])

    def letter_published(self, letter: DeadLetter) -> None:
        """Forget the retries of a dead letter that was published."""
        if self._delays:
            self._delays.pop(id(letter.entry), None)

    def run(self) -> None:
        """Repair the scheduled queues. The broker stops if that fails."""
        to_repair, self.to_repair = self.to_repair, {}
        letters = [*self._host.dead_letters.unpublished(), *(retry.letter for retry in self._retries)]
        dying = {id(letter.entry) for letter in letters}
        try:
            for vhost in {queue.vhost for queue in to_repair}:
                for session in list(self._host.vhosts[vhost].sessions) if vhost in self._host.vhosts else ():
                    session.recount()
            for queue in to_repair:
                if not queue.deleted:
                    queue.repair(self._held(queue), dying, self._host.now)
        except Exception as error:
            self._log.error("a queue could not be repaired", exc_info=error)
            self._host.storage.break_off(error)

    def _held(self, queue: AnyQueue) -> tuple[list[Entry], int]:
        """Return the unsettled messages of a queue, and the number of sessions that pause its deliveries."""
        held: list[Entry] = []
        paused = 0
        vhost = self._host.vhosts.get(queue.vhost)
        for session in () if vhost is None else vhost.sessions:
            held += session.held_of(queue)
            paused += session.pauses(queue)
        return held, paused


def queues_in(error: BaseException) -> Iterator[AnyQueue]:
    """Yield the queues in local variables of an exception's traceback, perhaps more than once."""
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from queues_in(each)
    traceback: TracebackType | None = error.__traceback__
    while traceback is not None:
        for value in traceback.tb_frame.f_locals.values():
            items = islice(value, LOOK) if isinstance(value, list | tuple) else (value,)
            yield from (_referent(each) for each in items if isinstance(each, Queue | Stream))
        traceback = traceback.tb_next


def _referent(queue: Any) -> AnyQueue:
    """Return the queue itself for a queue or for a weak proxy of it; readers hold a proxy of their stream."""
    found: AnyQueue = queue.attach.__self__ if isinstance(queue, ProxyType) else queue
    return found
