"""A model of HTTP conversations: whatever requests follow each other on one connection, each gets one
answer, in order and its own, until an answer says that it is the last.
"""

import base64
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

import pytest
import structlog
import trio
import trio.testing
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from leveret.protocol.http import SKIP, HttpError, Request, Response
from leveret.router.management.api import table
from leveret.router.management.call import ApiContext
from leveret.router.management.statistics.extra_statistics import BrokerStatistics
from leveret.router.management.statistics.rates import Sampler
from leveret.router.server.http import serve_http
from leveret.router.settings import Http, Settings
from tests.router.management.api import FakeNode
from tests.router.server.server import Peer, Server
from tests.router.server.web import Answer, Browser, make_site

BODY_MAX = 5000
SETTINGS = Settings(http=Http(max_body_size=BODY_MAX))


class Guarded:
    """Refuses at the head, or before the body, or at the end, as the path says."""

    def check_head(self, request: Request) -> None:
        if request.segments[1] == "screen":
            raise HttpError(401, request.segments[2])

    def authorize(self, request: Request, *, when: str, number: str):
        yield 0
        if when == "prove":
            raise HttpError(404, number)

    def __call__(self, request: Request, *, when: str, number: str):
        yield from self.authorize(request, when=when, number=number)
        if when == "late":
            raise HttpError(400, number)
        if when == "fail":
            raise RuntimeError("a bug")
        return Response(200, f"{number}:{len(request.body)}".encode())


@dataclass(frozen=True)
class Asked:
    """A request, and what must be answered. ``awaits`` says that its body is sent when it is asked for;
    ``may_end`` that the connection may end with its answer, ``ends`` that it must.
    """

    method: str
    head: bytes
    status: int
    body: bytes = b""
    tells: bytes = b""  # in the answer
    awaits: bool = False
    may_end: bool = False
    ends: bool = False


PATHS = {"nothing": b"/nothing", "percent": b"/%", "upgrade": b"/ws/amqp"}
HEADERS = {
    "origin": [b"Origin: https://evil.example"],
    "upgrade": [b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Version: 12"],
    "last": [b"Connection: close"],
}
ANSWERS = {
    "screen": (401, b'"NUMBER"'),
    "prove": (404, b'"NUMBER"'),
    "late": (400, b'"NUMBER"'),
    "fail": (500, b"internal error"),
    "nothing": (404, b"nothing at this path"),
    "percent": (400, b"percent"),
    "origin": (403, b"origin"),
    "upgrade": (426, b""),
}
READ = ("good", "late", "fail", "last")  # whose body is wanted


def asked(number: int, kind: str, method: str, size: int, form: str) -> Asked:
    """A request of a kind, with a body of that size in one of three forms."""
    plain = bytes(size)
    body, headers = plain, [b"Host: localhost"]
    if form == "chunked":
        step = max(1, size // 3)
        pieces = [plain[at : at + step] for at in range(0, size, step)]
        body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
        headers.append(b"Transfer-Encoding: chunked")
    elif size or form == "expecting":
        headers.append(b"Content-Length: %d" % size)
    if form == "expecting":
        headers.append(b"Expect: 100-continue")
    path = PATHS.get(kind, b"/guarded/%b/%d" % (kind.encode(), number))
    headers += HEADERS.get(kind, [])
    status, told = ANSWERS.get(kind, (200, b"%d:%d" % (number, size)))
    if kind == "upgrade" and method != "GET":
        status, told = 405, b""
    elif kind in READ and size > BODY_MAX:
        status, told = 413, b"bytes here"
    early = status == 413 or kind not in READ
    return Asked(
        method,
        b"%b %b HTTP/1.1\r\n%b\r\n\r\n" % (method.encode(), path, b"\r\n".join(headers)),
        status,
        body,
        b"" if method == "HEAD" else told.replace(b"NUMBER", b"%d" % number),
        awaits=form == "expecting" and size > 0,
        may_end=early and (form != "sized" or size > SKIP),
        ends=kind == "last",
    )


KINDS = ("good", "screen", "prove", "late", "fail", "nothing", "percent", "origin", "upgrade", "last")
SIZES = (0, 1, 700, BODY_MAX, BODY_MAX + 1, 200_000, SKIP + 1)
requests = st.tuples(
    st.sampled_from(KINDS[:-1] * 3 + KINDS[-1:]),
    st.sampled_from(("POST", "PUT")),
    st.sampled_from(SIZES),
    st.sampled_from(("sized", "chunked", "expecting")),
)
bodiless = st.tuples(st.sampled_from(KINDS), st.sampled_from(("GET", "HEAD")), st.just(0), st.just("sized"))


class Conversation:
    """A client that sends these requests, each when the one before is answered, or all at once."""

    def __init__(self, stream: trio.abc.HalfCloseableStream, every: list[Asked], cuts: list[int]) -> None:
        self.stream = stream
        self.browser = Browser(stream)
        self.every = every
        self.cuts = cuts

    async def send(self, data: bytes) -> None:
        """Send in pieces, which the server reads one by one."""
        start = 0
        with suppress(trio.BrokenResourceError):
            for cut in (*self.cuts, len(data)):
                if start < cut <= len(data):
                    await self.stream.send_all(data[start:cut])
                    await trio.testing.wait_all_tasks_blocked()
                    start = cut

    async def one_by_one(self) -> None:
        for each in self.every:
            if each.awaits:
                await self.send(each.head)
                answer = await self.browser.answer(each.method)
                if answer.status == 100:
                    await self.send(each.body)
                    answer = await self.browser.answer(each.method)
            else:
                await self.send(each.head + each.body)
                answer = await self.next_answer(each)
            if self.check(each, answer):
                break
        else:
            await self.stream.send_eof()
        assert await self.ended()

    async def all_at_once(self) -> None:
        """The client ends its side behind the last request, and still gets its answers."""
        await self.send(b"".join(each.head + each.body for each in self.every))
        with suppress(trio.BrokenResourceError):
            await self.stream.send_eof()
        for each in self.every:
            if self.check(each, await self.next_answer(each)):
                break
        assert await self.ended()

    async def next_answer(self, each: Asked) -> Answer:
        answer = await self.browser.answer(each.method)
        return await self.browser.answer(each.method) if answer.status == 100 else answer

    def check(self, each: Asked, answer: Answer) -> bool:
        """Whether it is the last answer."""
        assert answer.status == each.status, (each.head, answer)
        assert each.tells in answer.body, (each.head, answer)
        last = answer.headers.get("connection") == "close"
        assert last or not each.ends
        assert each.ends or each.may_end or not last, (each.head, answer)
        return last

    async def ended(self) -> bool:
        """Whether nothing more is answered."""
        rest, _ = self.browser.wire.trailing_data
        return not rest and await self.browser.ended()


def converse(
    run: Callable[[Server, trio.Nursery], Awaitable[None]],
    settings: Settings = SETTINGS,
) -> None:
    """Have a client talk to a server in a loop of their own."""

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            await run(Server(settings, nursery), nursery)
            nursery.cancel_scope.cancel()

    with structlog.testing.capture_logs():
        trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


@pytest.mark.parametrize("pipelined", [False, True])
@examples(deadline=None, max_examples=150)
@given(
    every=st.lists(requests | bodiless, min_size=1, max_size=6),
    cuts=st.lists(st.integers(1, 8000), max_size=5).map(sorted),
)
def test_each_request_gets_one_answer_and_its_own(pipelined, every, cuts):
    async def run(server: Server, nursery: trio.Nursery) -> None:
        mine, its = trio.testing.memory_stream_pair()
        rows = {method: Guarded() for method in ("GET", "POST", "PUT")}
        nursery.start_soon(serve_http, its, Peer(), make_site(server, {"/guarded/{when}/{number}": rows}))
        talk = Conversation(mine, [asked(n, *each) for n, each in enumerate(every)], cuts)
        with trio.fail_after(1000):
            await (talk.all_at_once() if pipelined else talk.one_by_one())

    converse(run)


def of_api(method: str, path: str, user: str | None, body: bytes, status: int) -> Asked:
    """A request to the management API."""
    lines = [f"{method} /api{path} HTTP/1.1", "Host: localhost"]
    if user is not None:
        lines.append(f"Authorization: Basic {base64.b64encode(user.encode()).decode()}")
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return Asked(method, "\r\n".join([*lines, "", ""]).encode(), status, body)


GUEST, WRONG, PLAIN = "guest:guest", "guest:wrong", "plain:plain"
CALLS = [
    of_api("GET", "/vhosts", GUEST, b"", 200),
    of_api("HEAD", "/vhosts", GUEST, b"", 200),
    of_api("PUT", "/queues/%2F/q", GUEST, b'{"durable":false}', 201),
    of_api("PUT", "/queues/%2F/q", GUEST, b"{", 400),
    *(
        of_api(method, path, user, body, status)
        for method, body in (
            ("GET", b""),
            ("HEAD", b""),
            ("DELETE", b""),
            ("PUT", b"{}"),
            ("PUT", bytes(4999)),
        )
        for path, user, status in (
            ("/vhosts/x", None, 401),
            ("/vhosts/x", WRONG, 401),
            ("/vhosts/x", PLAIN, 401),
            ("/queues/nosuch/q", GUEST, 404),
            ("/nosuch", GUEST, 404),
        )
    ),
]


@examples(deadline=None, max_examples=100)
@given(
    every=st.lists(st.sampled_from(CALLS), min_size=1, max_size=8),
    cuts=st.lists(st.integers(1, 500), max_size=5).map(sorted),
    pipelined=st.booleans(),
)
def test_each_call_of_the_api_gets_one_answer(every, cuts, pipelined):
    async def run(server: Server, nursery: trio.Nursery) -> None:
        broker = server.broker
        broker.users.add("plain", broker.users["guest"].password_hash)
        world = ApiContext(broker, FakeNode(), Sampler(broker), BrokerStatistics(broker))
        mine, its = trio.testing.memory_stream_pair()
        nursery.start_soon(serve_http, its, Peer(), make_site(server, table(world)))
        created = False
        wanted = []
        for each in every:
            status = 204 if each.status == 201 and created else each.status
            created = created or each.status == 201
            wanted.append(Asked(each.method, each.head, status, each.body))
        talk = Conversation(mine, wanted, cuts)
        with trio.fail_after(1000):
            await (talk.all_at_once() if pipelined else talk.one_by_one())

    converse(run)
