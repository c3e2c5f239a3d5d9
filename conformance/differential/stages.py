"""The two brokers, each ready for scenarios: with the plugins, users and virtual hosts that they need.

RabbitMQ gets a virtual host when a scenario is about to be played, through its management plugin; leveret
gets all of them from a definitions file at its start.
"""

import base64
import contextlib
import hashlib
import json
import tempfile
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from conformance import brokers
from conformance.differential.play import Needs, Scenario, Stage
from conformance.rabbitmq import RabbitMQ, free_ports

PLUGINS = (
    "rabbitmq_management",
    "rabbitmq_stomp",
    "rabbitmq_web_stomp",
    "rabbitmq_consistent_hash_exchange",
    "rabbitmq_sharding",
    "rabbitmq_random_exchange",
    "rabbitmq_recent_history_exchange",
)
ATTEMPTS = 4  # how often a scenario may be played to one broker
PASSWORD = {  # "guest" in the form that is quick to check: there are hundreds of logins
    "password_hash": base64.b64encode(b"salt" + hashlib.sha256(b"saltguest").digest()).decode(),
    "hashing_algorithm": "rabbit_password_hashing_sha256",
}
EVERYTHING = (".*", ".*", ".*")
Prepare = Callable[[str, Needs], Callable[[], None]]  # (virtual host, needs) -> what clears it away


def vhost_of(number: int, attempt: int) -> str:
    """The virtual host of a scenario, by its place in the list; all names are equally long."""
    return f"vhost-{number:04}-{attempt}"


@contextlib.contextmanager
def rabbitmq(scenarios: Sequence[Scenario]) -> Iterator[tuple[Stage, Prepare]]:
    """A private RabbitMQ with its plugins, and users for all scenarios."""
    with RabbitMQ(PLUGINS) as node:
        ports = node.plugin_ports
        api = Management(ports["rabbitmq_management"])
        for user in users(scenarios):
            api.put(("users", user), {"password": "guest", "tags": ""})
        version = api.get(("overview",))["rabbitmq_version"]
        web = ("127.0.0.1", ports["rabbitmq_web_stomp"])
        stage = Stage(
            f"rabbitmq-{version}", ("127.0.0.1", node.port), ("127.0.0.1", ports["rabbitmq_stomp"]), web
        )
        yield stage, api.prepare


@contextlib.contextmanager
def leveret(scenarios: Sequence[Scenario]) -> Iterator[tuple[Stage, Prepare]]:
    """A leveret that keeps nothing."""
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory, "definitions.json")
        file.write_text(json.dumps(definitions(scenarios)))
        (port,) = free_ports(1)
        arguments = ("--stomp", f"127.0.0.1:{port}", "--definitions", str(file), "--log-level", "warning")
        arguments += ("--set", "auth.failed_logins=0")  # scenarios fail at it often enough
        with brokers.leveret(arguments=arguments) as broker:
            assert broker.http_port is not None
            web = ("127.0.0.1", broker.http_port)
            stage = Stage("leveret", (broker.host, broker.port), ("127.0.0.1", port), web)
            yield stage, lambda vhost, needs: lambda: None


def users(scenarios: Sequence[Scenario]) -> list[str]:
    """Everybody but guest that a scenario wants."""
    wanted = {
        name
        for each in scenarios
        for name in (*each.needs.permissions, *each.needs.topic_permissions)
        if name != "guest"
    }
    return sorted(wanted)


def definitions(scenarios: Sequence[Scenario]) -> dict[str, Any]:
    """What leveret is started with, in RabbitMQ's format."""
    document: dict[str, Any] = {
        "users": [
            {"name": name, "tags": "administrator" if name == "guest" else "", **PASSWORD}
            for name in ("guest", *users(scenarios))
        ],
        "vhosts": [{"name": "/"}],
        "permissions": [
            {"user": "guest", "vhost": "/", **dict.fromkeys(("configure", "write", "read"), ".*")}
        ],
        "topic_permissions": [],
        "policies": [],
    }
    for number, each in enumerate(scenarios):
        for vhost in (vhost_of(number, attempt) for attempt in range(ATTEMPTS)):
            where = {"vhost": vhost}
            document["vhosts"].append({"name": vhost})
            for user, allowed in {"guest": EVERYTHING, **each.needs.permissions}.items():
                permission = dict(zip(("configure", "write", "read"), allowed, strict=True))
                document["permissions"].append({"user": user, **permission, **where})
            for user, allowed in each.needs.topic_permissions.items():
                permission = dict(zip(("exchange", "write", "read"), allowed, strict=True))
                document["topic_permissions"].append({"user": user, **permission, **where})
            for name, policy in each.needs.policies.items():
                document["policies"].append({"name": name, **as_policy(policy), **where})
    return document


def as_policy(policy: tuple[Any, ...]) -> dict[str, Any]:
    """A policy as both brokers take it; a fourth part is its priority."""
    pattern, definition, apply_to, *priority = policy
    return {
        "pattern": pattern,
        "definition": definition,
        "apply-to": apply_to,
        "priority": priority[0] if priority else 0,
    }


class Management:
    """RabbitMQ's management API, as guest."""

    def __init__(self, port: int) -> None:
        self._base = f"http://127.0.0.1:{port}/api/"
        login = base64.b64encode(b"guest:guest").decode()
        self._headers = {"authorization": f"Basic {login}", "content-type": "application/json"}

    def put(self, path: Sequence[str], body: Any) -> None:
        self._ask("PUT", path, body)

    def get(self, path: Sequence[str]) -> Any:
        return json.loads(self._ask("GET", path))

    def _ask(self, method: str, path: Sequence[str], body: Any = None) -> bytes:
        url = self._base + "/".join(quote(part, "") for part in path)
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(url, data, self._headers, method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return bytes(answer.read())

    def prepare(self, vhost: str, needs: Needs) -> Callable[[], None]:
        """Make a virtual host; the result deletes it with all that is in it."""
        self.put(("vhosts", vhost), {})
        for user, allowed in {"guest": EVERYTHING, **needs.permissions}.items():
            permission = dict(zip(("configure", "write", "read"), allowed, strict=True))
            self.put(("permissions", vhost, user), permission)
        for user, allowed in needs.topic_permissions.items():
            permission = dict(zip(("exchange", "write", "read"), allowed, strict=True))
            self.put(("topic-permissions", vhost, user), permission)
        for name, policy in needs.policies.items():
            self.put(("policies", vhost, name), as_policy(policy))
        return lambda: void(self._ask("DELETE", ("vhosts", vhost)))


def void(_: object) -> None:
    """Forget a result."""
