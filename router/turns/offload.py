"""What takes too long for the core, as a password's hash does: the seam to whoever does it elsewhere.

Owns the seam, and the worker that does everything at once, for tests and tools without an event loop.
"""

from collections.abc import Callable
from typing import Protocol, TypeVar

T = TypeVar("T")


class Work(Protocol):
    """Does jobs that touch nothing of the core."""

    def submit(self, job: Callable[[], T], done: Callable[[T], None]) -> None:
        """Have a job done, and ``done`` called with its result in a turn of its own. A job that raises is a
        bug: that is logged, and ``done`` is not called.
        """


class AtOnce:
    """Does a job where it is submitted, and calls ``done`` before it returns."""

    def submit(self, job: Callable[[], T], done: Callable[[T], None]) -> None:
        done(job())
