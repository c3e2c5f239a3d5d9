"""Answers over HTTP that take many slices."""

import pytest
import trio
import trio.testing

from leveret.protocol.http import Response
from leveret.router.server.http import serve_http
from leveret.router.settings import Http, Settings
from tests.router.server.server import Peer
from tests.router.server.web import Browser, make_site

CLIENTS, SLICES = 20, 50


@pytest.fixture
def settings() -> Settings:
    return Settings(http=Http(max_connections=CLIENTS))


async def test_long_answers_run_one_slice_in_each_round_of_the_loop_together(server, nursery):
    rounds = 0
    slices: list[int] = []

    async def count_rounds() -> None:
        nonlocal rounds
        while True:
            rounds += 1
            await trio.lowlevel.checkpoint()

    def answer(request):
        for _ in range(SLICES):
            slices.append(rounds)
            yield 0
        return Response(200, b"done")

    async def ask() -> None:
        mine, its = trio.testing.memory_stream_pair()
        nursery.start_soon(serve_http, its, Peer(local=True), site)
        assert (await Browser(mine).ask("/long")).body == b"done"

    site = make_site(server, {"/long": {"GET": answer}})
    nursery.start_soon(count_rounds)
    async with trio.open_nursery() as clients:
        for _ in range(CLIENTS):
            clients.start_soon(ask)
    assert len(slices) == CLIENTS * SLICES
    assert max(slices.count(number) for number in set(slices)) <= 2  # one, and the first of all
