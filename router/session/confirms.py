"""Publisher confirms: unconfirmed publishes of a session, and the sessions of a connection that have some.

Responsible for sequence numbers, and for the acks and nacks to send.

A confirm waits until every queue has settled the message or has it on disk. Confirms are sent in the order
of the publishes, as few as possible: one with ``multiple`` set answers all publishes before it.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Generic, NamedTuple, TypeVar

from leveret.router.values.outcome import Awaited

Publisher = TypeVar("Publisher")  # a session, or what writes to its client


class Verdict(NamedTuple):
    """A confirm of the publish with the sequence number ``number``, an ack if ``accepted``, else a nack.

    With ``multiple`` it answers all publishes before this one too.
    """

    number: int
    multiple: bool
    accepted: bool


class Stored:
    """The publishes of one commit batch, with their stored entries: several entries of one publish, or one
    entry of each of several publishes that arrived together.

    They are grouped so that once the batch is on disk no single publish has to be examined.
    """

    __slots__ = ("batch", "publishes")

    def __init__(self, batch: int) -> None:
        self.batch = batch
        # The number of the first publish, its entries, and the step from one entry's publish to the next
        # entry's: 0 if all entries are of one publish.
        self.publishes: deque[tuple[int, Sequence[Awaited], int]] = deque()

    def first_unsettled(self) -> int:
        """Return the first publish that some queue has not settled, or 0; remove those before it."""
        publishes = self.publishes
        while publishes:
            number, entries, step = publishes[0]
            for index, entry in enumerate(entries):
                if not entry.settled:
                    if step and index:
                        number += index
                        publishes[0] = number, entries[index:], step
                    return number
            publishes.popleft()
        return 0

    def refused(self) -> list[int]:
        """Return the publishes of which the store refused at least one message."""
        numbers = []
        for number, entries, step in self.publishes:
            found = [index for index, entry in enumerate(entries) if entry.refused and not entry.settled]
            numbers += [number + index for index in found] if step else [number for _ in found[:1]]
        return numbers


class Confirms:
    """The confirms of a session from ``confirm.select`` on; sequence numbers start at 1.

    ``published`` counts the publishes, ``unstored`` those that the store has refused.
    """

    __slots__ = ("_answered", "_refused", "_stored", "published", "unstored")

    def __init__(self) -> None:
        self.published = 0
        self.unstored = 0
        self._answered = 0
        self._refused: deque[int] = deque()
        self._stored: deque[Stored] = deque()

    @property
    def answered(self) -> int:
        """The number of publishes that were acked or nacked."""
        return self._answered

    @property
    def last_refused(self) -> bool:
        """True if a queue refused the last publish, whose confirm is not sent yet."""
        return bool(self._refused) and self._refused[-1] == self.published

    def publish(self, accepted: bool, batch: int = 0, entries: Sequence[Awaited] = ()) -> bool:
        """Count a publish. ``accepted`` is False if a queue refused the message; ``entries`` are stored with
        ``batch``.

        Return True if the session has to schedule a confirm. That is the case for the first publish that is
        stored with this batch, and for a publish without entries if all publishes before it are answered.
        """
        self.published += 1
        if not accepted:
            self._refused.append(self.published)
        stored = self._stored
        if not entries:
            return not stored and self.published == self._answered + 1
        first = not stored or stored[-1].batch != batch
        if first:
            stored.append(Stored(batch))
        stored[-1].publishes.append((self.published, entries, 0))
        return first

    def publish_all(self, count: int, batch: int = 0, entries: Sequence[Awaited] = ()) -> bool:
        """Count ``count`` publishes that were each enqueued in one queue, none refused.

        If there are ``entries``, there is one for each publish, stored with ``batch``. Return as ``publish``.
        """
        before = self.published
        self.published += count
        stored = self._stored
        if not entries:
            return not stored and before == self._answered
        first = not stored or stored[-1].batch != batch
        if first:
            stored.append(Stored(batch))
        stored[-1].publishes.append((before + 1, entries, 1))
        return first

    def verdicts(self, committed: int, *, refusals: bool = False) -> list[Verdict]:
        """Return the confirms to send when all batches up to ``committed`` are on disk, and count them as
        answered.

        ``refusals``: the store has refused messages, so each entry has to be examined.
        """
        stored = self._stored
        last = self.published
        while stored:
            if stored[0].batch > committed and (waiting := stored[0].first_unsettled()):
                last = waiting - 1
                break
            ended = stored.popleft()
            if refusals and (refused := ended.refused()):
                self.unstored += len(refused)
                self._refused = deque(sorted({*self._refused, *refused}))
        verdicts: list[Verdict] = []
        while self._refused and self._refused[0] <= last:
            number = self._refused.popleft()
            self._answer(verdicts, number - 1, accepted=True)
            self._answer(verdicts, number, accepted=False)
        self._answer(verdicts, last, accepted=True)
        return verdicts

    def _answer(self, verdicts: list[Verdict], number: int, *, accepted: bool) -> None:
        """Add a confirm of all unanswered publishes up to ``number``, or widen the last one if it is the same
        verdict.
        """
        if number <= self._answered:
            return
        first = self._answered + 1
        if verdicts and verdicts[-1].accepted == accepted:
            verdicts.pop()
            first = 0
        verdicts.append(Verdict(number, first != number, accepted))
        self._answered = number


class OwedConfirms(Generic[Publisher]):
    """The publishers of one connection with unconfirmed publishes, by the batch that each waits for."""

    __slots__ = ("_due", "_waiting")

    def __init__(self) -> None:
        self._due: dict[Publisher, None] = {}  # some of their publishes can be confirmed now
        self._waiting: dict[int, dict[Publisher, None]] = {}  # by batch, the oldest first

    def __bool__(self) -> bool:
        return bool(self._waiting or self._due)

    def add(self, publisher: Publisher, batch: int) -> None:
        """Add a publisher whose publishes can be confirmed when this batch is on disk; 0: now."""
        due = self._waiting.setdefault(batch, {}) if batch else self._due
        due[publisher] = None

    def take_due(self, committed: int, *, settled_early: bool) -> Iterable[Publisher]:
        """Remove and return the publishers with publishes to confirm, now that all batches up to
        ``committed`` are on disk.

        ``settled_early``: stored messages were settled before their commit, so publishers that wait for later
        batches may have confirms too. They are returned, and not removed.
        """
        due, self._due = self._due, {}
        for batch, publishers in list(self._waiting.items()):
            if batch <= committed:
                del self._waiting[batch]
            elif not settled_early:
                break
            due |= publishers
        return due

    def forget(self, publisher: Publisher) -> None:
        """Remove a publisher whose session has ended."""
        self._due.pop(publisher, None)
        for batch, publishers in list(self._waiting.items()):
            publishers.pop(publisher, None)
            if not publishers:
                del self._waiting[batch]
