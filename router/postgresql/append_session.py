"""The session in which the owner of a store appends: one transaction at a time, each with its position.

Responsible for the outcome of every commit. A commit is done only if the server has reported so without a
warning. A commit whose outcome is unknown, because the connection was lost, is a failed one for the caller,
who writes the same content again. The next session reads the newest position first, so that the fence stays
without a gap, and its first commit implies that everything before it has reached the standbys.

There is no timeout of a statement, and none is ever cancelled: a commit that is cancelled while it waits for
a standby is visible, and lost with the primary. A server reports such a commit with a warning; here it counts
as failed.
"""

import threading
import time
from collections import deque
from collections.abc import Sequence
from types import TracebackType

import psycopg
from psycopg import errors

from leveret.router.postgresql import fence
from leveret.router.postgresql.fence import NewestPosition, session_name
from leveret.router.postgresql.location import (
    STANDBYS,
    Connection,
    Statement,
    StoreLocation,
    execute,
    text_of,
)
from leveret.router.store.backend import DeposedError, StorageError

ATTEMPTS = 3  # at one commit, if an earlier one of unknown outcome turns out to be done
JOINED = 4  # most inserts that are joined into one statement


class AppendError(OSError):
    """A commit failed, or its outcome is unknown; the next attempt may succeed."""


class LockedError(AppendError):
    """A table is in use, such as by pg_dump, so nothing was done."""


class MissingTableError(AppendError):
    """A table does not exist, so nothing was done."""


class FairLock:
    """A lock for threads, which get it in the order of their arrival."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: deque[threading.Lock] = deque()
        self._taken = False

    def acquire(self, *, wait: bool = True) -> bool:
        """Acquire the lock; return False if another thread holds it and ``wait`` is False."""
        with self._lock:
            if not self._taken:
                self._taken = True
                return True
            if not wait:
                return False
            turn = threading.Lock()
            turn.acquire()
            self._waiting.append(turn)
        return turn.acquire()

    def release(self) -> None:
        """Release the lock: the thread that has waited longest gets it."""
        with self._lock:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._taken = False

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def _joined(inserts: Sequence[Statement]) -> Statement:
    """Return one statement for inserts, which is a transaction of its own.

    The usual commit, a position and one row, takes a quarter of the processor time of a transaction of
    separate statements, and half of its latency.
    """
    (first, values), *others = inserts
    if not others:
        return first, values
    parts = [f"first (value) AS ({first})", *(f"i{n} AS ({each[0]})" for n, each in enumerate(others))]
    return f"WITH {', '.join(parts)} SELECT value FROM first", [
        value for _, each in inserts for value in each
    ]


class AppendSession:
    """The append session of the broker that owns a store."""

    def __init__(
        self, location: StoreLocation, taken: NewestPosition, connection: Connection | None = None
    ) -> None:
        """``taken`` is the position of the take-over. ``connection`` is a checked one, or None to connect
        with the first commit.
        """
        self._location = location
        self._shard = location.shard
        self.epoch = taken.epoch
        self.position = taken.position  # of the last commit
        self._generation = taken.generation
        self._lock = FairLock()
        self.renewed_at = time.monotonic()  # when the last successful commit began
        self.commits = 0
        self.commit_seconds = 0.0  # that all successful commits have taken
        self._ended: DeposedError | None = None  # nothing can be appended any more
        self._warnings: list[str] = []
        self._connection = connection
        self._begun = taken.position  # the first position of the generation, or a later one
        if connection is not None:
            self._watch(connection)

    def commit(self, statements: Sequence[Statement] = ()) -> None:
        """Execute the statements in one transaction with the next position.

        Without statements only the position is appended. Raises AppendError, or DeposedError if another
        broker has taken over.
        """
        with self._lock:
            for _ in range(ATTEMPTS):
                if self._commit(statements):
                    return
            raise AppendError(f"the position of {self._location} moved {ATTEMPTS} times")

    def close(self) -> None:
        """Close the session; do not wait for a commit in progress, which may never end."""
        self._ended = self._ended or DeposedError("the store is closed")
        if self._lock.acquire(wait=False):
            self._drop()
            self._lock.release()

    def _commit(self, statements: Sequence[Statement]) -> bool:
        """Commit; return False if the position was taken by an earlier commit of this session."""
        connection = self._connected()
        if self.position - self._begun >= fence.GENERATION:
            self._begin_generation(connection)
        began = time.monotonic()
        position = self.position + 1
        table = fence.table_of(self._shard, self._generation)
        insert = f"INSERT INTO {table} VALUES (%s, %s) RETURNING {STANDBYS}"
        try:
            standbys = self._send(connection, [(insert, (position, self.epoch)), *statements])
        except psycopg.Error as error:
            self._failed(connection, error)
            return False
        self.position = position
        self._check_warnings()
        self.commits += 1
        self.commit_seconds += time.monotonic() - began
        if self._location.durability == "quorum" and not standbys:
            raise AppendError(self._location.without_standby())
        self.renewed_at = began
        return True

    def _send(self, connection: Connection, statements: Sequence[Statement]) -> str:
        """Run one transaction in one round trip; return the first value of the first statement."""
        self._warnings.clear()
        if len(statements) <= JOINED and all(text.startswith("INSERT ") for text, _ in statements):
            return str(execute(connection, *_joined(statements))[0][0])
        with connection.pipeline():
            connection.execute(b"BEGIN")
            first, *others = statements
            cursor = connection.execute(first[0].encode(), first[1])
            for statement, values in others:
                connection.execute(statement.encode(), values or None)
            connection.execute(b"COMMIT")
        rows = cursor.fetchall() if cursor.description is not None else [("",)]
        return str(rows[0][0])

    def _check_warnings(self) -> None:
        """Raise AppendError if the server has committed without its standbys."""
        if self._warnings:
            raise AppendError(f"{self._location} has committed without its standbys: {self._warnings[0]}")

    def _failed(self, connection: Connection, error: psycopg.Error) -> None:
        """Handle a failed transaction: return if it may be repeated at once, else raise AppendError or
        DeposedError.
        """
        try:
            connection.rollback()
        except psycopg.Error:
            self._drop()
        if self._connection is None or connection.closed:
            self._drop()
            raise AppendError(f"the connection to {self._location} was lost: {text_of(error)}") from None
        if fence.is_fence_error(error, self._shard):
            try:
                self._adopt(fence.read_newest(connection, self._shard))
            except psycopg.Error as failure:
                self._drop()
                raise AppendError(f"{self._location} cannot be read: {text_of(failure)}") from None
            return
        if isinstance(error, errors.LockNotAvailable):
            raise LockedError(text_of(error)) from None
        if isinstance(error, errors.UndefinedTable):
            raise MissingTableError(text_of(error)) from None
        if isinstance(error, errors.ReadOnlySqlTransaction):
            self._drop()  # the server has become a standby: the next session may find the primary
        raise AppendError(f"{self._location} has refused a commit: {text_of(error)}") from None

    def _adopt(self, newest: NewestPosition) -> None:
        """Continue after the newest position, if this session appended it. Raises DeposedError."""
        if newest.epoch != self.epoch:
            self._ended = DeposedError(
                f"another broker has taken over {self._location}: its epoch is {newest.epoch}, and that of"
                f" this broker was {self.epoch}"
            )
        elif newest.position < self.position:
            self._ended = DeposedError(
                f"{self._location} has lost commits that it had reported as done: its newest position is"
                f" {newest.position}, and it was {self.position}. Was a standby promoted that was not"
                " synchronous, or a backup restored?"
            )
        if self._ended is not None:
            self._drop()
            raise self._ended
        if newest.generation != self._generation:
            self._generation, self._begun = newest.generation, newest.position
        self.position = newest.position

    # -- the connection -----------------------------------------------------------------------------------

    def _connected(self) -> Connection:
        """Return the session, a new one if the last was lost. Raises AppendError and DeposedError."""
        if self._ended is not None:
            raise self._ended
        if self._connection is not None:
            return self._connection
        connection: Connection | None = None
        try:
            name = session_name(self._shard, self.epoch, self._location.schema)
            connection = self._location.connect(name)
            self._location.check_promise(connection)
            # A session of a lost connection may have a transaction that will never end.
            fence.end_transactions(connection, fence.table_of(self._shard, self._generation))
            self._connection = connection
            self._watch(connection)
            self._adopt(fence.read_newest(connection, self._shard))
        except (psycopg.Error, StorageError) as error:
            self._drop()
            if connection is not None:
                connection.close()
            said = text_of(error) if isinstance(error, psycopg.Error) else str(error)
            raise AppendError(f"cannot append to {self._location}: {said}") from None
        return connection

    def _watch(self, connection: Connection) -> None:
        """Gather the warnings of a session."""

        def note(diagnostic: errors.Diagnostic) -> None:
            if diagnostic.severity_nonlocalized == "WARNING":
                self._warnings.append(str(diagnostic.message_primary))

        connection.add_notice_handler(note)

    def _drop(self) -> None:
        """Close the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    # -- generations --------------------------------------------------------------------------------------

    def _begin_generation(self, connection: Connection) -> None:
        """Seal the full table of positions, and begin another one."""
        sealed, position = self.position + 1, self.position + 2
        seal = f"INSERT INTO {fence.table_of(self._shard, self._generation)} VALUES (%s, %s)"
        generation = self._generation + 1
        create = fence.create_table(self._shard, generation, position, self.epoch)
        try:
            self._send(connection, [(seal, (sealed, fence.SEALED)), *create])
        except psycopg.Error as error:
            self._failed(connection, error)
            return
        self._generation, self._begun, self.position = generation, position, position
        self._check_warnings()

    def old_generations(self) -> list[str]:
        """Return the tables of positions that are not needed any more. Raises AppendError."""
        with self._lock:
            connection = self._connected()
            try:
                found = fence.generations(connection, self._shard)
            except psycopg.Error as error:
                self._drop()
                raise AppendError(f"{self._location} cannot be read: {text_of(error)}") from None
            return [fence.table_of(self._shard, number) for number in found if number < self._generation]
