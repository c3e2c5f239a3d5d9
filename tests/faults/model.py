"""Model of a broker across a crash: the messages that must, may and must not be there, recorded by clients.

A message that was routed to three queues leaves three ``Token``s: each is settled on its own, and is in one
queue at a time even when it is dead-lettered. A token is known by its publisher, the publisher's number for
the message, and the queue it was routed to first.

Everything is noted before it is sent, and what the broker answered when the answer has come, so that
whatever is in flight at the crash is known to be so.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple


class Token(NamedTuple):
    publisher: str
    number: int
    origin: str


class Found(NamedTuple):
    """A message that was found after a restart."""

    token: Token
    redelivered: bool
    whole: bool  # whether its body is what was published
    count: int  # x-delivery-count


@dataclass(slots=True)
class Publication:
    """A message: where it is to go, and what became of it."""

    publisher: str
    number: int
    queues: tuple[str, ...]
    kept: bool = True  # whether it outlives a restart in every queue it was routed to
    priority: int = 0
    fleeting: bool = False  # expires soon, or makes room for others: it may be gone at any time
    confirmed: bool = False

    def tokens(self) -> list[Token]:
        return [Token(self.publisher, self.number, queue) for queue in self.queues]


@dataclass(slots=True)
class Commit:
    """A transaction that only publishes, to queues without consumers."""

    tokens: list[Token] = field(default_factory=list)
    confirmed: bool = False


class Model:
    """``chains`` says for each queue with dead letters where a message routed to it may come to be.

    With ``transient_remain`` transient messages may have been published after the last crash.
    """

    def __init__(
        self,
        chains: Mapping[str, tuple[str, ...]],
        keeps_all: Iterable[str],
        *,
        transient_remain: bool = False,
    ) -> None:
        self._transient_remain = transient_remain
        self.publications: dict[tuple[str, int], Publication] = {}
        self.settling: set[Token] = set()  # somebody settled it; whether the broker knows is not known
        self.gone: set[Token] = set()  # settled, and that is on disk; or lost in a crash that was allowed to
        self.delivered: set[tuple[Token, str]] = set()
        self.returned: dict[Token, int] = {}  # requeues that were sent
        self.returned_surely: dict[Token, int] = {}
        self.commits: list[Commit] = []
        self.moved: set[Token] = set()  # those whose move to another queue is on disk
        self.topology: dict[tuple[str, ...], bool | None] = {}  # None: nobody knows
        self._chains = chains
        self._keeps_all = frozenset(keeps_all)

    # -- while the broker runs ------------------------------------------------------------------------------

    def publish(self, publication: Publication) -> Publication:
        self.publications[publication.publisher, publication.number] = publication
        return publication

    def deliver(self, token: Token, queue: str, *, redelivered: bool) -> list[str]:
        """A delivery came; return what is wrong with it."""
        wrong = []
        if (token.publisher, token.number) not in self.publications:
            wrong.append(f"{token} was delivered from {queue} but never published")
        if token in self.gone:
            wrong.append(f"{token} was delivered from {queue} but was settled on disk")
        if (token, queue) in self.delivered and not redelivered and self._first_in(queue, token):
            wrong.append(f"{token} was delivered from {queue} again, and not as redelivered")
        self.delivered.add((token, queue))
        return wrong

    def _first_in(self, queue: str, token: Token) -> bool:
        """Whether the message can have come to the queue once only: letters may be written anew."""
        return queue == token.origin

    # -- after a crash --------------------------------------------------------------------------------------

    def check(self, found: Mapping[str, list[Found]], ordered: Iterable[str], restarts: int) -> list[str]:
        """What is wrong with what is in the queues, each in the order it was delivered."""
        wrong: list[str] = []
        places: dict[Token, str] = {}
        for queue, messages in found.items():
            for message in messages:
                wrong += self._check_one(queue, message, restarts)
                if message.token in places:
                    wrong.append(f"{message.token} is in {places[message.token]} and in {queue}")
                places[message.token] = queue
        wrong += [
            f"{token} was confirmed and not settled, and is lost"
            for publication in self.publications.values()
            if publication.confirmed and not publication.fleeting
            for token in publication.tokens()
            if token not in places and token not in self.settling and token not in self.gone
            if publication.kept or token.origin in self._keeps_all
        ]
        for queue in ordered:
            wrong += self._check_order(queue, found.get(queue, []))
        for commit in self.commits:
            there = [token in places for token in commit.tokens]
            if any(there) and not all(there):
                wrong.append(
                    f"of a transaction {sum(there)} of {len(there)} messages are there: {commit.tokens}"
                )
            if commit.confirmed and not all(there):
                wrong.append(f"a transaction is lost whose commit was confirmed: {commit.tokens}")
        wrong += [
            f"{token} is back in {places[token]} although its move was confirmed"
            for token in self.moved
            if places.get(token) == token.origin
        ]
        return wrong

    def _check_one(self, queue: str, message: Found, restarts: int) -> list[str]:
        token = message.token
        publication = self.publications.get((token.publisher, token.number))
        if publication is None:
            return [f"{token} is in {queue} but was never published"]
        wrong = []
        if queue not in self._chains.get(token.origin, (token.origin,)):
            wrong.append(f"{token} is in {queue}")
        if token.origin not in publication.queues:
            wrong.append(f"{token} is in {queue} but was not routed there")
        is_transient = not publication.kept and token.origin not in self._keeps_all
        if is_transient and not self._transient_remain:
            wrong.append(f"{token} is in {queue} but is transient")
        if token in self.gone:
            wrong.append(f"{token} is in {queue} but was settled on disk")
        if not message.whole:
            wrong.append(f"{token} in {queue} has another body")
        if queue == token.origin and (token, queue) in self.delivered and not message.redelivered:
            wrong.append(f"{token} is in {queue} not as redelivered, but was delivered before")
        if queue in self._keeps_all:
            least = self.returned_surely.get(token, 0)
            most = self.returned.get(token, 0) + restarts
            if not least <= message.count <= most:
                wrong.append(f"{token} in {queue} was returned {least} to {most} times, not {message.count}")
        return wrong

    def _check_order(self, queue: str, messages: list[Found]) -> list[str]:
        last: dict[tuple[str, int], int] = {}
        wrong = []
        for message in messages:
            publisher, number, _ = message.token
            publication = self.publications.get((publisher, number))
            key = publisher, publication.priority if publication is not None else 0
            if number < last.get(key, -1):
                wrong.append(f"{message.token} is in {queue} behind number {last[key]}")
            last[key] = number
        return wrong

    def accept(self, found: Mapping[str, list[Found]]) -> None:
        """What was found is what there is from now on."""
        there = {message.token for messages in found.values() for message in messages}
        for publication in self.publications.values():
            publication.confirmed = True  # what is missing counts as gone
            self.gone.update(token for token in publication.tokens() if token not in there)
        self.settling.clear()
        self.commits.clear()
        self.moved &= there
        for queue, messages in found.items():
            for message in messages:
                self.delivered.add((message.token, queue))
                if queue in self._keeps_all:
                    self.returned[message.token] = self.returned_surely[message.token] = message.count
        for thing in [thing for thing, state in self.topology.items() if state is None]:
            del self.topology[thing]
