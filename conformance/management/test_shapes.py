"""Whatever RabbitMQ's API tells, leveret's tells under the same name and with the same type.

``ABSENT`` has what leveret does not tell and why. ``test_recorded_shapes`` compares without a RabbitMQ.
"""

import re
from typing import Any

import pytest

from conformance.management.scene import Scene
from conformance.management.sides import segment

ABSENT: dict[str, str] = {}
# What is not compared inside: names there are a node's own, or there is no past of what is not counted.
INNER = (
    "memory",
    "socket_opts",
    "cluster_state",
    "contexts",
    "applications",
    "open_files",
    "readers",
    "disk_reads_details",
    "disk_writes_details",
)
PATHS = [
    "/overview",
    "/overview?lengths_age=60&lengths_incr=5&msg_rates_age=60&msg_rates_incr=5",
    "/cluster-name",
    "/definitions",
    "/definitions/%2F",
    "/nodes",
    "/connections",
    "/connections?page=1&page_size=10",
    "/connections/username/guest",
    "/channels",
    "/channels?page=1&page_size=1",
    "/consumers",
    "/consumers/%2F",
    "/exchanges",
    "/exchanges/%2F",
    "/exchanges/%2F/scene.topic",
    "/exchanges/%2F/amq.default",
    "/exchanges/%2F/scene.topic?msg_rates_age=60&msg_rates_incr=5",
    "/exchanges/%2F/scene.topic/bindings/source",
    "/exchanges/%2F/amq.fanout/bindings/destination",
    "/queues",
    "/queues/%2F",
    "/queues?page=1&page_size=2&name=scene",
    "/queues?page=1&page_size=3&name=^scene&use_regex=true&sort=name&sort_reverse=true",
    "/queues?columns=name,messages&sort=name",
    "/queues/%2F/scene.work",
    "/queues/%2F/scene.work?lengths_age=60&lengths_incr=5&msg_rates_age=60&msg_rates_incr=5",
    "/queues/%2F/scene.busy",
    "/queues/%2F/scene.own",
    "/queues/%2F/scene.quorum",
    "/queues/%2F/scene.work/bindings",
    "/bindings",
    "/bindings/%2F",
    "/bindings/%2F/e/scene.topic/q/scene.work",
    "/bindings/%2F/e/scene.topic/e/amq.fanout",
    "/vhosts",
    "/vhosts/%2F",
    "/vhosts/%2F/permissions",
    "/vhosts/%2F/topic-permissions",
    "/vhosts/%2F/connections",
    "/vhosts/%2F/channels",
    "/users",
    "/users/guest",
    "/users/guest/permissions",
    "/users/without-permissions",
    "/permissions",
    "/permissions/%2F/guest",
    "/topic-permissions",
    "/policies",
    "/operator-policies",
    "/parameters",
    "/vhost-limits",
    "/user-limits",
    "/whoami",
    "/auth",
    "/aliveness-test/%2F",
    "/healthchecks/node",
    "/health/checks/alarms",
    "/health/checks/local-alarms",
    "/health/checks/virtual-hosts",
    "/health/checks/node-is-mirror-sync-critical",
    "/health/checks/node-is-quorum-critical",
    "/health/checks/certificate-expiration/1/weeks",
    "/health/checks/protocol-listener/amqp",
]


def kind(value: Any) -> str:
    """The type of a JSON value; whole and other numbers are one."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return "number" if number else type(value).__name__


def differences(theirs: Any, ours: Any, path: str = "") -> list[str]:
    """What of RabbitMQ's value leveret's does not have, or has as another type."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        found = []
        for name, value in theirs.items():
            if name in ABSENT:
                continue
            if name not in ours:
                found.append(f"{path}.{name} is missing")
            elif name not in INNER:
                found += differences(value, ours[name], f"{path}.{name}")
        return found
    if isinstance(theirs, list) and isinstance(ours, list):
        return [each for pair in pairs(theirs, ours) for each in differences(*pair, f"{path}[]")]
    return [] if kind(theirs) == kind(ours) else [f"{path} is {kind(ours)}, not {kind(theirs)}"]


def pairs(theirs: list[Any], ours: list[Any]) -> list[tuple[Any, Any]]:
    """Objects of the same name, or else at the same place."""
    named = {identity(item): item for item in ours if identity(item) is not None}
    return [
        (item, named.get(identity(item), ours[min(index, len(ours) - 1)]))
        for index, item in enumerate(theirs)
        if ours and (identity(item) is None or identity(item) in named or not named)
    ]


def identity(item: Any) -> str | None:
    """What tells an object from its neighbours."""
    if not isinstance(item, dict):
        return None
    for name in ("properties_key", "consumer_tag", "name"):
        if isinstance(item.get(name), str):
            return f"{item.get('source')}{item[name]}"
    return None


@pytest.mark.parametrize("path", PATHS)
def test_answer_has_the_same_shape(scenes: tuple[Scene, Scene], path: str) -> None:
    theirs, ours = (scene.side.get(path) for scene in scenes)
    assert differences(theirs, ours) == []


@pytest.mark.parametrize("what", ["connections", "channels"])
def test_one_connection_and_one_channel_have_the_same_shape(scenes: tuple[Scene, Scene], what: str) -> None:
    theirs, ours = (
        [scene.side.get(f"/{what}/{segment(each['name'])}") for each in scene.side.get(f"/{what}")]
        for scene in scenes
    )
    assert len(theirs) == len(ours) > 0
    for one, other in zip(theirs, ours, strict=True):
        assert differences(one, other) == []


def test_connections_and_channels_are_called_alike(scenes: tuple[Scene, Scene]) -> None:
    name = re.compile(r"127\.0\.0\.1:\d+ -> 127\.0\.0\.1:\d+( \(\d\))?")
    for scene in scenes:
        for what in ("connections", "channels"):
            assert all(name.fullmatch(each["name"]) for each in scene.side.get(f"/{what}"))


def test_numbers_of_the_same_messages_are_the_same(scenes: tuple[Scene, Scene]) -> None:
    told = [scene.side.get("/queues/%2F/scene.work") for scene in scenes]
    names = ("messages", "messages_ready", "messages_unacknowledged", "message_bytes_ready", "consumers")
    assert len({tuple(each[name] for name in names) for each in told}) == 1
    counted = ("publish", "deliver", "ack", "deliver_get", "get", "redeliver")
    assert len({tuple(each["message_stats"][name] for name in counted) for each in told}) == 1


def test_differences_are_found() -> None:
    assert differences({"a": 1, "b": [{"name": "x", "c": None}]}, {"a": "1", "b": [{"name": "x"}]}) == [
        ".a is str, not number",
        ".b[].c is missing",
    ]
    assert differences({"a": 1}, {"a": 2.5, "z": 1}) == []
