"""Who may ask what of the management API: every verb of every path, asked by users with every tag.

Owns the requests, the users, and how RabbitMQ's verdicts are kept. They stand in ``golden/``; ``python -m
conformance.management.tags --record`` asks a RabbitMQ and writes them down.

A verdict is the status of the answer, for 401 with the reason. Each user exists twice: with all permissions
in the virtual host ``v``, and with none there. What a request has changed is put right before the next one.
"""

import argparse
import json
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, TypeAlias

import pika
import pika.exceptions

from conformance.differential.golden import DIRECTORY, versions
from conformance.management.sides import Side, rabbitmq_side, segment

FILE = "management-tags.json"
TAGS = ("", "management", "policymaker", "monitoring", "administrator", "impersonator")
METHODS = ("GET", "PUT", "POST", "DELETE")
WAIT = 20.0  # seconds until the API must know of a connection

# Path -> bodies by method. ``{node}``, ``{connection}`` (of guest) and ``{own}`` (of the user) are filled in.
PATHS: dict[str, dict[str, Any]] = {
    "/overview": {},
    "/cluster-name": {"PUT": {"name": "tags"}},
    "/whoami": {},
    "/auth": {},
    "/extensions": {},
    "/feature-flags": {},
    "/feature-flags/quorum_queue/enable": {"PUT": {"name": "quorum_queue"}},
    "/rebalance/queues": {"POST": {}},
    "/reset": {},
    "/reset/{node}": {},
    "/nodes": {},
    "/nodes/{node}": {},
    "/nodes/{node}/memory": {},
    "/nodes/{node}/memory/relative": {},
    "/auth/attempts/{node}": {},
    "/auth/attempts/{node}/source": {},
    "/vhosts": {},
    "/vhosts/v": {"PUT": {}},
    "/vhosts/gone": {"PUT": {}},
    "/vhosts/v/start/{node}": {"POST": {}},
    "/vhosts/v/permissions": {},
    "/vhosts/v/topic-permissions": {},
    "/vhosts/v/connections": {},
    "/vhosts/v/channels": {},
    "/vhost-limits": {},
    "/vhost-limits/v": {},
    "/vhost-limits/v/max-queues": {"PUT": {"value": 1000}},
    "/user-limits": {},
    "/user-limits/victim": {},
    "/user-limits/victim/max-channels": {"PUT": {"value": 1000}},
    "/users": {},
    "/users/without-permissions": {},
    "/users/bulk-delete": {"POST": {"users": ["victim"]}},
    "/users/victim": {"PUT": {"password": "pw", "tags": ""}},
    "/users/victim/permissions": {},
    "/users/victim/topic-permissions": {},
    "/permissions": {},
    "/permissions/v/victim": {"PUT": {"configure": ".*", "write": ".*", "read": ".*"}},
    "/topic-permissions": {},
    "/topic-permissions/v/victim": {"PUT": {"exchange": "amq.topic", "write": ".*", "read": ".*"}},
    "/policies": {},
    "/policies/v": {},
    "/policies/v/p": {"PUT": {"pattern": "^p$", "definition": {"max-length": 10}}},
    "/operator-policies": {},
    "/operator-policies/v": {},
    "/operator-policies/v/p": {"PUT": {"pattern": "^p$", "definition": {"max-length": 10}}},
    "/parameters": {},
    "/parameters/policy": {},
    "/parameters/policy/v": {},
    "/parameters/policy/v/p": {"PUT": {"value": {"pattern": "^p$", "definition": {"max-length": 10}}}},
    "/parameters/vhost-limits/v/limits": {"PUT": {"value": {"max-queues": 1000}}},
    "/parameters/operator_policy/v/p": {
        "PUT": {"value": {"pattern": "^p$", "definition": {"max-length": 10}}}
    },
    "/global-parameters": {},
    "/global-parameters/g": {"PUT": {"value": 1}},
    "/definitions": {"POST": {}},
    "/definitions/v": {"POST": {}},
    "/all-configuration": {"POST": {}},
    "/connections": {},
    "/connections/{connection}": {},
    "/connections/{connection}/channels": {},
    "/connections/{own}": {},
    "/connections/{own}/channels": {},
    "/connections/username/victim": {},
    "/channels": {},
    "/channels/{connection}%20(1)": {},
    "/channels/{own}%20(1)": {},
    "/consumers": {},
    "/consumers/v": {},
    "/exchanges": {},
    "/exchanges/v": {},
    "/exchanges/v/e": {"PUT": {"type": "direct"}},
    "/exchanges/v/e/bindings/source": {},
    "/exchanges/v/e/bindings/destination": {},
    "/exchanges/v/e/publish": {
        "POST": {"properties": {}, "routing_key": "k", "payload": "x", "payload_encoding": "string"}
    },
    "/exchanges/v//publish": {
        "POST": {"properties": {}, "routing_key": "k", "payload": "x", "payload_encoding": "string"}
    },
    "/queues": {},
    "/queues/v": {},
    "/queues/v/q": {"PUT": {}},
    "/queues/v/q/bindings": {},
    "/queues/v/q/contents": {},
    "/queues/v/q/actions": {"POST": {"action": "sync"}},
    "/queues/v/q/get": {"POST": {"count": 1, "ackmode": "ack_requeue_true", "encoding": "auto"}},
    "/bindings": {},
    "/bindings/v": {},
    "/bindings/v/e/e/q/q": {"POST": {"routing_key": "k", "arguments": {}}},
    "/bindings/v/e/e/q/q/k": {},
    "/healthchecks/node": {},
    "/healthchecks/node/{node}": {},
    "/health/checks/alarms": {},
    "/health/checks/local-alarms": {},
    "/health/checks/virtual-hosts": {},
    "/health/checks/node-is-mirror-sync-critical": {},
    "/health/checks/node-is-quorum-critical": {},
    "/health/checks/port-listener/1": {},
    "/health/checks/protocol-listener/amqp": {},
    "/health/checks/certificate-expiration/1/days": {},
    "/aliveness-test/v": {},
}
ALL = {"configure": ".*", "write": ".*", "read": ".*"}
# What is there before each request.
PREPARED: tuple[tuple[str, str, Any], ...] = (
    ("PUT", "/cluster-name", {"name": "tags"}),
    ("PUT", "/vhosts/v", {}),
    ("PUT", "/vhosts/gone", {}),
    ("PUT", "/permissions/v/guest", ALL),
    ("PUT", "/users/victim", {"password": "pw", "tags": ""}),
    ("PUT", "/permissions/v/victim", ALL),
    ("PUT", "/topic-permissions/v/victim", {"exchange": "amq.topic", "write": ".*", "read": ".*"}),
    ("PUT", "/vhost-limits/v/max-queues", {"value": 1000}),
    ("PUT", "/user-limits/victim/max-channels", {"value": 1000}),
    ("PUT", "/queues/v/q", {}),
    ("PUT", "/exchanges/v/e", {"type": "direct"}),
    ("POST", "/bindings/v/e/e/q/q", {"routing_key": "k", "arguments": {}}),
    ("PUT", "/policies/v/p", {"pattern": "^p$", "definition": {"max-length": 10}}),
    ("PUT", "/operator-policies/v/p", {"pattern": "^p$", "definition": {"max-length": 10}}),
    ("PUT", "/global-parameters/g", {"value": 1}),
)

Verdicts: TypeAlias = dict[str, dict[str, str]]  # by "METHOD path", by user


def users() -> Iterator[tuple[str, str, bool]]:
    """Name, tag, and whether it has permissions in the virtual host."""
    for tag in TAGS:
        for permitted in (False, True):
            yield f"{tag or 'none'}{' in v' if permitted else ''}", tag, permitted


class Scene:
    """The users and objects of one broker, and an open connection of anybody who needs one."""

    def __init__(self, side: Side) -> None:
        self._side = side
        self._node = side.get("/overview")["node"]
        self._connections: dict[str, tuple[pika.BlockingConnection, str]] = {}
        self._do("PUT", "/vhosts/v", {})
        for name, tag, _ in users():
            self._do("PUT", f"/users/{segment(name)}", {"password": "pw", "tags": tag})
            self._do("PUT", f"/permissions/%2F/{segment(name)}", ALL)  # to connect
        self._prepare()

    def close(self) -> None:
        for connection, _ in self._connections.values():
            with suppress(pika.exceptions.AMQPError):
                connection.close()

    def verdict(self, method: str, path: str, user: str) -> str:
        """What a user is told who asks."""
        filled = path.replace("{node}", self._node)
        if "{connection}" in path:
            filled = filled.replace("{connection}", segment(self._connection("guest", "guest")))
        if "{own}" in path:
            filled = filled.replace("{own}", segment(self._connection(user, "pw")))
        body = PATHS[path].get(method)
        told = self._side.ask(method, filled, body, f"{user}:pw")
        if method != "GET" and told.status < 300:
            for name, (connection, _) in list(self._connections.items()):
                if "connections" in path:
                    with suppress(pika.exceptions.AMQPError):
                        connection.close()
                    del self._connections[name]
            self._prepare()
        return f"401 {told.body['reason']}" if told.status == 401 else str(told.status)

    def _do(self, method: str, path: str, body: Any) -> None:
        told = self._side.ask(method, path, body)
        assert told.status < 300, (self._side.name, method, path, told)

    def _prepare(self) -> None:
        for method, path, body in PREPARED:
            self._do(method, path, body)
        for name, _, permitted in users():
            if permitted:
                self._do("PUT", f"/permissions/v/{segment(name)}", ALL)

    def _connection(self, user: str, password: str) -> str:
        """The name of an open connection of a user, with one channel, that the API knows."""
        found = self._connections.get(user)
        if found is not None:
            found[0].process_data_events(0)
            return found[1]
        credentials = pika.PlainCredentials(user, password)
        connection = pika.BlockingConnection(
            pika.ConnectionParameters("127.0.0.1", self._side.amqp, "/", credentials)
        )
        connection.channel()
        deadline = time.monotonic() + WAIT
        while not (names := self._channels(user)):
            assert time.monotonic() < deadline, f"{self._side.name}: the API knows of no connection of {user}"
            time.sleep(0.1)
        self._connections[user] = connection, names[0]
        return names[0]

    def _channels(self, user: str) -> list[str]:
        """The names of a user's connections whose channels are known."""
        return [
            channel["connection_details"]["name"]
            for channel in self._side.get("/channels")
            if channel.get("user") == user and isinstance(channel.get("connection_details"), dict)
        ]


def verdicts_of(side: Side) -> Verdicts:
    """What a broker tells whom."""
    scene = Scene(side)
    try:
        return {
            f"{method} {path}": {name: scene.verdict(method, path, name) for name, _, _ in users()}
            for path in PATHS
            for method in METHODS
        }
    finally:
        scene.close()


def read(version: str | None = None) -> Verdicts:
    """The recorded verdicts of a version, or of the newest."""
    found: Verdicts = json.loads((DIRECTORY / (version or versions()[-1]) / FILE).read_text())
    return found


def record() -> None:
    """Ask a RabbitMQ and write down its verdicts."""
    with rabbitmq_side() as side:
        version = f"rabbitmq-{side.get('/overview')['rabbitmq_version']}"
        verdicts = verdicts_of(side)
    path = DIRECTORY / version / FILE
    path.write_text(json.dumps(verdicts, indent=1, sort_keys=True) + "\n")
    print(f"the verdicts on {len(verdicts)} requests by {version} are in {path}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m conformance.management.tags", description=__doc__)
    parser.add_argument("--record", action="store_true", required=True, help="write down RabbitMQ's verdicts")
    parser.parse_args()
    record()
