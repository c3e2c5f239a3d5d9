"""The memory of HTTP responses: its bound, the share of an address, and responses that wait."""

import weakref

import pytest
import trio
import trio.testing

from leveret.protocol.http import Response
from leveret.router.server.http import serve_http
from leveret.router.server.response_memory import FREE, ResponseMemory
from leveret.router.settings import Http, Settings
from leveret.router.web.response_steps import Growth
from tests.router.server.server import Peer
from tests.router.server.web import Browser, make_site

MB = 1_000_000


@pytest.fixture
def settings() -> Settings:
    return Settings(http=Http(max_responses_size=10 * MB, request_timeout=30_000))


def test_one_address_may_have_half():
    memory = ResponseMemory(10 * MB)
    with memory.share("a") as first, memory.share("a") as second, memory.share("b") as other:
        assert first.grow(3 * MB)
        assert not second.grow(2 * MB + 1)
        assert second.grow(2 * MB)
        assert other.grow(5 * MB)
        assert memory.held == 10 * MB
    assert (memory.held, memory._addresses) == (0, {})


def test_the_oldest_response_of_an_address_may_exceed_the_limit():
    memory = ResponseMemory(10 * MB)
    with memory.share("a") as first, memory.share("a") as second:
        assert first.grow(MB)
        assert second.grow(MB)
        assert first.grow(20 * MB)
        assert not second.grow(2 * MB)
        first.release()
        assert second.grow(20 * MB)


def test_small_responses_are_not_counted():
    memory = ResponseMemory(1)
    with memory.share("a") as first, memory.share("a") as second:
        first.count(20 * MB)
        assert second.grow(FREE)
        second.count(FREE)
        assert memory.held == 20 * MB


def test_a_complete_response_counts_even_if_there_is_no_room():
    memory = ResponseMemory(10 * MB)
    with memory.share("a") as first, memory.share("a") as second, memory.share("a") as third:
        first.count(5 * MB)
        second.count(5 * MB)
        assert memory.held == 10 * MB
        assert not third.grow(MB)
    assert memory.held == 0


def test_no_number_is_any_number():
    memory = ResponseMemory(0)
    with memory.share("a") as first, memory.share("a") as second:
        assert first.grow(1 << 40)
        assert second.grow(1 << 40)


def large(request):
    yield Growth(4 * MB)
    return Response(200, bytes(4 * MB))


async def test_responses_wait_while_another_client_of_the_address_does_not_read(server, nursery):
    site = make_site(server, {"/large": {"GET": large}})
    browsers = []
    for _ in range(3):
        mine, its = trio.testing.lockstep_stream_pair()
        nursery.start_soon(serve_http, its, Peer(local=True), site)
        browsers.append(Browser(mine))
    statuses = []

    async def ask(browser: Browser) -> None:
        statuses.append((await browser.ask("/large")).status)

    first, *others = browsers
    async with trio.open_nursery() as asking:
        await first.stream.send_all(b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await trio.testing.wait_all_tasks_blocked()
        for browser in others:
            asking.start_soon(ask, browser)
        await trio.testing.wait_all_tasks_blocked()
        assert statuses == []
        assert site.responses.held == 4 * MB
        await first.stream.aclose()
    await trio.testing.wait_all_tasks_blocked()
    assert statuses == [200, 200]
    assert site.responses.held == 0


async def test_an_idle_connection_keeps_no_response(server, nursery):
    class Referenced(Response):
        """A response that can be referenced weakly."""

    found = []

    def answer(request):
        response = Referenced(200, bytes(MB))
        found.append(weakref.ref(response))
        return response

    mine, its = trio.testing.memory_stream_pair()
    nursery.start_soon(serve_http, its, Peer(local=True), make_site(server, {"/large": {"GET": answer}}))
    assert len((await Browser(mine).ask("/large")).body) == MB
    await trio.testing.wait_all_tasks_blocked()
    assert [each() for each in found] == [None]


async def test_a_response_that_waits_in_vain_is_refused_and_the_connection_stays_open(
    server, nursery, autojump_clock
):
    site = make_site(
        server, {"/large": {"GET": large}, "/small": {"GET": lambda request: Response(200, b"x")}}
    )
    with site.responses.share(Peer(local=True).ends.peer[0]) as held:
        held.count(20 * MB)
        mine, its = trio.testing.memory_stream_pair()
        nursery.start_soon(serve_http, its, Peer(local=True), site)
        browser = Browser(mine)
        answer = await browser.ask("/large")
        assert (answer.status, answer.headers["retry-after"]) == (503, "5")
        assert (await browser.ask("/small")).status == 200
