"""Calls from threads, which are made in Trio's thread."""

import os
import threading

import pytest
import trio
import trio.testing

from leveret.router.server.thread_calls import ThreadCalls


@pytest.fixture(params=["eventfd", "pipe"], autouse=True)
def descriptors(request, monkeypatch):
    """The kind of descriptor that wakes Trio; all that were opened are closed in the end."""
    if request.param == "pipe":
        monkeypatch.delattr(os, "eventfd", raising=False)
    elif not hasattr(os, "eventfd"):
        pytest.skip("only Linux has it")


def in_threads(*works):
    threads = [threading.Thread(target=work) for work in works]
    for thread in threads:
        thread.start()
    return threads


def descriptors_open():
    """The open descriptors of this process; none where the system does not list them."""
    try:
        return set(os.listdir("/proc/self/fd"))
    except FileNotFoundError:
        return set()


async def test_calls_of_threads_are_made_in_trios_thread_and_in_order():
    calls, made, done = ThreadCalls(), [], trio.Event()

    def note(name, number):
        assert threading.current_thread() is threading.main_thread()
        made.append((name, number))
        if len(made) == 2000:
            done.set()

    def post(name):
        for number in range(1000):
            calls.post(note, name, number)

    threads = in_threads(lambda: post("a"), lambda: post("b"))
    await done.wait()
    for thread in threads:
        thread.join()
    for name in "ab":
        assert [number for each, number in made if each == name] == list(range(1000))
    calls.close()


async def test_other_tasks_run_between_two_calls(nursery):
    calls, turns = ThreadCalls(), []
    (thread,) = in_threads(lambda: [calls.post(turns.append, "call") for _ in range(5)])
    thread.join()

    async def other():
        while turns.count("call") < 5:
            turns.append("other")
            await trio.lowlevel.checkpoint()

    nursery.start_soon(other)
    while turns.count("call") < 5:
        await trio.lowlevel.checkpoint()
    between = "".join(each[0] for each in turns)
    assert "ccc" not in between, "two of one pass may meet, as tasks are shuffled"
    calls.close()


async def test_nothing_is_called_after_close_and_the_descriptors_are_closed():
    opened = descriptors_open()
    calls, made = ThreadCalls(), []
    calls.post(made.append, 1)
    calls.close()
    calls.close()
    await trio.testing.wait_all_tasks_blocked()
    with pytest.raises(trio.RunFinishedError):
        calls.post(made.append, 2)
    assert made == []
    assert descriptors_open() == opened


def test_a_thread_learns_that_trio_has_ended():
    async def main():
        return ThreadCalls()

    calls = trio.run(main)
    with pytest.raises(trio.RunFinishedError):
        calls.post(print)
