"""The thread that writes: runs the store's jobs in order, and tells the core of each from Trio's own thread.

Owns the thread and nothing of what it does. A dedicated thread answers sooner than one borrowed for each job.
"""

from collections.abc import Callable
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
        self._thread = Thread(target=self._run, name="committer", daemon=True)
        self._thread.start()

    def submit(self, job: Job) -> None:
        """Have a job done after all before it."""
        self._jobs.put(job)

    async def finish(self) -> None:
        """Wait until all jobs are done and the files are closed. Nothing may be submitted after this."""
        self._jobs.put(None)
        await self._finished.wait()

    def _run(self) -> None:
        run, get, tell = self._writer.run, self._jobs.get, self._token.run_sync_soon
        while (job := get()) is not None:
            try:
                tell(self._done, job, run(job), None)
            except trio.RunFinishedError:
                break
            except Exception as error:
                tell(self._done, job, 0, error)
        self._writer.close()
        tell(self._finished.set)
