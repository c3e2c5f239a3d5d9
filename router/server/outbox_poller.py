"""Task that publishes the rows of one transactional outbox for as long as the broker runs.

Responsible for the connection to PostgreSQL, which is made again after every loss, for waiting until there is
something to do, and for the log lines. The statements are in ``transactional_outbox/database.py`` and run in
threads, one at a time.
"""

import secrets
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import structlog
import trio

from leveret.router.auth import User
from leveret.router.broker.outbox_state import OutboxPhase, OutboxState
from leveret.router.server.driver import Driver
from leveret.router.server.late_modules import load_module
from leveret.router.transactional_outbox.published_rows import PublishedRows
from leveret.router.transactional_outbox.publisher import OutboxPublisher
from leveret.router.transactional_outbox.rows import BatchResult, OutboxRow
from leveret.router.values.notes import NoteKind

if TYPE_CHECKING:
    from leveret.router.transactional_outbox.database import OutboxDatabase

DATABASE = "leveret.router.transactional_outbox.database"  # imports psycopg, which takes 100 ms
FIRST_RETRY, LAST_RETRY = 0.1, 10.0  # seconds until a lost connection is made again: doubled each time
HELD_RETRY = 0.5  # seconds until the outbox of another broker is tried again
COUNT_INTERVAL = 5.0  # seconds between two counts of the rows,
COUNT_SHARE = 20  # and at least so many times as long as a count takes
LOG_INTERVAL = 10.0  # seconds between two lines about refused rows
BATCH_BYTES = 4 << 20  # of bodies and properties that are read at a time

Result = TypeVar("Result")


async def run_outboxes(driver: Driver) -> None:
    """Publish the rows of all outboxes in the settings, until cancelled."""
    await load_module(DATABASE)
    process = secrets.token_bytes(8)
    driver.begin("start of the outboxes")
    store = store_name(driver)
    driver.end()
    async with trio.open_nursery() as nursery:
        for url in driver.broker.settings.outbox.databases:
            nursery.start_soon(OutboxPoller(driver, url, store=store, process=process).run)


def store_name(driver: Driver) -> bytes:
    """Return the random name of the broker's store, created at the first call; in a turn."""
    notes = driver.broker.storage.broker_notes
    key = NoteKind.STORE_NAME.key(b"")
    if notes is None:
        return secrets.token_bytes(16)
    if key not in notes.kept:
        notes.put(key, secrets.token_bytes(16))
    return notes.kept[key]


class OutboxPoller:
    """Publishes the rows of the outbox at ``url``."""

    def __init__(self, driver: Driver, url: str, *, store: bytes, process: bytes) -> None:
        from leveret.router.transactional_outbox.connection import OutboxError, describe  # noqa: PLC0415
        from leveret.router.transactional_outbox.database import OutboxDatabase  # noqa: PLC0415

        self._driver = driver
        self._broker = driver.broker
        self._settings = driver.broker.settings.outbox
        self._error = OutboxError
        self._open = partial(OutboxDatabase, url, store=store, process=process)
        self.state = OutboxState(describe(url))
        self._broker.outboxes.append(self.state)
        self._log = structlog.get_logger().bind(outbox=self.state.database)
        self._published: dict[bytes, PublishedRows] = {}  # by the id of the outbox
        self._unblocked = trio.Event()
        self._retry_at = self._count_at = self._log_at = 0.0
        self._unlogged = 0  # refused rows since the last line in the log
        self._pause = FIRST_RETRY  # seconds until the next attempt after a failure
        self._failure = ""  # the last one, until the outbox works

    async def run(self) -> None:
        """Publish rows; connect again, with growing pauses, as often as that is needed."""
        while True:
            database = self._open()
            try:
                outbox = await _in_thread(database.open)
                await self._hold(database)
                self._enter("running")
                if not self._failure:
                    self._log.info("publishing from the outbox")
                await self._poll(database, outbox)
            except self._error as error:
                self._fail(str(error))
            except Exception as error:  # a fault of the broker, which goes on without this batch
                self._driver.begin("a failed outbox")
                self._driver.failed("publishing from an outbox raised an exception", error)
                self._driver.end()
                self._enter("failing", f"{type(error).__name__}: {error}")
            finally:
                with trio.CancelScope(shield=True):
                    await _in_thread(database.close)
            self.state.reconnections += 1
            await trio.sleep(self._pause)
            self._pause = min(2 * self._pause, LAST_RETRY)

    async def _hold(self, database: "OutboxDatabase") -> None:
        """Wait until no other broker publishes from the outbox."""
        while reason := await _in_thread(database.hold):
            if self.state.error != reason:
                self._enter("waiting", reason)
                self._log.warning("waiting for the outbox", reason=reason)
            await trio.sleep(HELD_RETRY)

    async def _poll(self, database: "OutboxDatabase", outbox: bytes) -> None:
        """Publish rows until the connection is lost."""
        publisher = OutboxPublisher(self._broker, await self._published_rows(outbox))
        settings = self._settings
        read = partial(
            database.read,
            rows=settings.batch,
            size=BATCH_BYTES,
            largest=self._broker.settings.amqp.max_message_size,
        )
        try:
            while True:
                await self._unblocked_by_alarms(database)
                user = self._publishing_user()
                rows = await _in_thread(read)
                if not rows:
                    self._recover()
                    await self._idle(database)
                    continue
                await self._driver.throttle(sum(row.size for row in rows))
                result = await self._publish(publisher, rows, user)
                await _in_thread(partial(database.settle, result))
                self._recover()
                self._report(publisher, result)
                await self._run_due(database)
        finally:
            self._driver.begin("end of an outbox's connection")
            publisher.close()
            self._driver.end()

    async def _published_rows(self, outbox: bytes) -> PublishedRows:
        """Return the memory of the rows of this outbox, restored at the first call."""
        if outbox not in self._published:
            rows = PublishedRows(outbox, self._broker.storage.broker_notes)
            for _ in rows.restore():
                await trio.lowlevel.checkpoint()
            self._published[outbox] = rows
        return self._published[outbox]

    async def _unblocked_by_alarms(self, database: "OutboxDatabase") -> None:
        """Return when no alarm blocks publishers; count the rows meanwhile."""
        alarms = self._broker.alarms
        while alarms.raised:
            self._enter("blocked", f"publishers are blocked: {alarms.reason()}")
            self._unblocked = trio.Event()
            alarms.block(self)
            with trio.move_on_after(COUNT_INTERVAL):
                await self._unblocked.wait()
            await self._run_due(database)
        if self.state.phase == "blocked":
            self._enter("running")

    def _publishing_user(self) -> User:
        """Return the user who publishes. Raises OutboxError if there is none of this name."""
        name = self._settings.user or self._broker.settings.default_user
        user = self._broker.users.get(name)
        if user is None:
            raise self._error(f"there is no user '{name}' to publish as: create it, or set outbox.user")
        return user

    def unblock(self) -> None:
        """Continue: the last alarm was cleared."""
        self._unblocked.set()

    async def _publish(self, publisher: OutboxPublisher, rows: list[OutboxRow], user: User) -> BatchResult:
        """Publish rows; return when each is on disk, settled or refused."""
        done = trio.Event()
        outcome: list[BatchResult | Exception] = []

        def then(result: BatchResult | Exception) -> None:
            outcome.append(result)
            done.set()

        self._driver.begin("rows of an outbox")
        publisher.publish(rows, user, then)
        self._driver.end()
        await done.wait()
        if isinstance(outcome[0], Exception):
            raise outcome[0]
        return outcome[0]

    async def _idle(self, database: "OutboxDatabase") -> None:
        """Wait for a notification, at most for the poll interval."""
        if not database.notified:
            longest = self._settings.poll_interval / 1000
            with trio.move_on_after(min(longest, database.full_read_in or longest)):
                await trio.lowlevel.wait_readable(database.fileno())
        await self._run_due(database)

    async def _run_due(self, database: "OutboxDatabase") -> None:
        """Let rows wait again whose retry is due, and count the rows for metrics; at intervals, also while
        there is always something to publish.
        """
        began = trio.current_time()
        if began >= self._retry_at:
            self._retry_at = began + self._settings.poll_interval / 1000
            await _in_thread(database.retry_due)
        if began < self._count_at:
            return
        counts = await _in_thread(database.count)
        took = trio.current_time() - began
        self._count_at = began + max(COUNT_INTERVAL, COUNT_SHARE * took)
        state = self.state
        state.rows_waiting, state.rows_failed, state.oldest = counts.waiting, counts.failed, counts.oldest

    def _report(self, publisher: OutboxPublisher, result: BatchResult) -> None:
        """Count the rows of a batch, and log the first that failed."""
        state = self.state
        state.recognized += publisher.recognized
        state.published += len(result.published) - publisher.recognized
        publisher.recognized = 0
        if result.failed:
            state.refused += len(result.failed)
            self._unlogged += len(result.failed)
        if result.failed and trio.current_time() >= self._log_at:
            self._log_at = trio.current_time() + LOG_INTERVAL
            rows, self._unlogged = self._unlogged, 0
            first = result.failed[0]
            self._log.warning(
                "rows of the outbox were refused",
                rows=rows,
                first_id=first.row.id,
                error=first.error,
                advice="'leveret outbox status' lists them, and 'leveret outbox retry' publishes them again",
            )

    def _enter(self, phase: OutboxPhase, error: str = "") -> None:
        self.state.phase, self.state.error = phase, error

    def _fail(self, error: str) -> None:
        """Log a failure, unless it is the last one again."""
        if self._failure != error:
            self._log.error("the outbox cannot be used", error=error, again_in_s=self._pause)
        self._failure = error
        self._enter("failing", error)
        self.state.rows_waiting = self.state.rows_failed = self.state.oldest = None

    def _recover(self) -> None:
        """End the growth of the pauses after failures: rows were read and settled."""
        self._pause = FIRST_RETRY
        if self._failure:
            self._failure = ""
            self._log.info("publishing from the outbox")


async def _in_thread(call: Callable[[], Result]) -> Result:
    """Make a call that blocks; a cancellation does not wait for its end."""
    return await trio.to_thread.run_sync(call, abandon_on_cancel=True)
