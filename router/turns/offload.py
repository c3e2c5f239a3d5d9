"""Interface for work that takes too long for the core, such as hashing a password.

Responsible for the interface, and for the implementation that does everything at once, for tests and for
tools without an event loop. Not for threads (see ``server``).
"""

from collections.abc import Callable
from typing import Protocol, TypeVar

T = TypeVar("T")


class Offload(Protocol):
    """A runner of jobs that use nothing of the core."""

    def submit(self, job: Callable[[], T], done: Callable[[T], None]) -> None:
        """Run a job, then call ``done`` with its result in a turn of its own.

        A job that raises is a bug: the exception is logged, and ``done`` is not called.
        """


class InlineOffload:
    """A runner that does a job at once and calls ``done`` before ``submit`` returns."""

    def submit(self, job: Callable[[], T], done: Callable[[T], None]) -> None:
        done(job())
