"""A thread that does the store's jobs in order, and tells the core of each from Trio's own thread.

Owns the thread and nothing of what it does. A dedicated thread answers sooner than one borrowed for each job.
"""

from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeVar

import trio

from leveret.router.store.writer import Job, Result

Run = Callable[[Any], Result]  # Any: of the jobs, it takes those that it is given
T = TypeVar("T")
Done = Callable[[Job, Result, Exception | None], None]


@dataclass(frozen=True, slots=True)
class _Interjection:
    """A call to be run between two jobs, and the future of its result."""

    work: Callable[[], Any]
    future: "Future[Any]"

    def run(self) -> None:
        try:
            self.future.set_result(self.work())
        except BaseException as error:  # the caller gets it from the future
            self.future.set_exception(error)


class Worker:
    """``done`` is called in Trio's thread, in the order of the jobs, with what ``run`` returned or raised."""

    def __init__(self, name: str, run: Run, done: Done, close: Callable[[], None] = lambda: None) -> None:
        """``close`` is called by the thread when there is nothing more to do."""
        self._work = run
        self._done = done
        self._close = close
        self._jobs: SimpleQueue[Job | _Interjection | None] = SimpleQueue()
        self._token = trio.lowlevel.current_trio_token()
        self._finished = trio.Event()
        self._error: Exception | None = None  # what closing failed with
        self._thread = Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, job: Job) -> None:
        """Have a job done after all before it."""
        self._jobs.put(job)

    def interject(self, work: Callable[[], T]) -> "Future[T]":
        """Run a call in this thread between two jobs; ``done`` is not called for it. Returns its future."""
        future: Future[T] = Future()
        self._jobs.put(_Interjection(work, future))
        return future

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
                if isinstance(job, _Interjection):
                    job.run()
                else:
                    tell(self._done, job, *self._try(job))
            try:
                self._close()
            except Exception as error:
                self._error = error
            tell(self._finished.set)

    def _try(self, job: Job) -> tuple[Result, Exception | None]:
        try:
            return self._work(job), None
        except Exception as error:
            return 0, error
