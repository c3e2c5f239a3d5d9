"""The API over a broker in memory, without HTTP: requests go to the routes, steps are taken as they come."""

import base64
import json
from dataclasses import dataclass
from itertools import chain
from urllib.parse import quote

from leveret.protocol.http import HttpError, Request, Response, split_path
from leveret.router.auth import SHA256, hash_password
from leveret.router.management.api import table
from leveret.router.management.call import ApiContext
from leveret.router.management.node import Listener, Measurements
from leveret.router.management.statistics.extra_statistics import BrokerStatistics
from leveret.router.management.statistics.latency import LatencyRecorder
from leveret.router.management.statistics.rates import Sampler
from leveret.router.web.response_steps import Wait
from leveret.router.web.routes import HttpRoutes
from tests.router.harness import Node

HASHES = {name: hash_password(name, "sha256") for name in ("admin", "mon", "pol", "mgmt", "plain")}
TAGS = {
    "admin": ["administrator"],
    "mon": ["monitoring"],
    "pol": ["policymaker"],
    "mgmt": ["management"],
    "plain": [],
}
assert SHA256


class FakeNode:
    name, version, pid, processors = "leveret@test", "0", 1, 2
    cluster = None

    def measured(self):
        return Measurements(1000, 10_000, 5000, 100, 7, 1024, 3)

    def freed_memory(self):
        return 0

    def listeners(self):
        return [Listener("amqp", "127.0.0.1", 5672), Listener("http", "127.0.0.1", 15672)]

    def uptime(self):
        return 42


@dataclass(frozen=True)
class Told:
    """A response; ``json`` is its body, ``pauses`` how often others could run before it came."""

    status: int
    json: object
    headers: dict
    pauses: int = 0


class Api:
    """``node`` has the broker. Users are called as in ``TAGS``, each with its name as password."""

    def __init__(self, node=None, **settings):
        self.node = node or Node(**settings)
        self.broker = self.node.broker
        self.broker.wall = 1_700_000_000
        self.vhost = self.node.vhost
        self.sampler = Sampler(self.broker)
        self.statistics = BrokerStatistics(self.broker, LatencyRecorder)
        self.context = ApiContext(self.broker, FakeNode(), self.sampler, self.statistics)
        self.routes = HttpRoutes(table(self.context))
        for name, tags in TAGS.items():
            self.broker.users.add(name, HASHES[name], tags)
        self.broker.users["admin"].permit("/", configure=".*", write=".*", read=".*")

    def request(self, method, path, body, user, headers=None):
        if user is not None:
            token = base64.b64encode(f"{user}:{user}".encode()).decode()
            headers = {"authorization": f"Basic {token}", **(headers or {})}
        path, _, query = path.partition("?")
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        return Request(method, path, split_path(path), query, headers or {}, data, loopback=True)

    def ask(self, method, path, body=None, *, user="admin", headers=None, waits=None, between=None):
        """The response to a request below /api, with all its steps taken. ``waits`` gets the seconds that it
        asks for, ``between`` is called before each step but the first with their number.
        """
        pauses = 0
        try:
            request = self.request(method, f"/api{path}", body, user, headers)
            answer = self.routes.find(request)(request)
            self.node.settle()
            while not isinstance(answer, Response):
                try:
                    step = next(answer)
                except StopIteration as end:
                    answer = end.value
                    break
                finally:
                    self.node.settle()
                pauses += 1
                if waits is not None:
                    waits.append(step)
                if between is not None:
                    between(pauses)
                assert not isinstance(step, Wait) or step.done, "it waits for something"
        except HttpError as error:
            answer = error.response
        self.node.settle()
        body = b"".join((answer.body, *answer.parts))
        told = json.loads(body) if body else None
        return Told(answer.status, told, dict(answer.headers), pauses)

    def get(self, path, user="admin"):
        """Return the JSON at a path, whose status must be 200."""
        told = self.ask("GET", path, user=user)
        assert told.status == 200, told
        return told.json

    def sample(self):
        """Have the sampler look once."""
        for _ in chain(self.sampler.sample(), self.statistics.sample()):
            pass


def name(text):
    """A name as a segment of a path."""
    return quote(text, safe="")
