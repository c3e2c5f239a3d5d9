"""A broker with its management API, and what the tests ask of that."""

import base64
import contextlib
import json
import urllib.error
import urllib.request
from ast import literal_eval
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import pika
import pytest

from conformance import brokers
from conformance.rabbitmq import RabbitMQ, free_ports
from tests.tools import need

WAIT = 10.0  # seconds until what must come counts as missing
ALL = {"configure": ".*", "write": ".*", "read": ".*"}


@dataclass(frozen=True)
class Managed:
    """A running broker. ``user`` of most calls is an AMQP user's name and its password too."""

    name: str
    port: int
    http_port: int
    stomp_port: int = 0

    def call(self, method: str, *path: str, body: object = None) -> tuple[int, Any]:
        """Call the API as guest; the status, and the JSON that was answered."""
        url = f"http://127.0.0.1:{self.http_port}/api/" + "/".join(quote(part, "") for part in path)
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(url, data, method=method)
        request.add_header("Authorization", "Basic " + base64.b64encode(b"guest:guest").decode())
        request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=WAIT) as answer:
                text, status = answer.read(), answer.status
        except urllib.error.HTTPError as error:
            text, status = error.read(), error.code
        return status, json.loads(text) if text else None

    def do(self, method: str, *path: str, body: object = None) -> Any:
        """Call the API, which must succeed; what was answered."""
        status, answer = self.call(method, *path, body=body)
        assert status < 300, (method, path, status, answer)
        return answer

    def user(self, name: str, vhost: str, **rights: str) -> None:
        """Make a user with these rights in a virtual host, none where none are named."""
        self.do("PUT", "users", name, body={"password": name, "tags": ""})
        self.permit(name, vhost, **rights)

    def permit(self, name: str, vhost: str, **rights: str) -> None:
        patterns = {"configure": "", "write": "", "read": "", **rights}
        self.do("PUT", "permissions", vhost, name, body=patterns)

    def connect(self, user: str, vhost: str, password: str | None = None) -> pika.BlockingConnection:
        credentials = pika.PlainCredentials(user, user if password is None else password)
        return pika.BlockingConnection(
            pika.ConnectionParameters(
                "127.0.0.1", self.port, vhost, credentials, socket_timeout=WAIT, stack_timeout=2 * WAIT
            )
        )


@pytest.fixture(scope="session")
def managed(request: pytest.FixtureRequest) -> Iterator[Managed]:
    """The broker under test with its API, started once."""
    what = request.config.getoption("--broker")
    if what == "rabbitmq":
        with RabbitMQ(["rabbitmq_management", "rabbitmq_stomp"]) as node:
            ports = node.plugin_ports
            yield Managed("rabbitmq", node.port, ports["rabbitmq_management"], ports["rabbitmq_stomp"])
    elif what == "leveret":
        (port,) = free_ports(1)
        quick = ("--set", "auth.password_hash=sha256")  # each test makes a user who logs in
        with brokers.leveret(arguments=("--stomp", f"127.0.0.1:{port}", *quick)) as broker:
            assert broker.http_port is not None
            yield Managed("leveret", broker.port, broker.http_port, port)
    else:
        pytest.skip("these tests need the management API as guest")


@pytest.fixture(scope="session")
def rabbitmq() -> Iterator[Managed]:
    """A real RabbitMQ, whatever is under test."""
    need("rabbitmq")
    with RabbitMQ(["rabbitmq_management"]) as node:
        yield Managed("rabbitmq", node.port, node.plugin_ports["rabbitmq_management"])


@pytest.fixture
def vhost(managed: Managed, unique: str) -> Iterator[str]:
    """A virtual host of the test's own, open to guest."""
    managed.do("PUT", "vhosts", unique, body={})
    managed.permit("guest", unique, **ALL)
    yield unique
    managed.call("DELETE", "vhosts", unique)


@pytest.fixture
def guest(managed: Managed, vhost: str) -> Iterator[pika.BlockingConnection]:
    """guest's connection to that virtual host."""
    connection = managed.connect("guest", vhost)
    yield connection
    with contextlib.suppress(pika.exceptions.AMQPError):
        connection.close()


@pytest.fixture
def user(managed: Managed, unique: str, vhost: str) -> Iterator[str]:
    """A user with all rights in it; the password is the name."""
    managed.user(unique, vhost, **ALL)
    yield unique
    managed.call("DELETE", "users", unique)


def refusal(action: Callable[[], object]) -> tuple[int, str] | None:
    """What a channel or connection is closed with on account of this; None when it is not."""
    try:
        action()
    except (pika.exceptions.ChannelClosedByBroker, pika.exceptions.ConnectionClosedByBroker) as error:
        return error.reply_code, error.reply_text
    except (
        pika.exceptions.ProbableAccessDeniedError,
        pika.exceptions.ProbableAuthenticationError,
    ) as error:
        told: Any = error.args[0] if error.args else error
        closed = told if isinstance(told, pika.exceptions.ConnectionClosedByBroker) else None
        return (closed.reply_code, closed.reply_text) if closed else _parsed(str(error))
    return None


def _parsed(text: str) -> tuple[int, str]:
    code, _, told = text.partition("(")[2].partition(") ")
    return int(code), literal_eval(told)
