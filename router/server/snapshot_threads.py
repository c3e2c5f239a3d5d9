"""The threads of a snapshot: staging it between jobs of the writing threads, and copying afterwards.

A snapshot first stops the thread that writes streams. Meanwhile the thread that writes everything else
links all files, between two of its jobs. Then both continue, and the snapshot thread copies files.
``leveret.router.store.snapshot`` decides which files are linked and which are copied.
"""

import shutil
import sqlite3
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from threading import Event, Thread

import structlog
import trio

from leveret.router.server.driver import Driver
from leveret.router.server.store_thread import Worker
from leveret.router.store.snapshot import Snapshot, SnapshotError, Staged, finish, prepare, stage
from leveret.router.store.writer import Writer

Then = Callable[[Snapshot | SnapshotError], None]


class SnapshotThreads:
    """Takes one snapshot at a time."""

    def __init__(self, data: Path, driver: Driver, writer: Writer, writing: Worker, streams: Worker) -> None:
        """``writing`` is the thread that runs ``writer``, ``streams`` the one that writes streams."""
        self._data = data
        self._driver = driver
        self._writer = writer
        self._writing = writing
        self._streams = streams
        self._busy = False
        self._log = structlog.get_logger()

    def take(self, name: str, then: Then) -> None:
        """Take a snapshot; call ``then`` with the outcome in a later turn, or at once if another one is
        running.
        """
        if self._busy:
            then(SnapshotError("another snapshot is being taken"))
            return
        self._busy = True
        token = trio.lowlevel.current_trio_token()
        Thread(target=self._run, args=(name, then, token), name="snapshot", daemon=True).start()

    def _run(self, name: str, then: Then, token: trio.lowlevel.TrioToken) -> None:
        try:
            outcome: Snapshot | SnapshotError = self._take(name)
        except (SnapshotError, OSError, sqlite3.Error) as error:
            self._log.error("snapshot failed", name=name, error=str(error))
            outcome = SnapshotError(str(error))
        except Exception as error:
            self._log.error("snapshot failed", name=name, exc_info=error)
            outcome = SnapshotError("internal error, see the broker's log")
        with suppress(trio.RunFinishedError):  # the broker has stopped meanwhile
            token.run_sync_soon(self._finish, then, outcome)

    def _finish(self, then: Then, outcome: Snapshot | SnapshotError) -> None:
        self._busy = False
        self._driver.begin()
        try:
            then(outcome)
        finally:
            self._driver.end()

    def _take(self, name: str) -> Snapshot:
        began = time.monotonic()
        directory = prepare(self._data, name)
        try:
            staged = self._stage(directory)
            held = time.monotonic() - began
            taken = finish(staged)
        except BaseException:
            shutil.rmtree(directory, ignore_errors=True)
            raise
        self._log.info(
            "snapshot taken",
            path=str(taken.path),
            linked=taken.linked,
            copied=taken.copied,
            bytes=taken.size,
            held=round(held, 3),
            seconds=round(time.monotonic() - began, 3),
        )
        return taken

    def _stage(self, directory: Path) -> Staged:
        """Link all files while neither thread writes."""
        holding, release = Event(), Event()

        def hold() -> None:
            holding.set()
            release.wait()

        self._streams.interject(hold)
        holding.wait()
        try:
            work = partial(self._stage_now, directory)
            return self._writing.interject(work).result()
        finally:
            release.set()

    def _stage_now(self, directory: Path) -> Staged:
        return stage(self._data, directory, self._writer.growing())
