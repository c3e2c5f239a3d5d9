"""Threads for what takes too long for the event loop, and the turn in which the core is told of it.

Owns how many there are. What is done there is hashing, which runs without Python's global lock.
"""

from collections.abc import Callable
from functools import partial
from typing import TypeVar

import trio

from leveret.router.server.driver import Driver

THREADS = 2  # more would take the loop's processor from it, and 32 MiB each

T = TypeVar("T")


class Threads:
    """Does the core's jobs; whatever is not done when the nursery ends never will be."""

    def __init__(self, driver: Driver, nursery: trio.Nursery) -> None:
        self._driver = driver
        self._nursery = nursery
        self._limit = trio.CapacityLimiter(THREADS)

    def submit(self, job: Callable[[], T], done: Callable[[T], None]) -> None:
        self._nursery.start_soon(partial(self._do, job, done))

    async def _do(self, job: Callable[[], T], done: Callable[[T], None]) -> None:
        try:
            result = await trio.to_thread.run_sync(job, limiter=self._limit, abandon_on_cancel=True)
            self._driver.begin("what follows from a job")
            try:
                done(result)
            finally:
                self._driver.end()
        except Exception as error:
            self._driver.failed("a job failed", error)
