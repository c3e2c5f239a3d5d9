"""Calls from a thread to Trio's thread, in order and sooner than ``TrioToken.run_sync_soon`` makes them.

A hop from Trio to a thread and back takes 12 us instead of 27: one write wakes a task that waits for a file
descriptor, where Trio would write to a socket, read from it twice, and run the calls of all threads.
"""

import os
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from threading import Lock
from typing import TypeVarTuple, Unpack

import trio

Ts = TypeVarTuple("Ts")

SIGNAL = (1).to_bytes(8, "little")  # what an eventfd takes, and a pipe too
SIGNALS = 512  # bytes: a pipe may hold several signals


class ThreadCalls:
    """Passes calls of one or more threads to Trio's thread. Other tasks run between two calls."""

    def __init__(self) -> None:
        """Open the descriptors, and start the task that makes the calls: a system task, which runs until
        ``close``, or until all other tasks of Trio have ended.
        """
        self._calls: deque[Callable[[], object]] = deque()
        self._reader, self._writer = _descriptors()
        self._lock = Lock()  # a thread must not write to a closed descriptor, whose number may be used again
        self._closed = False
        trio.lowlevel.spawn_system_task(self._make_calls, name="calls from a thread")

    def post(self, call: Callable[[Unpack[Ts]], object], *args: *Ts) -> None:
        """Have a call made in Trio's thread, from any thread. Raises RunFinishedError if it has ended."""
        self._calls.append(lambda: call(*args))
        with self._lock:
            if self._closed:
                raise trio.RunFinishedError
            with suppress(BlockingIOError):  # then signals enough are unread
                os.write(self._writer, SIGNAL)

    def close(self) -> None:
        """Make no more calls; in Trio's thread."""
        with self._lock:
            if not self._closed:
                self._closed = True
                with suppress(BlockingIOError):
                    os.write(self._writer, SIGNAL)  # wakes the task, which closes the descriptors

    async def _make_calls(self) -> None:
        calls = self._calls
        try:
            while not self._closed:
                await trio.lowlevel.wait_readable(self._reader)
                with suppress(BlockingIOError):
                    os.read(self._reader, SIGNALS)
                while calls and not self._closed:
                    calls.popleft()()
                    if calls:
                        await trio.lowlevel.checkpoint()
        finally:
            with self._lock:
                self._closed = True
                for descriptor in {self._reader, self._writer}:
                    os.close(descriptor)


def _descriptors() -> tuple[int, int]:
    """Return a descriptor to wait for, and one to write to: the same for an eventfd, which only Linux has."""
    if hasattr(os, "eventfd"):
        descriptor = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        return descriptor, descriptor
    reader, writer = os.pipe()
    for descriptor in (reader, writer):
        os.set_blocking(descriptor, False)
    return reader, writer
