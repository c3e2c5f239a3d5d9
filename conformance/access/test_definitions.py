"""Definitions that go from RabbitMQ to leveret, and from leveret to RabbitMQ."""

import json
from pathlib import Path
from typing import Any

import pytest

from conformance import brokers
from conformance.access.conftest import ALL, Managed, refusal
from leveret.router.auth import hash_password
from leveret.router.broker.administration import Administration
from leveret.router.broker.broker import Broker
from leveret.router.definitions import apply_definitions, export_definitions, parse_definitions
from leveret.router.settings import Settings
from leveret.router.vhost.metadata import make_metadata

SECTIONS = (
    "users",
    "permissions",
    "topic_permissions",
    "parameters",
    "global_parameters",
    "policies",
    "queues",
    "exchanges",
    "bindings",
)


def canonical(entries: list[dict[str, Any]]) -> list[str]:
    """Entries whose order means nothing, nor that of tags, without what only later versions export."""
    return sorted(
        json.dumps(
            {
                key: sorted(value) if key == "tags" else value
                for key, value in entry.items()
                if key != "type" or "internal" in entry
            },
            sort_keys=True,
        )
        for entry in entries
    )


def fill(rabbitmq: Managed, vhost: str) -> None:
    """Make one of everything there."""
    rabbitmq.do("PUT", "vhosts", vhost, body={"description": "d", "tags": "x,y"})
    rabbitmq.permit("guest", vhost, **ALL)
    rabbitmq.do("PUT", "users", "dora", body={"password": "dora-pw", "tags": "monitoring,policymaker"})
    rabbitmq.permit("dora", vhost, configure="^dora", write=".*", read="^dora")
    rabbitmq.do(
        "PUT", "topic-permissions", vhost, "dora", body={"exchange": "t", "write": "^w", "read": "^r"}
    )
    rabbitmq.do("PUT", "user-limits", "dora", "max-channels", body={"value": 3})
    rabbitmq.do("PUT", "vhost-limits", vhost, "max-queues", body={"value": 30})
    policy = {"pattern": "^q", "definition": {"max-length": 4}, "priority": 2, "apply-to": "queues"}
    rabbitmq.do("PUT", "policies", vhost, "p", body=policy)
    bounds = {"max-length": 3, "expires": 90000}
    rabbitmq.do("PUT", "operator-policies", vhost, "o", body={**policy, "definition": bounds})
    rabbitmq.do("PUT", "global-parameters", "g", body={"value": {"a": [1, "b"]}})
    connection = rabbitmq.connect("guest", vhost)
    channel = connection.channel()
    channel.queue_declare("q", durable=True, arguments={"x-max-length": 7, "x-other": [1, "a", {"b": True}]})
    channel.queue_declare("quorum", durable=True, arguments={"x-queue-type": "quorum"})
    channel.queue_declare("temporary", auto_delete=True, durable=True)
    channel.queue_declare("mine", exclusive=True)
    channel.exchange_declare("t", "topic", durable=True, arguments={"alternate-exchange": "amq.fanout"})
    channel.exchange_declare("i", "fanout", durable=True, internal=True)
    channel.exchange_declare("h", "headers", durable=True, auto_delete=True)
    channel.queue_bind("q", "t", "k.#", {"a": 1})
    channel.queue_bind("mine", "t", "mine")
    channel.queue_bind("q", "h", "", {"x-match": "any", "n": 5})
    channel.exchange_bind("i", "t", "#")
    connection.close()


@pytest.fixture(scope="module")
def theirs(rabbitmq: Managed) -> dict[str, Any]:
    fill(rabbitmq, "exported")
    found = rabbitmq.do("GET", "definitions")
    assert isinstance(found, dict)
    return found


def test_what_rabbitmq_exports_leveret_exports_again(theirs):
    broker = Broker(Settings())
    apply_definitions(broker, parse_definitions(json.dumps(theirs).encode()))
    ours = export_definitions(broker)
    assert list(ours) == [name for name in ours if name in theirs]
    for section in SECTIONS:
        assert canonical(ours[section]) == canonical(theirs[section]), section
    assert {vhost["name"] for vhost in ours["vhosts"]} == {vhost["name"] for vhost in theirs["vhosts"]}


def test_leveret_starts_with_what_rabbitmq_exports(theirs, tmp_path: Path):
    file = tmp_path / "definitions.json"
    file.write_text(json.dumps(theirs))
    for _ in range(2):  # the second time everything is there
        with brokers.leveret(str(tmp_path / "data"), arguments=("--definitions", str(file))) as leveret:
            assert leveret.http_port is not None
            managed = Managed("leveret", leveret.port, leveret.http_port)
            check_dora(managed)


def check_dora(managed: Managed) -> None:
    """The imported user logs in with her password, and may do what she may."""
    connection = managed.connect("dora", "exported", "dora-pw")
    assert connection.channel().queue_declare("q", passive=True).method.message_count == 0
    channel = connection.channel()
    channel.confirm_delivery()
    assert refusal(lambda: channel.basic_publish("t", "k.x", b""))[0] == 403
    assert refusal(lambda: connection.channel().queue_declare("new"))[0] == 403
    connection.channel().queue_declare("dora-1")
    connection.close()
    assert refusal(lambda: managed.connect("dora", "exported", "wrong"))[0] == 403


def make_ours() -> Broker:
    broker = Broker(Settings())
    admin = Administration(broker)
    admin.put_vhost("imported", make_metadata(description="d", tags="x,y", default_queue_type="quorum"))
    limits = {"max-channels": 5}
    for scheme in ("sha256", "sha512", "scrypt"):
        password = hash_password("pw", scheme)
        admin.put_user(scheme, password=password, tags=("management",), limits=limits)
        admin.set_permission(scheme, "imported", **ALL)
    admin.set_topic_permission("sha512", "imported", "amq.topic", write="^a", read="^b")
    admin.set_vhost_limits("imported", {"max-queues": 10, "max-connections": -1})
    admin.set_policy("imported", "p", "^(?!amq\\.).*", {"max-length": 4}, apply_to="queues", priority=7)
    admin.set_policy("imported", "o", "^q", {"max-length": 3}, operator=True)
    admin.parameters.set_global("mine", {"x": [1]})
    vhost = broker.vhosts["imported"]
    queue = vhost.declare_queue("q", durable=True, arguments={"x-max-length": 9})
    vhost.declare_queue("quorum", durable=True, arguments={"x-queue-type": "quorum"})
    topic = vhost.declare_exchange("t", "topic", durable=True, arguments={"alternate-exchange": "amq.fanout"})
    internal = vhost.declare_exchange("i", "fanout", durable=True, internal=True)
    vhost.bind(topic, queue, "a.b")
    vhost.bind(topic, internal, "#", {"k": 1})
    return broker


def test_rabbitmq_imports_what_leveret_exports(rabbitmq: Managed):
    broker = make_ours()
    ours = export_definitions(broker)
    rabbitmq.do("POST", "definitions", body=ours)
    found = rabbitmq.do("GET", "definitions")
    for section in SECTIONS:
        there = canonical(found[section])
        assert [entry for entry in canonical(ours[section]) if entry not in there] == [], section
    said = rabbitmq.do("GET", "vhosts", "imported")
    assert (said["description"], said["tags"], said["default_queue_type"]) == ("d", ["x", "y"], "quorum")
    for name in ("sha256", "sha512"):
        rabbitmq.connect(name, "imported", "pw").close()
    assert refusal(lambda: rabbitmq.connect("scrypt", "imported", "pw"))[0] == 403
    back = Broker(Settings())
    apply_definitions(back, parse_definitions(json.dumps(found).encode()))
    for name in ("sha256", "sha512", "scrypt"):  # RabbitMQ keeps the hash that it cannot use
        assert back.users[name].password_hash == broker.users[name].password_hash


def test_rabbitmq_imports_one_virtual_host_of_leveret(rabbitmq: Managed):
    rabbitmq.do("PUT", "vhosts", "copy", body={})
    rabbitmq.do("POST", "definitions", "copy", body=export_definitions(make_ours(), "imported"))
    found = rabbitmq.do("GET", "definitions", "copy")
    assert {queue["name"] for queue in found["queues"]} == {"q", "quorum"}
    assert len(found["bindings"]) == 2
    assert [policy["name"] for policy in found["policies"]] == ["p"]


def test_leveret_imports_one_virtual_host_of_rabbitmq(rabbitmq: Managed, theirs):
    broker = Broker(Settings())
    broker.add_vhost("copy")
    document = rabbitmq.do("GET", "definitions", "exported")
    apply_definitions(broker, parse_definitions(json.dumps(document).encode()), "copy")
    ours = export_definitions(broker, "copy")
    for section in ("queues", "exchanges", "bindings"):
        assert canonical(ours[section]) == canonical(document[section])
