"""Committing and rolling back the transactions of a session.

Responsible for atomicity: a commit is written to disk in one piece, however many turns it takes, and a
failed transaction is undone. Its publishes and settlements are in ``transaction``.

Sources: AMQP 0-9-1 1.9; STOMP 1.2, "BEGIN", for ``do_atomically``.
"""

from collections import deque
from collections.abc import Iterator

from leveret.router.persistence.api import Storage
from leveret.router.session.command_work import CommandWork
from leveret.router.session.incoming import IncomingMessages
from leveret.router.session.mode import SessionMode
from leveret.router.session.settling import Settling
from leveret.router.session.transaction import Transaction
from leveret.router.session.unacked import Held, Taken, Unacked, Verb, reclaim
from leveret.router.turns.backlog import Slices, Slicing, at_once


class Transactions:
    """The transactions of one session: one is open at a time, and one may be ending."""

    __slots__ = ("_ending", "_incoming", "_mode", "_settling", "_storage", "_unacked", "_work")

    def __init__(
        self,
        storage: Storage,
        incoming: IncomingMessages,
        settling: Settling,
        unacked: Unacked,
        *,
        mode: SessionMode,
        work: CommandWork,
    ) -> None:
        self._storage = storage
        self._incoming = incoming
        self._settling = settling
        self._unacked = unacked
        self._mode = mode
        self._work = work
        self._ending: Transaction | None = None

    def commit(self) -> None:
        """Do the publishes and settlements since the last commit. The work may be ``unfinished``.

        Raises PreconditionFailed, when all is done, if a queue was full and refused a message.
        """
        self._work.begin("a transaction", self._commit(self._mode.next_transaction()))

    def rollback(self) -> None:
        """Drop the publishes since the last commit, and hold the settled messages again. The work may be
        ``unfinished``.
        """
        self._work.begin("a rollback", self._undo(self._mode.next_transaction()))

    def undo_open(self) -> Slices:
        """Roll back the open transaction of the ended session, if there is one."""
        if self._mode.transaction is not None:
            yield from self._undo(self._mode.next_transaction())

    def held(self) -> Iterator[Held]:
        """The held messages that wait to be settled by a commit."""
        for transaction in (self._mode.transaction, self._ending):
            if transaction is not None:
                yield from transaction.held()

    def do_atomically(self, steps: Slices) -> None:
        """Do the publishes and settlements of these steps together after the last step; do none if a step
        fails or the session ends before. The work may be ``unfinished``.

        Its publishes get no publisher confirms. Raises, after all is done, the errors of ``commit``.
        """
        self._work.begin("a transaction", self._do_atomically(steps))

    def _do_atomically(self, steps: Slices) -> Slices:
        transaction = self._mode.transaction = Transaction()
        parts = self._work.parts = deque()
        failure: Exception | None = None
        try:
            for _ in steps:
                while parts:
                    yield from parts.popleft()
                yield
                if self._incoming.finished:
                    break
        except Exception as error:
            failure = error
        self._mode.transaction = self._work.parts = None
        if failure is not None or self._incoming.finished:
            yield from self._undo(transaction)
        else:
            yield from self._commit(transaction)
        if failure is not None:
            raise failure

    def _commit(self, transaction: Transaction) -> Slices:
        """Do the publishes and settlements of a transaction."""
        self._storage.begin_whole()
        self._ending = transaction
        try:
            yield from transaction.commit(
                self._incoming.distribute_to_remaining, self._incoming.distribute_widely, self._settle
            )
        finally:
            self._storage.end_whole()
            self._ending = None
            if transaction.settles:  # not settled because of an exception
                at_once(self._undo(transaction))
            else:
                self._incoming.grow(-transaction.size)

    def _settle(self, verb: Verb, taken: Taken) -> None:
        """Settle messages. Their publishers get no early confirm: until the settlement is on disk, a crash
        may undo it.
        """
        try:
            self._settling.settle(verb, taken)
        except Exception:
            reclaim(taken)
            raise
        for _, (_, _, entry) in taken:
            entry.settled = False

    def _undo(self, transaction: Transaction) -> Slicing[None]:
        """Drop the publishes of a transaction, and hold the settled messages again."""
        self._ending = transaction
        try:
            yield from transaction.rollback(self._unacked)
        finally:
            self._ending = None
            self._incoming.grow(-transaction.size)
