"""Offloaded jobs run in threads, and their results reach the core in a turn of its own."""

import threading

import trio

from leveret.router.auth import hash_password
from leveret.router.server.offload_threads import THREADS, OffloadThreads


async def test_a_job_runs_in_a_thread_and_its_result_arrives_in_the_core(server, nursery):
    threads, told = OffloadThreads(server.driver, nursery), trio.Event()
    seen = []

    def job():
        return threading.get_ident()

    def done(result):
        seen.extend((result, threading.get_ident(), server.broker.now))
        told.set()

    server.broker.now = -1
    threads.submit(job, done)
    await told.wait()
    assert seen[0] != seen[1] == threading.get_ident()
    assert seen[2] > 0


async def test_no_more_jobs_run_at_a_time_than_there_are_threads(server, nursery):
    threads = OffloadThreads(server.driver, nursery)
    running, most, lock, go, told = [], [], threading.Lock(), threading.Event(), []
    over = trio.Event()

    def job():
        with lock:
            running.append(1)
            most.append(len(running))
            if len(most) == THREADS:
                go.set()
        go.wait(10)
        with lock:
            running.pop()

    def done(_):
        told.append(1)
        if len(told) == 6:
            over.set()

    for _ in range(6):
        threads.submit(job, done)
    await over.wait()
    assert max(most) == THREADS


async def test_a_job_that_fails_is_logged_and_the_next_is_done(server, logged):
    told = []
    async with trio.open_nursery() as jobs:
        threads = OffloadThreads(server.driver, jobs)
        threads.submit(lambda: 1 / 0, lambda result: None)
        threads.submit(lambda: 1, told.append)
    assert told == [1]
    assert [line["event"] for line in logged if line["log_level"] == "error"] == ["offloaded job failed"]


async def test_a_slow_login_delays_no_other_client(server, nursery):
    server.broker.work = OffloadThreads(server.driver, nursery)
    slow = server.broker.users.add("slow", hash_password("pw", "scrypt"))
    slow.permit("/", configure=".*", write=".*", read=".*")
    client, _ = server.connect()
    other, _ = server.connect()
    async with trio.open_nursery() as both:
        both.start_soon(lambda: client.login(user="slow", password="pw"))
        await other.login()
