"""Publishing of dead letters, one after the other, so that a chain of dead letters never recurses.

Responsible for unpublished dead letters: their order, the bound on the number that one batch publishes, and
those that wait for the end of an alarm because they would multiply. ``death_headers`` makes the message, and
queues decide when a message is dead-lettered.

Source: RabbitMQ, "Dead Letter Exchanges".
"""

from collections import deque
from collections.abc import Iterable, Iterator, Set
from itertools import chain
from typing import TYPE_CHECKING, Protocol

from msgspec import Struct

from leveret.protocol.amqp.message import CACHED_BYTES, INTERNAL
from leveret.router.exchange.routing import routing_keys
from leveret.router.queue.entry import Entry
from leveret.router.queue.host import Reason
from leveret.router.queue.queue import Queue
from leveret.router.turns.backlog import Slicing
from leveret.router.vhost.death_headers import (
    FEW_COPIES,
    copies_so_far,
    count_copies,
    deaths_of,
    is_cycle,
    make_letter,
)
from leveret.router.vhost.drops import DropReason, Drops

if TYPE_CHECKING:
    from leveret.router.vhost.vhost import VHost

WIDE = 64  # queues that a dead letter is enqueued in at a time
LETTERS = 512  # dead letters and their copies in queues that are published before other work is done
LETTERS_HELD = 1 << 24  # bytes of dead letters that wait for the last alarm to be cleared
LETTER_COST = 600  # bytes of memory for a held dead letter besides the frames of its message


class DeadLetter(Struct, frozen=True):
    """A message for a dead-letter exchange, with the settings that its queue had when it was
    dead-lettered.
    """

    vhost: "VHost"
    queue: Queue
    entry: Entry
    reason: Reason
    exchange: str
    routing_key: str | None  # None: the message's own


class DeadLetterHost(Protocol):
    """Interface of the broker to the publisher of dead letters."""

    now: int
    wall: int
    drops: Drops


class DeadLetters:
    """The dead letters of one broker. ``raised`` is the set of raised alarms.

    ``pending`` holds the unpublished dead letters in their order. ``held_bytes`` is the size of the dead
    letters that wait for the end of an alarm, ``left`` the number of copies that this batch may still
    publish.
    """

    def __init__(self, host: DeadLetterHost, raised: Set[str]) -> None:
        self.pending: deque[DeadLetter] = deque()
        self.held_bytes = 0
        self.left = LETTERS
        self._host = host
        self._raised = raised
        self._held: list[DeadLetter] = []

    def add(self, letters: Iterable[DeadLetter]) -> None:
        """Schedule dead letters for the end of this batch."""
        self.pending.extend(letters)

    def unpublished(self) -> Iterator[DeadLetter]:
        """Yield the dead letters that are not published yet."""
        return chain(self.pending, self._held)

    def release_held(self) -> None:
        """Schedule the held dead letters if no alarm is raised."""
        if self._held and not self._raised:
            self.pending.extend(self._held)
            self._held.clear()
            self.held_bytes = 0

    def publish(self, dead: DeadLetter) -> Slicing[int]:
        """Publish a dead letter in slices, and return the number of queues that it was enqueued in.

        Drops the dead letter if its exchange does not exist, or if its message has multiplied too often. A
        queue to which it would return in a cycle does not get it.

        While an alarm is raised, a dead letter with several target queues waits: queues that dead-letter into
        each other multiply messages, and alarms do not block queues.
        """
        copies = 0
        queue = dead.queue
        dropped: DropReason = "dead_letter_exchange_missing"
        exchange = dead.vhost.exchanges.get(dead.exchange)
        if exchange is not None:
            message = dead.entry.message
            letter = make_letter(
                message,
                queue.name,
                dead.reason,
                exchange=dead.exchange,
                own_key=dead.routing_key,
                wall=self._host.wall,
            )
            if len(letter.frames) - letter.size > CACHED_BYTES:
                yield  # to rewrite large headers takes milliseconds, and so does to read them again
            keys = [*routing_keys(letter.routing_key, letter.some_headers("CC", "BCC")), *letter.blind_keys]
            dropped = "dead_letter_unroutable"
            found = yield from dead.vhost.routes.route_in_slices(exchange, keys, letter)
            deaths = deaths_of(letter)
            targets = [target for target in found if not is_cycle(deaths, target.name)]
            if len(targets) < len(found):
                dropped = "dead_letter_cycle"
            counted = count_copies(letter, message, dead.reason, len(targets))
            if counted is None:
                dropped, targets = "dead_letter_multiplied", []
            elif self._raised and len(targets) > 1:
                if self._hold(dead):
                    return 1
                if len(targets) > FEW_COPIES or copies_so_far(message, dead.reason) > 1:
                    dropped, targets = "dead_letter_multiplied", []
            letter = counted or letter
            letter.bits = INTERNAL
            for place, target in enumerate(targets):
                if place and not place % WIDE:
                    yield
                if not target.deleted:
                    target.enqueue(letter, self._host.now)
                    copies += 1
        if not copies:
            self._host.drops.add(dead.vhost.name, queue.name, dropped, 1, self._host.now)
        queue.settle([dead.entry], moved=True)
        return copies

    def _hold(self, dead: DeadLetter) -> bool:
        """Keep a dead letter until no alarm is raised. Return False if too many are kept already.

        They are in no queue, so they cannot be paged out, and too many would keep the alarm raised.
        """
        size = LETTER_COST + len(dead.entry.message.frames)
        if self.held_bytes + size > LETTERS_HELD:
            return False
        self.held_bytes += size
        self._held.append(dead)
        return True
