"""The processes of a measurement: a producer and a consumer, each with an interpreter of its own.

Owns starting and ending them and how they report. What they do is the measurement's.
"""

import contextlib
import multiprocessing
import resource
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from conformance.wire import WireError

CONTEXT = multiprocessing.get_context("fork")
T = TypeVar("T")


def clocks() -> tuple[float, float]:
    """The monotonic clock, which all processes share, and this process's CPU time, both in seconds."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return time.monotonic(), usage.ru_utime + usage.ru_stime


def start(stack: contextlib.ExitStack, work: Callable[[T, Connection], None], run: T) -> Connection:
    """Run ``work`` in a process that ends with the stack; return the pipe it reports through."""
    here, there = CONTEXT.Pipe()
    process = CONTEXT.Process(target=_child, args=(work, run, there), daemon=True)
    process.start()
    stack.callback(process.join)
    stack.callback(process.kill)  # before the join; nothing when it ended by itself
    return here


def _child(work: Callable[[T, Connection], None], run: T, pipe: Connection) -> None:
    """Run one side in its process and send its failure instead of a result."""
    try:
        work(run, pipe)
    except (WireError, OSError) as error:
        pipe.send(WireError(f"{work.__name__}: {error}"))


def receive(pipe: Connection, seconds: float) -> Any:
    """What the process at the other end reports; WireError when it failed or says nothing in time."""
    if not pipe.poll(seconds):
        raise WireError(f"a client reported nothing in {seconds:.0f} s")
    result = pipe.recv()
    if isinstance(result, WireError):
        raise result
    return result
