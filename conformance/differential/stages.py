"""The two brokers, each ready for scenarios: with the plugins, users and virtual hosts that they need.

Both get a virtual host with what a scenario needs in it when it is about to be played, through the management
API, and lose it afterwards.
"""

import base64
import contextlib
import json
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from urllib.parse import quote

from conformance import brokers
from conformance.differential.play import Needs, Policy, Scenario, Stage
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
EVERYTHING = (".*", ".*", ".*")
Prepare = Callable[[str, Needs], Callable[[], None]]  # (virtual host, needs) -> what clears it away


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
            f"rabbitmq-{version}",
            ("127.0.0.1", node.port),
            ("127.0.0.1", ports["rabbitmq_stomp"]),
            web,
            api,
        )
        yield stage, api.prepare


@contextlib.contextmanager
def leveret(scenarios: Sequence[Scenario], data: str = ":memory:") -> Iterator[tuple[Stage, Prepare]]:
    """A leveret that keeps nothing unless it has a ``data`` directory, and users for all scenarios. It hashes
    passwords quickly, for there are hundreds of logins, some of which fail.
    """
    (port,) = free_ports(1)
    arguments = ("--stomp", f"127.0.0.1:{port}", "--log-level", "warning")
    arguments += ("--set", "auth.failed_logins=0", "--set", "auth.password_hash=sha256")
    with brokers.leveret(data, arguments=arguments) as broker:
        assert broker.http_port is not None
        api = Management(broker.http_port)
        for user in users(scenarios):
            api.put(("users", user), {"password": "guest", "tags": ""})
        web = ("127.0.0.1", broker.http_port)
        yield Stage("leveret", (broker.host, broker.port), ("127.0.0.1", port), web, api), api.prepare


def users(scenarios: Sequence[Scenario]) -> list[str]:
    """Everybody but guest that a scenario wants."""
    wanted = {
        name
        for each in scenarios
        for name in (*each.needs.permissions, *each.needs.topic_permissions)
        if name != "guest"
    }
    return sorted(wanted)


def as_policy(policy: Policy) -> dict[str, Any]:
    """A policy as both brokers take it; a fourth part is its priority."""
    pattern, definition, apply_to, *priority = policy
    return {
        "pattern": pattern,
        "definition": definition,
        "apply-to": apply_to,
        "priority": priority[0] if priority else 0,
    }


class Management:
    """The management API of either, as guest."""

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

    def request(self, method: str, path: Sequence[str], body: Any = None) -> str:
        """Ask, and return the status with the reason of a refusal."""
        try:
            self._ask(method, path, body)
        except urllib.error.HTTPError as refused:
            with refused:
                told = json.loads(refused.read() or b"{}")
            return f"{refused.code} {told.get('reason')}"
        return "done"

    def set_policy(self, vhost: str, name: str, policy: Policy) -> None:
        self.put(("policies", vhost, name), as_policy(policy))

    def clear_policy(self, vhost: str, name: str) -> None:
        self._ask("DELETE", ("policies", vhost, name))

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
            self.set_policy(vhost, name, policy)
        return lambda: void(self._ask("DELETE", ("vhosts", vhost)))


def void(_: object) -> None:
    """Forget a result."""
