"""Threads for jobs that would block the event loop; their results are passed to the core in a turn.

Responsible for the number of threads. The jobs compute password hashes, which releases Python's global lock.
"""

from collections.abc import Callable
from functools import partial
from typing import TypeVar

import trio

from leveret.router.server.driver import Driver

THREADS = 2  # more would take processor time from the loop, and each needs 32 MiB

T = TypeVar("T")


class OffloadThreads:
    """Runs jobs of the core in threads; jobs that are unfinished when the nursery ends are dropped."""

    def __init__(self, driver: Driver, nursery: trio.Nursery) -> None:
        self._driver = driver
        self._nursery = nursery
        self._limit = trio.CapacityLimiter(THREADS)

    def submit(self, job: Callable[[], T], done: Callable[[T], None]) -> None:
        self._nursery.start_soon(partial(self._do, job, done))

    async def _do(self, job: Callable[[], T], done: Callable[[T], None]) -> None:
        try:
            result = await trio.to_thread.run_sync(job, limiter=self._limit, abandon_on_cancel=True)
            self._driver.begin("result of an offloaded job")
            try:
                done(result)
            finally:
                self._driver.end()
        except Exception as error:
            self._driver.failed("offloaded job failed", error)
