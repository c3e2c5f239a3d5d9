import base64
import tracemalloc
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leveret.protocol.http import (
    PARTS,
    HeadLimits,
    HttpConnection,
    HttpError,
    PendingRequest,
    Request,
    Response,
    json_response,
    split_path,
)

BODY_MAX = 100
HOST = b"Host: h\r\n"


def connection(head: int = 1000, headers: int = 20) -> HttpConnection:
    return HttpConnection(HeadLimits(head, headers))


def requests(wire: HttpConnection, *chunks: bytes) -> list[Request]:
    """Every request in these bytes, each answered at once."""
    found, pending = [], None
    for chunk in chunks:
        wire.receive(chunk)
        while (pending := pending or wire.next_request()) is not None:
            if (body := pending.body(BODY_MAX)) is None:
                break
            found.append(replace(pending.head(), body=body))
            pending.respond(Response())
            pending = None
    return found


def pending_in(data: bytes, wire: HttpConnection | None = None) -> PendingRequest:
    """The first request in these bytes."""
    wire = wire or connection()
    wire.receive(data)
    pending = wire.next_request()
    assert pending is not None
    return pending


def refusal(data: bytes, wire: HttpConnection | None = None) -> tuple[int, bytes]:
    """The status of the refusal of these bytes, and what is sent for it."""
    pending = pending_in(data, wire)
    with pytest.raises(HttpError) as caught:
        _ = pending.head(), pending.body(BODY_MAX)
    return caught.value.status, b"".join(pending.respond(caught.value.response))


THREE = (
    b"GET /a?x=1 HTTP/1.1\r\n" + HOST + b"\r\n"
    b"POST /b HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\n\r\nhello"
    b"PUT /c HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
)
READ = [("GET", "/a", b""), ("POST", "/b", b"hello"), ("PUT", "/c", b"abcde")]


def seen(found: list[Request]) -> list[tuple[str, str, bytes]]:
    return [(each.method, each.path, each.body) for each in found]


# -- reading -------------------------------------------------------------------------------------------------


def test_requests_that_came_together_are_taken_one_by_one():
    wire = connection()
    assert seen(requests(wire, THREE)) == READ
    assert not wire.finished


def test_requests_are_the_same_byte_by_byte():
    assert seen(requests(connection(), *(THREE[n : n + 1] for n in range(len(THREE))))) == READ


@given(st.lists(st.integers(0, len(THREE)), max_size=8))
def test_requests_are_the_same_wherever_they_are_split(cuts):
    cuts = [0, *sorted(set(cuts) - {0, len(THREE)}), len(THREE)]
    assert seen(requests(connection(), *(THREE[a:b] for a, b in pairwise(cuts)))) == READ


def test_connection_ends_with_the_stream():
    wire = connection()
    assert requests(wire, b"GET / HTTP/1.1\r\n" + HOST + b"\r\n", b"")
    assert wire.finished


@pytest.mark.parametrize("size", [1, 20, len(THREE) - 70])
def test_half_a_request_at_the_end_of_the_stream_is_nobodys(size):
    wire = connection()
    requests(wire, THREE[:size], b"")
    assert wire.finished


def test_it_is_idle_between_requests():
    wire = connection()
    states = [wire.idle]
    wire.receive(b"GET / HTTP/1.1\r\n")
    assert wire.next_request() is None
    states.append(wire.idle)
    requests(wire, HOST + b"\r\n")
    states.append(wire.idle)
    assert states == [True, False, True]


@pytest.mark.parametrize(
    ("path", "segments"),
    [
        ("/", ("",)),
        ("/api/queues/%2F/q", ("api", "queues", "/", "q")),
        ("/api/queues/a%2fb/c", ("api", "queues", "a/b", "c")),
        ("/a//b/", ("a", "", "b", "")),
        ("/..%2f/%2e%2e/", ("../", "..", "")),
        ("/%C3%A9/+", ("é", "+")),
        ("*", ()),
        ("", ()),
    ],
)
def test_path_is_split_and_then_decoded(path, segments):
    assert split_path(path) == segments


@pytest.mark.parametrize("path", ["/%", "/%2", "/%zz", "/a%", "/%ff"])
def test_path_that_cannot_be_decoded_is_refused_and_the_connection_goes_on(path):
    wire = connection()
    status, answer = refusal(f"GET {path} HTTP/1.1\r\nHost: h\r\n\r\n".encode(), wire)
    assert status == 400
    assert b"Connection: close" not in answer
    assert seen(requests(wire, THREE)) == READ


def test_query_is_no_part_of_the_path():
    (request,) = requests(connection(), b"GET /a%3F?x=%2F&y&x=2 HTTP/1.1\r\n" + HOST + b"\r\n")
    assert request.segments == ("a?",)
    assert request.query == {"x": "2", "y": ""}


def test_host_of_an_absolute_target_counts():
    (request,) = requests(connection(), b"GET http://other:1/a?b HTTP/1.1\r\n" + HOST + b"\r\n")
    assert (request.headers["host"], request.path, request.query_text) == ("other:1", "/a", "b")


def test_headers_of_one_name_are_one_list():
    data = b"GET / HTTP/1.1\r\n" + HOST + b"X: a\r\nx: b,, c\r\n\r\n"
    (request,) = requests(connection(), data)
    assert request.listed("x") == ["a", "b", "c"]
    assert request.listed("y") == []


# -- credentials ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (b"Basic " + base64.b64encode(b"guest:pass:word"), ("guest", "pass:word")),
        (b"bAsIc  " + base64.b64encode("é:ü".encode()), ("é", "ü")),
        (b"Basic " + base64.b64encode(b":"), ("", "")),
        (b"Basic " + base64.b64encode(b"nothing"), None),
        (b"Basic " + base64.b64encode(b"\xff:\xff"), None),
        (b"Basic !!!", None),
        (b"Basic \xff\xff", None),
        (b"Bearer " + base64.b64encode(b"a:b"), None),
        (b"Basic", None),
    ],
)
def test_basic_credentials(header, expected):
    data = b"GET / HTTP/1.1\r\n" + HOST + b"Authorization: " + header + b"\r\n\r\n"
    (request,) = requests(connection(), data)
    assert request.credentials == expected


def test_representation_shows_no_credentials():
    secret = base64.b64encode(b"guest:swordfish").decode()
    line, length = "POST /?token=swordfish HTTP/1.1\r\nHost: h", "Content-Length: 9"
    data = f"{line}\r\nAuthorization: Basic {secret}\r\n{length}\r\n\r\n"
    (request,) = requests(connection(), data.encode() + b"swordfish")
    assert request.credentials == ("guest", "swordfish")
    assert secret not in repr(request)
    assert "swordfish" not in repr(request)


# -- refusing ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),  # TLS
        (b"AMQP\x00\x00\x09\x01\r\n\r\n", 400),
        (b"GET /\r\n\r\n", 400),  # HTTP/0.9
        (b"GET  / HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),  # no Host
        (b"GET / HTTP/1.1\r\n" + HOST + HOST + b"\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost : h\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + HOST + b"X: a\x00b\r\n\r\n", 400),
        (b"PRI * HTTP/2.0\r\n" + HOST + b"\r\nSM\r\n\r\n", 505),
        # what two programs could read in two ways: request smuggling
        (
            b"POST / HTTP/1.1\r\n"
            + HOST
            + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        (b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 4\r\nContent-Length: 5\r\n\r\nabcd", 400),
        (b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 4, 5\r\n\r\nabcd", 400),
        (b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: +4\r\n\r\nabcd", 400),
        (b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: -4\r\n\r\nabcd", 400),
        (b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 0x4\r\n\r\nabcd", 400),
        (b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: identity\r\n\r\nabcd", 501),
        (b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", 501),
        (b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 501),
        (b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n-1\r\nx\r\n0\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n1\r\nxyz0\r\n\r\n", 400),
        # sizes
        (b"GET /" + b"a" * 2000, 431),
        (b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b"a" * 2000, 431),
        (b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 1000001\r\n\r\n", 413),
        (b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 99999999999999999999\r\n\r\n", 413),
        (b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n65\r\n" + b"a" * 101, 413),
        (b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n1;" + b"a" * 2000, 431),
    ],
)
def test_refusals_end_the_connection(data, status):
    wire = connection()
    found, answer = refusal(data, wire)
    assert found == status
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert b"Connection: close\r\n" in answer
    assert wire.finished


@pytest.mark.parametrize(
    ("head", "body", "status"),
    [
        (b"GET /" + b"a" * 1000 + b" HTTP/1.1\r\n" + HOST, b"", 431),
        (b"GET / HTTP/1.1\r\n" + HOST + b"X: 1\r\n" * 20, b"", 431),
        (b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 101\r\n", b"a" * 101, 413),
        (b"POST /% HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\n", b"a" * 5, 400),
    ],
)
@pytest.mark.parametrize("together", [False, True])
def test_short_body_of_a_refused_request_is_skipped(head, body, status, together):
    wire = connection()
    found, answer = refusal(head + b"\r\n" + (body if together else b""), wire)
    assert found == status
    assert b"Connection: close" not in answer
    assert seen(requests(wire, (b"" if together else body) + THREE)) == READ


def test_large_body_is_returned_without_a_copy():
    size, piece = 4_000_000, 1 << 16
    wire = connection()
    pending = pending_in(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % size, wire)
    tracemalloc.start()
    try:
        for start in range(0, size, piece):
            assert pending.body(size) is None
            wire.receive(bytes(min(piece, size - start)))
        tracemalloc.reset_peak()
        body = pending.body(size)
        assert tracemalloc.get_traced_memory()[1] < 1.5 * size
    finally:
        tracemalloc.stop()
    assert body == bytes(size)


def test_stream_that_ends_in_a_refused_body_ends_the_connection():
    wire = connection()
    refusal(b"POST /% HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\n\r\nab", wire)
    assert not wire.finished
    assert requests(wire, b"") == []
    assert wire.finished


CHUNKED = b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(("came", "goes_on"), [(b"1\r\na\r\n0\r\n\r\n", True), (b"1\r\na\r\n", False)])
def test_chunked_body_of_a_refused_request_is_skipped_if_it_is_complete(came, goes_on):
    wire = connection()
    [answer] = pending_in(CHUNKED + came, wire).respond(HttpError(404).response)
    assert (b"Connection: close" not in answer) is goes_on
    assert wire.finished is not goes_on


def test_few_of_many_small_chunks_are_read_at_once():
    pending = pending_in(CHUNKED + 3 * PARTS * b"1\r\na\r\n" + b"0\r\n\r\n")
    for turn in range(1, 4):
        assert (pending.body(4 * PARTS), pending.unread, pending.received) == (None, True, turn * PARTS)
    assert (pending.body(4 * PARTS), pending.unread) == (3 * PARTS * b"a", False)


@pytest.mark.parametrize(("parts", "goes_on"), [(PARTS - 1, True), (PARTS + 1, False)])
def test_connection_of_a_refused_request_ends_if_its_body_has_many_chunks(parts, goes_on):
    wire = connection()
    body = parts * b"1\r\na\r\n" + b"0\r\n\r\n"
    [answer] = pending_in(CHUNKED + body, wire).respond(HttpError(404).response)
    assert (b"Connection: close" not in answer) is goes_on
    assert wire.finished is not goes_on


def test_body_behind_expect_100_continue_is_not_awaited_after_a_refusal():
    wire = connection()
    post = b"POST / HTTP/1.1\r\n" + HOST + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\n"
    [answer] = pending_in(post, wire).respond(HttpError(404).response)
    assert b"Connection: close" in answer
    assert b"100 Continue" not in answer
    assert wire.finished


def test_second_response_to_a_request_raises_runtime_error():
    pending = pending_in(THREE)
    pending.respond(Response())
    with pytest.raises(RuntimeError):
        pending.respond(Response())
    with pytest.raises(RuntimeError):
        pending.switch(())


def test_next_request_raises_runtime_error_before_the_response():
    wire = connection()
    pending = pending_in(THREE, wire)
    with pytest.raises(RuntimeError):
        wire.next_request()
    pending.body(0)
    pending.respond(Response())
    assert wire.next_request() is not None


def test_refusal_of_what_follows_a_head_request_has_a_body():
    wire = connection()
    requests(wire, b"HEAD / HTTP/1.1\r\n" + HOST + b"\r\n")
    assert refusal(b"nonsense\r\n\r\n", wire)[1].endswith(b"}")


def test_client_that_waits_to_be_asked_for_its_body_is_asked_once():
    wire = connection()
    post = b"POST / HTTP/1.1\r\n" + HOST + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\n"
    pending = pending_in(post, wire)
    assert pending.body(BODY_MAX) is None
    assert pending.take_continue() == b"HTTP/1.1 100 \r\n\r\n"
    assert pending.take_continue() is None
    wire.receive(b"hello")
    assert pending.body(BODY_MAX) == b"hello"


# -- answering -----------------------------------------------------------------------------------------------


def answered(response: Response, line: bytes = b"GET / HTTP/1.1") -> tuple[bytes, bool]:
    """What is sent for this response, and whether the connection goes on."""
    wire = connection()
    [data] = pending_in(line + b"\r\n" + HOST + b"\r\n", wire).respond(response)
    return data, not wire.finished


def test_response_has_length_and_type():
    assert answered(json_response({"a": 1}, 201)) == (
        b'HTTP/1.1 201 Created\r\nContent-Type: application/json\r\nContent-Length: 7\r\n\r\n{"a":1}',
        True,
    )


def test_answer_to_head_has_the_headers_only():
    data, goes_on = answered(Response(200, b"body"), b"HEAD / HTTP/1.1")
    assert b"Content-Length: 4\r\n" in data
    assert data.endswith(b"\r\n\r\n")
    assert goes_on


def test_refusal_of_head_has_the_headers_only():
    pending = pending_in(b"HEAD / HTTP/1.1\r\n" + HOST + b"\r\n")
    [answer] = pending.respond(HttpError(404).response)
    assert answer.endswith(b"\r\n\r\n")


def test_answer_without_content_has_no_length():
    assert answered(Response(204)) == (b"HTTP/1.1 204 No Content\r\n\r\n", True)


def test_client_of_http_1_0_is_answered_and_let_go():
    data, goes_on = answered(Response(200, b"x"), b"GET / HTTP/1.0")
    assert b"connection: close" in data.lower()
    assert not goes_on


def test_client_that_wants_to_go_is_let_go():
    wire = connection()
    requests(wire, b"GET / HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n")
    assert wire.finished


def test_switching_hands_on_what_has_come_in_the_other_protocol():
    wire = connection()
    get = b"GET / HTTP/1.1\r\n" + HOST + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    pending = pending_in(get + b"\x81\x80", wire)
    assert pending.body(0) == b""
    assert pending.switch((("Upgrade", "websocket"),)) == (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n",
        b"\x81\x80",
    )


def test_offer_to_switch_may_be_declined():
    wire = connection()
    upgrade = b"GET / HTTP/1.1\r\n" + HOST + b"Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
    assert len(requests(wire, upgrade + upgrade)) == 2
    assert not wire.finished


# -- who asks ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "loopback"),
    [(b"", True), (b"X-Forwarded-For: 192.0.2.1\r\n", False), (b"Forwarded: for=192.0.2.1\r\n", False)],
)
def test_client_of_a_proxy_on_this_machine_is_somewhere_else(header, loopback):
    wire = HttpConnection(HeadLimits(1000), loopback=True, host="127.0.0.1")
    (request,) = requests(wire, b"GET / HTTP/1.1\r\n" + HOST + header + b"\r\n")
    assert request.loopback is loopback
    assert request.host == "127.0.0.1"  # whom limits count for: no header gives a client another share


def test_upgrade_of_http_1_0_is_ignored():
    (request,) = requests(connection(), b"GET / HTTP/1.0\r\nUpgrade: websocket\r\n\r\n")
    assert "upgrade" not in request.headers


@pytest.mark.parametrize(
    "head",
    [b"GET / HTTP/1.1\r\nAuthorization : Basic c2VjcmV0\r\n\r\n", b"GET /?c2VjcmV0 \0 HTTP/1.1\r\n\r\n"],
)
def test_refusal_of_a_malformed_head_does_not_repeat_it(head):
    status, answer = refusal(head)
    assert status == 400
    assert b"illegal" in answer
    assert b"c2VjcmV0" not in answer


@pytest.mark.parametrize("complete", [True, False])
def test_an_answered_request_keeps_no_body(complete):
    """Its connection may stay open, for the next request or for a client that goes on sending."""
    pending = pending_in(
        b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 90\r\n\r\n" + bytes(90 if complete else 80)
    )
    assert (pending.body(BODY_MAX) is not None) is complete
    assert pending.received == (90 if complete else 80)
    pending.respond(Response(status=503))
    assert not pending._body.getvalue()
