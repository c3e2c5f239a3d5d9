"""The thread that writes: runs the store's jobs in order, and tells the core of each from Trio's own thread.

Owns the thread and nothing of what it does. A dedicated thread answers sooner than one borrowed for each job.
"""

from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from threading import Thread

import trio

from router.store.writer import Job, Writer

Done = Callable[[Job, int, Exception | None], None]


class Committer:
    """A ``Disk`` for the store. ``done`` is called in Trio's thread, in the order of the jobs."""

    def __init__(self, writer: Writer, done: Done) -> None:
        self._writer = writer
        self._done = done
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._token = trio.lowlevel.current_trio_token()
        self._finished = trio.Event()
        self._error: Exception | None = None  # what closing failed with
        self._thread = Thread(target=self._run, name="committer", daemon=True)
        self._thread.start()

    def submit(self, job: Job) -> None:
        """Have a job done after all before it."""
        self._jobs.put(job)

    async def finish(self) -> Exception | None:
        """Wait until all jobs are done and the files are closed; return what that failed with, if it did.

        Nothing may be submitted after this.
        """
        self._jobs.put(None)
        await self._finished.wait()
        return self._error

    def _run(self) -> None:
        get, tell = self._jobs.get, self._token.run_sync_soon
        with suppress(trio.RunFinishedError):  # nobody waited for a disk that hung
            while (job := get()) is not None:
                tell(self._done, job, *self._try(job))
            try:
                self._writer.close()
            except Exception as error:
                self._error = error
            tell(self._finished.set)

    def _try(self, job: Job) -> tuple[int, Exception | None]:
        try:
            return self._writer.run(job), None
        except Exception as error:
            return 0, error
