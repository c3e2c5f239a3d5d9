import json

import pytest
import trio
import trio.testing

from leveret.protocol.http import HttpError, Request, Response
from leveret.router.broker.broker import Broker
from leveret.router.server.http import HttpSite, serve_http
from leveret.router.settings import Http, Settings
from leveret.router.web.pages import pages
from leveret.router.web.response_steps import Wait
from leveret.router.web.routes import HttpRoutes
from tests.router.server.server import Peer
from tests.router.server.web import OPENING, Browser, make_site

SECONDS = Http().request_timeout / 1000
IDLE = Http().idle_timeout / 1000


@pytest.fixture
def settings() -> Settings:
    return Settings(http=Http(max_connections=2))


def echo(request: Request) -> Response:
    return Response(200, request.body)


def fail(request: Request) -> Response:
    raise RuntimeError("a bug")


def refuse(request: Request) -> Response:
    raise HttpError(401, headers=(("WWW-Authenticate", 'Basic realm="leveret"'),))


def slowly(request: Request):
    yield 0
    yield 5.0
    return Response(200, b"at last")


def waiting(request: Request, what: str):
    wait = Wait()
    WAITS[what] = wait
    yield wait
    return Response(200, repr(wait.done).encode())


def failing_late(request: Request):
    yield 0
    raise HttpError(503) if request.query_text == "refused" else ValueError("boom")


WAITS = {}


@pytest.fixture
def site(server) -> HttpSite:
    table = {
        "/echo": {"POST": echo},
        "/fail": {"GET": fail},
        "/refuse": {"GET": refuse},
        "/slow": {"GET": slowly},
        "/late": {"GET": failing_late},
        "/wait/{what}": {"GET": waiting},
        "/large": {"GET": lambda request: Response(200, bytes(1 << 20))},
    }
    return make_site(server, table)


@pytest.fixture
def connect(site, nursery):
    def run(pair=trio.testing.memory_stream_pair, *, local: bool = True) -> Browser:
        mine, its = pair()
        nursery.start_soon(serve_http, its, Peer(local=local), site)
        return Browser(mine)

    return run


# -- answers -------------------------------------------------------------------------------------------------


async def test_one_connection_answers_many_requests(autojump_clock, connect):
    browser = connect()
    front = await browser.ask("/")
    assert (front.status, front.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert b"<h1>leveret</h1>" in front.body
    health = await browser.ask("/health")
    assert (health.status, json.loads(health.body)) == (200, {"status": "ok", "alarms": []})
    assert {"date", "server", "x-content-type-options", "cache-control"} <= health.headers.keys()
    assert {"x-frame-options", "referrer-policy"} <= health.headers.keys()


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/demo", "text/html"),
        ("/demo/demo.css", "text/css"),
        *((f"/demo/{name}.js", "text/javascript") for name in ("demo", "amqp", "stomp")),
    ],
)
async def test_demo_is_served(autojump_clock, connect, path, kind):
    answer = await connect().ask(path)
    assert answer.status == 200
    assert answer.headers["content-type"].startswith(kind)
    assert "script-src 'self'" in answer.headers["content-security-policy"]


async def test_health_names_alarms(autojump_clock, connect, server):
    server.broker.alarms.set("memory", raised=True)
    assert json.loads((await connect().ask("/health")).body)["alarms"] == ["memory"]


async def test_broker_is_ready_while_its_store_writes(autojump_clock, connect, server):
    browser = connect()
    assert json.loads((await browser.ask("/ready")).body) == {"status": "ok"}
    server.broker.alarms.set("memory", raised=True)
    assert (await browser.ask("/ready")).status == 200
    server.broker.alarms.set("store", raised=True)
    answer = await browser.ask("/ready")
    assert (answer.status, json.loads(answer.body)["status"]) == (503, "failed")
    assert "data directory" in json.loads(answer.body)["reasons"][0]
    assert (await browser.ask("/health")).status == 200


def test_broker_is_not_ready_while_a_listener_is_closed():
    routes = HttpRoutes(pages(Broker(Settings()), lambda: ["amqp"]))
    request = Request("GET", "/ready", ("ready",), "", {})
    response = routes.find(request)(request)
    assert response.status == 503
    assert json.loads(response.body)["reasons"] == ["no listener is open for the setting listen.amqp"]


async def test_pipelined_requests_are_answered_in_order(autojump_clock, connect):
    browser = connect()
    get = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
    post = b"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\nhi"
    await browser.stream.send_all(get + post + get)
    assert b"status" in (await browser.answer()).body
    assert (await browser.answer()).body == b"hi"
    assert b"status" in (await browser.answer()).body


async def test_answer_in_steps_comes_when_they_are_done(autojump_clock, connect):
    browser = connect()
    start = trio.current_time()
    assert (await browser.ask("/slow")).body == b"at last"
    assert trio.current_time() - start == 5


async def test_what_an_answer_waits_for_lets_it_go_on(autojump_clock, connect):
    browser, answers = connect(), []

    async def ask():
        answers.append(await browser.ask("/wait/told"))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        assert not answers
        WAITS["told"].finish()
    assert answers[0].body == b"True"


async def test_what_never_happens_is_not_waited_for_forever(autojump_clock, connect):
    assert (await connect().ask("/wait/vain")).body == b"False"


@pytest.mark.parametrize(("query", "status"), [("", 500), ("?refused", 503)])
async def test_failure_in_a_later_step_is_reported(autojump_clock, connect, logged, query, status):
    assert (await connect().ask(f"/late{query}")).status == status


class Screened:
    def check_head(self, request: Request) -> None:
        if "authorization" not in request.headers:
            raise HttpError(401)

    def __call__(self, request: Request) -> Response:
        return Response(200, request.body)


async def test_what_a_handler_refuses_at_its_head_is_not_read(autojump_clock, server, nursery):
    mine, its = trio.testing.memory_stream_pair()
    site = make_site(server, {"/screened": {"POST": Screened()}})
    nursery.start_soon(serve_http, its, Peer(), site)
    browser = Browser(mine)
    head = b"POST /screened HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n"
    await mine.send_all(head)
    assert (await browser.answer("POST")).status == 401


class Proved:
    def authorize(self, request: Request):
        yield 1.0
        if "x-known" not in request.headers:
            raise HttpError(401)

    def __call__(self, request: Request) -> Response:
        return Response(200, str(len(request.body)).encode())


@pytest.mark.parametrize(("known", "status"), [(b"", 401), (b"X-Known: 1\r\n", 100)])
async def test_the_user_is_authorized_before_the_body_is_read(autojump_clock, server, nursery, known, status):
    mine, its = trio.testing.memory_stream_pair()
    nursery.start_soon(serve_http, its, Peer(), make_site(server, {"/proved": {"POST": Proved()}}))
    browser = Browser(mine)
    head = b"POST /proved HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n"
    await mine.send_all(head + known + b"Expect: 100-continue\r\n\r\n")
    assert (await browser.answer("POST")).status == status
    if status == 100:
        await mine.send_all(bytes(100000))
        assert (await browser.answer("POST")).body == b"100000"


async def test_answer_that_takes_time_ends_when_the_client_hangs_up(autojump_clock, server, nursery, logged):
    ended = []

    def endless(request: Request):
        try:
            while True:
                yield 10.0
        finally:
            ended.append(trio.current_time())

    mine, its = trio.testing.memory_stream_pair()
    site = make_site(server, {"/endless": {"GET": endless}})
    nursery.start_soon(serve_http, its, Peer(), site)
    await mine.send_all(b"GET /endless HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await trio.sleep(25)
    assert not ended
    start = trio.current_time()
    await mine.aclose()
    await trio.testing.wait_all_tasks_blocked()
    assert ended == [pytest.approx(start)]
    assert site.places.taken == 0


async def test_request_that_comes_while_another_takes_time_is_answered_next(autojump_clock, connect):
    browser = connect()
    await browser.stream.send_all(b"GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await trio.sleep(1)
    await browser.stream.send_all(b"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\nhi")
    assert (await browser.answer()).body == b"at last"
    assert (await browser.answer("POST")).body == b"hi"


async def test_head_has_the_headers_of_get(autojump_clock, connect):
    browser = connect()
    get, head = await browser.ask("/health"), await browser.ask("/health", "HEAD")
    assert head.body == b""
    assert head.headers["content-length"] == get.headers["content-length"]
    assert (await browser.ask("/health")).status == 200


@pytest.mark.parametrize(
    ("asked", "status"),
    [("GET /nothing", 404), ("PUT /health", 405), ("GET /fail", 500), ("GET /refuse", 401)],
)
async def test_refusal_is_json_and_the_connection_goes_on(autojump_clock, connect, logged, asked, status):
    browser = connect()
    method, path = asked.split()
    answer = await browser.ask(path, method)
    assert answer.status == status
    assert json.loads(answer.body).keys() == {"error", "reason"}
    assert ("allow" in answer.headers) == (status == 405)
    assert ("www-authenticate" in answer.headers) == (status == 401)
    assert (await browser.ask("/")).status == 200
    assert ("request failed" in [each["event"] for each in logged]) == (status == 500)


async def test_body_is_asked_for_when_the_client_waits(autojump_clock, connect):
    browser = connect()
    head = b"POST /echo HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
    await browser.stream.send_all(head)
    assert (await browser.answer("POST")).status == 100
    await browser.stream.send_all(b"hi")
    assert (await browser.answer("POST")).body == b"hi"


async def test_body_that_is_too_large_is_refused_before_it_is_sent(autojump_clock, connect):
    browser = connect()
    head = (
        b"POST /echo HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 20000001\r\n\r\n"
    )
    await browser.stream.send_all(head)
    assert (await browser.answer("POST")).status == 413
    assert await browser.ended()


async def test_body_of_a_get_is_held_to_the_size_of_a_head(autojump_clock, connect):
    assert (await connect().ask("/health", body=bytes(16384))).status == 200
    assert (await connect().ask("/health", body=bytes(16385))).status == 413


async def test_another_protocol_is_refused_and_the_answer_arrives(autojump_clock, connect):
    browser = connect()
    await browser.stream.send_all(b"AMQP\x00\x00\x09\x01\r\n\r\n" + bytes(100_000))
    assert (await browser.answer()).status == 400
    assert await browser.ended()


# -- who may ask ---------------------------------------------------------------------------------------------


async def test_page_of_another_origin_is_refused(autojump_clock, connect):
    answer = await connect().ask("/health", Origin="https://evil.example")
    assert answer.status == 403


async def test_name_that_was_pointed_at_loopback_is_refused(autojump_clock, connect):
    assert (await connect().ask("/health", Host="evil.example")).status == 421


async def test_any_name_is_fine_where_others_may_connect(autojump_clock, connect):
    assert (await connect(local=False).ask("/health", Host="broker.example")).status == 200


async def test_no_credential_is_logged(autojump_clock, connect, logged):
    browser = connect()
    for path in ("/health", "/nothing", "/fail"):
        await browser.ask(path + "?secret=b3Blbi1zZXNhbWU", Authorization="Basic b3Blbi1zZXNhbWU=")
    assert len(logged) >= 3
    assert "b3Blbi1zZXNhbWU" not in repr([{**each, "exc_info": None} for each in logged])


async def test_a_connection_beyond_the_most_takes_the_place_of_the_one_idle_longest(connect, logged):
    first, second = connect(), connect()
    assert (await first.ask()).status == (await second.ask()).status == 200
    assert (await first.ask()).status == 200
    assert (await connect().ask()).status == 200
    assert await second.ended()
    assert (await first.ask()).status == 200
    assert [line["event"] for line in logged if line["log_level"] == "warning"] == ["connection closed"]


@pytest.mark.parametrize(
    "sent", [b"", b"GET /he", b"POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nx"]
)
async def test_connections_without_a_whole_request_make_way(connect, site, sent):
    for _ in range(100):
        browser = connect()
        if sent:
            await browser.stream.send_all(sent)
        await trio.testing.wait_all_tasks_blocked()
    assert site.places.taken == 2
    for path in ("/health", "/ready", "/"):
        assert (await connect().ask(path)).status == 200


async def test_health_is_answered_while_all_places_are_busy(autojump_clock, connect, logged):
    for number in range(2):
        await connect().stream.send_all(b"GET /wait/busy%d HTTP/1.1\r\nHost: localhost\r\n\r\n" % number)
    await trio.testing.wait_all_tasks_blocked()
    for path, status in (("/health", 200), ("/ready", 200), ("/", 503)):
        browser = connect()
        answer = await browser.ask(path)
        assert (answer.status, answer.headers["connection"]) == (status, "close")
        assert await browser.ended()
    assert answer.headers["retry-after"] == "1"
    assert json.loads(answer.body)["reason"] == "2 HTTP connections are open"


async def test_bodies_that_never_end_are_bounded_in_all_and_given_back(autojump_clock, connect, site):
    site.bodies.most = 200_000
    begun = [connect() for _ in range(2)]
    for browser in begun:
        await browser.stream.send_all(
            b"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 90000\r\n\r\n"
        )
        await browser.stream.send_all(bytes(60_000))
        await trio.testing.wait_all_tasks_blocked()
    answer = await begun[1].answer()
    assert (answer.status, answer.headers["retry-after"]) == (503, "5")
    assert site.bodies.held == 60_000
    await begun[0].stream.send_all(bytes(30_000))
    assert len((await begun[0].answer()).body) == 90_000
    assert site.bodies.held == 0


# -- time ----------------------------------------------------------------------------------------------------


async def test_idle_connection_is_closed_after_its_time(autojump_clock, connect):
    browser = connect()
    await browser.ask()
    start = trio.current_time()
    assert await browser.ended()
    assert trio.current_time() - start == pytest.approx(IDLE, abs=1)


@pytest.mark.parametrize(
    "rest", [b"Host: localhost\r\n", b"Host: localhost\r\nContent-Length: 999999\r\n\r\n"]
)
async def test_dripping_request_ends_after_its_time(autojump_clock, connect, nursery, rest):
    browser = connect()
    start = trio.current_time()

    async def drip() -> None:
        for _ in range(int(SECONDS) + 2):
            await browser.stream.send_all(b"x")
            await trio.sleep(1)

    await browser.stream.send_all(b"POST /echo HTTP/1.1\r\n" + rest)
    nursery.start_soon(drip)
    assert (await browser.answer()).status == 408
    assert trio.current_time() - start == pytest.approx(SECONDS, abs=1)


async def test_client_that_does_not_read_is_let_go(autojump_clock, connect, site):
    browser = connect(trio.testing.lockstep_stream_pair)
    await browser.stream.send_all(b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await trio.sleep(SECONDS - 1)
    assert site.places.taken == 1
    await trio.sleep(2)
    assert site.places.taken == 0


async def test_stopping_lets_idle_clients_go_at_once(autojump_clock, connect, site):
    idle, asking = connect(), connect()
    await idle.ask()
    await asking.stream.send_all(b"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\nh")
    await trio.testing.wait_all_tasks_blocked()
    start = trio.current_time()
    site.stop()
    assert await idle.ended()
    await asking.stream.send_all(b"i")
    assert (await asking.answer("POST")).body == b"hi"
    assert await asking.ended()
    assert trio.current_time() - start < 1


# -- what is logged ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "headers", "told"),
    [
        (
            "/health",
            {"Origin": "https://evil.example"},
            {"event": "request refused", "status": 403, "origin": "https://evil.example", "path": "/health"},
        ),
        (
            "/ws/amqp",
            OPENING | {"Origin": "https://evil.example"},
            {"event": "request refused", "status": 403, "origin": "https://evil.example", "path": "/ws/amqp"},
        ),
        (
            "/health",
            {"Host": "evil.example"},
            {"event": "request refused", "status": 421, "host": "evil.example"},
        ),
        (
            "/ws/amqp",
            OPENING | {"Sec_WebSocket_Protocol": "mqtt"},
            {"event": "WebSocket refused", "status": 400, "reason": "the subprotocols here: amqp"},
        ),
    ],
)
async def test_refusal_that_is_a_matter_of_settings_is_logged(connect, logged, path, headers, told):
    await connect().ask(path, **headers)
    (line,) = [each for each in logged if each["log_level"] == "warning"]
    assert told.items() <= line.items()
    if line["event"] == "request refused":
        assert ("http.origins" if "origin" in line else "http.hosts") in line["reason"]
