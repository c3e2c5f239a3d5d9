"""Thread that runs the store's jobs in order, and reports each result in Trio's thread.

Not for the jobs themselves (see ``router/store/``). A dedicated thread answers sooner than one borrowed for
each job.
"""

from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeVar

import trio
from msgspec import Struct

from leveret.router.server.thread_calls import ThreadCalls
from leveret.router.store.writer import Job, Result

Run = Callable[[Any], Result]  # Any: the kinds of jobs that this thread gets
T = TypeVar("T")
Done = Callable[[Job, Result, Exception | None], None]


class _Interjection(Struct, frozen=True):
    """A call to run between two jobs, and the future of its result."""

    work: Callable[[], Any]
    future: "Future[Any]"

    def run(self) -> None:
        try:
            self.future.set_result(self.work())
        except BaseException as error:  # the caller gets it from the future
            self.future.set_exception(error)


class Worker:
    """A thread with a queue of jobs. ``done`` is called in Trio's thread, in the order of the jobs, with the
    value or the exception of ``run``.
    """

    def __init__(self, name: str, run: Run, done: Done, close: Callable[[], None] = lambda: None) -> None:
        """Start the thread, which calls ``close`` after the last job."""
        self._work = run
        self._done = done
        self._close = close
        self._jobs: SimpleQueue[Job | _Interjection | None] = SimpleQueue()
        self._calls = ThreadCalls()
        self._finished = trio.Event()
        self._error: Exception | None = None  # exception of ``close``
        self._thread = Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, job: Job) -> None:
        """Queue a job."""
        self._jobs.put(job)

    def interject(self, work: Callable[[], T]) -> "Future[T]":
        """Run a call in this thread between two jobs, without a call of ``done``. Return its future."""
        future: Future[T] = Future()
        self._jobs.put(_Interjection(work, future))
        return future

    async def finish(self) -> Exception | None:
        """Wait until all jobs are done and the files are closed; return the exception of closing, if any.

        No job may be submitted after this.
        """
        self._jobs.put(None)
        await self._finished.wait()
        self._calls.close()
        return self._error

    def _run(self) -> None:
        get, post = self._jobs.get, self._calls.post
        with suppress(trio.RunFinishedError):  # Trio has not waited for a disk that hung
            while (job := get()) is not None:
                if isinstance(job, _Interjection):
                    job.run()
                else:
                    post(self._done, job, *self._try(job))
            try:
                self._close()
            except Exception as error:
                self._error = error
            post(self._finished.set)

    def _try(self, job: Job) -> tuple[Result, Exception | None]:
        try:
            return self._work(job), None
        except Exception as error:
            return 0, error
