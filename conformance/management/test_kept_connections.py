"""One HTTP connection through refusals: both brokers answer each request once, alike, and keep it open."""

import base64
import contextlib
import http.client
import random
from collections.abc import Iterator

import pytest

from conformance.management.sides import Side, leveret_side

GUEST, WRONG = "guest:guest", "guest:wrong"
TRIES = 10
# A few refused bodies of 500 kB, and RabbitMQ hangs up without an answer; leveret does not.
QUEUE = b'{"durable":false}'
REQUESTS: dict[str, tuple[str, str, str | None, bytes, dict[str, str]]] = {
    "good": ("GET", "/api/vhosts", GUEST, b"", {}),
    "head": ("HEAD", "/api/vhosts", GUEST, b"", {}),
    "put": ("PUT", "/api/queues/%2F/kept", GUEST, QUEUE, {}),
    "malformed": ("PUT", "/api/queues/%2F/kept2", GUEST, b"{", {}),
    "no login": ("GET", "/api/overview", None, b"", {}),
    "no login, body": ("PUT", "/api/queues/%2F/kept2", None, QUEUE, {}),
    "no login, long body": ("PUT", "/api/queues/%2F/kept2", None, bytes(10_000), {}),
    "wrong password": ("GET", "/api/overview", WRONG, b"", {}),
    "wrong password, body": ("PUT", "/api/queues/%2F/kept2", WRONG, QUEUE, {}),
    "no virtual host": ("GET", "/api/queues/nosuch", GUEST, b"", {}),
    "no queue": ("GET", "/api/queues/%2F/nosuch", GUEST, b"", {}),
    "no path": ("GET", "/api/nosuch", GUEST, b"", {"Accept": "*/*"}),
    "no method": ("DELETE", "/api/overview", GUEST, b"", {}),
    "root": ("GET", "/api", None, b"", {}),
    "root with a slash": ("GET", "/api/", None, b"", {}),
    "html": ("GET", "/api/overview", GUEST, b"", {"Accept": "text/html"}),
    "html, body": ("PUT", "/api/queues/%2F/kept2", GUEST, QUEUE, {"Accept": "text/html"}),
    "any json": ("GET", "/api/overview", GUEST, b"", {"Accept": "text/html, application/*;q=0.1"}),
    "browser": ("GET", "/api/queues/%2F/nosuch", GUEST, b"", {"Accept": "text/html,*/*;q=0.8"}),
}


@pytest.fixture(scope="module")
def leveret() -> Iterator[Side]:
    """leveret, without its limit for logins that fail: RabbitMQ has none."""
    with leveret_side("--set", "auth.failed_logins=0") as side:
        yield side


def answers(side: Side, kinds: list[str]) -> list[tuple[str, int, str | None, bool]]:
    """What each request on one connection is answered with: status, location, whether it is the last."""
    connection = http.client.HTTPConnection("127.0.0.1", side.http, timeout=10)
    told = []
    for kind in kinds:
        method, path, user, body, headers = REQUESTS[kind]
        if user is not None:
            token = base64.b64encode(user.encode()).decode()
            headers = {**headers, "Authorization": f"Basic {token}"}
        connection.request(method, path, body or None, headers)
        response = connection.getresponse()
        response.read()
        told.append((kind, response.status, response.getheader("location"), response.will_close))
    connection.close()
    return told


def recorded(rabbitmq: Side, kinds: list[str]) -> list[tuple[str, int, str | None, bool]]:
    """RabbitMQ's answers. It hangs up now and then when it refuses a request before it has read the body;
    then each request is asked on a connection of its own.
    """
    with contextlib.suppress(http.client.RemoteDisconnected, ConnectionError):
        return answers(rabbitmq, kinds)
    told = []
    for kind in kinds:
        for _ in range(TRIES):
            with contextlib.suppress(http.client.RemoteDisconnected, ConnectionError):
                told += answers(rabbitmq, [kind])
                break
        else:
            pytest.fail(f"RabbitMQ hung up on {kind!r} in {TRIES} of {TRIES} tries")
    return told


@pytest.mark.parametrize("seed", range(8))
def test_connection_goes_on_through_refusals(rabbitmq: Side, leveret: Side, seed: int) -> None:
    chosen = random.Random(seed)
    kinds = [*REQUESTS, *chosen.choices([*REQUESTS], k=30)]
    chosen.shuffle(kinds)
    for side in (rabbitmq, leveret):
        assert side.ask("PUT", "/queues/%2F/kept", {"durable": False}).status in (201, 204)
    assert answers(leveret, kinds) == recorded(rabbitmq, kinds)
