"""The rules for new exchanges, queues and bindings hold whichever way these come in.

Rows are rules, columns the ways: a client (AMQP and STOMP share ``Topology``), the HTTP API, and definitions,
for which RabbitMQ 3.10 was given the same entries.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from leveret.protocol.errors import AmqpError
from leveret.router.broker.administration import Administration
from leveret.router.broker.broker import Broker
from leveret.router.definitions import apply_definitions, parse_definitions
from leveret.router.session.super_streams import declare_super_stream
from leveret.router.session.topology import Topology
from leveret.router.turns.backlog import at_once
from tests.router.harness import AnyUser
from tests.router.management.api import Api, name

Declare = Callable[[Api, str, dict[str, Any]], bool]  # returns False if the object was refused or left out


def by_client(api: Api, section: str, entry: dict[str, Any]) -> bool:
    topology = Topology(api.broker.vhosts["/"], AnyUser(), object())  # type: ignore[arg-type]
    try:
        declare_for_client(topology, section, entry)
    except AmqpError:
        return False
    return True


def declare_for_client(topology: Topology, section: str, entry: Mapping[str, Any]) -> None:
    arguments = entry.get("arguments", {})
    lasting = {"durable": entry.get("durable", True), "auto_delete": False}
    match section:
        case "queues":
            topology.declare_queue(entry["name"], exclusive=False, arguments=arguments, **lasting)
        case "exchanges":
            topology.declare_exchange(
                entry["name"], entry["type"], internal=False, arguments=arguments, **lasting
            )
        case _:
            to_queue = entry["destination_type"] == "queue"
            bind = topology.bind_queue_in_slices if to_queue else topology.bind_exchange_in_slices
            at_once(bind(entry["destination"], entry["source"], entry["routing_key"], arguments))


def by_api(api: Api, section: str, entry: dict[str, Any]) -> bool:
    body = {"durable": True, **entry}
    if section == "bindings":
        kind = entry["destination_type"][0]
        path = f"/bindings/%2F/e/{name(entry['source'])}/{kind}/{name(entry['destination'])}"
        return api.ask("POST", path, body).status < 300
    return api.ask("PUT", f"/{section}/%2F/{name(body.pop('name'))}", body).status < 300


def by_definitions(api: Api, section: str, entry: dict[str, Any]) -> bool:
    before = shape(api.broker)
    document = {section: [{"vhost": "/", **entry}]}
    report = apply_definitions(api.broker, parse_definitions(json.dumps(document).encode()))
    return not report.refused and shape(api.broker) != before


WAYS = {"client": by_client, "api": by_api, "definitions": by_definitions}


def shape(broker: Broker) -> tuple[set[str], set[str], set[tuple[str, str]]]:
    vhost = broker.vhosts["/"]
    bindings = {
        (exchange.name, binding.destination.name)
        for exchange in vhost.exchanges.values()
        for binding in exchange.bindings.values()
    }
    return set(vhost.exchanges), set(vhost.queues), bindings


def queue(name: str, **properties: Any) -> tuple[str, dict[str, Any]]:
    return "queues", {"name": name, **properties}


def exchange(name: str, kind: str = "direct", **properties: Any) -> tuple[str, dict[str, Any]]:
    return "exchanges", {"name": name, "type": kind, **properties}


def binding(source: str, destination: str, kind: str = "queue") -> tuple[str, dict[str, Any]]:
    ends = {"source": source, "destination": destination, "destination_type": kind}
    return "bindings", {**ends, "routing_key": "k", "arguments": {}}


ACCEPTED = {
    "line breaks in the name of a queue": (queue("n\r\new"), "new"),
    "line breaks in the name of an exchange": (exchange("n\r\new"), "new"),
    "line breaks in the ends of a binding": (binding("amq.\ndirect", "the\nre"), ("amq.direct", "there")),
}
REFUSED = {
    "a reserved queue name": queue("amq.q"),
    "a reserved queue name behind a line break": queue("\namq.q"),
    "a reserved exchange name": exchange("amq.x"),
    "an unknown exchange type": exchange("x", "odd"),
    "an argument out of range": queue("q", arguments={"x-max-length": -1}),
    "a dead-letter exchange that is no text": queue("q", arguments={"x-dead-letter-exchange": 5}),
    "a property that the queue type lacks": queue("q", durable=False, arguments={"x-queue-type": "quorum"}),
    "too long a name": queue("q" * 256),
    "too many arguments": queue("q", arguments={f"a{number}": 1 for number in range(1025)}),
    "a binding without its queue": binding("amq.direct", "absent"),
    "a binding without its exchange": binding("absent", "there"),
    "a binding from the default exchange": binding("", "there"),
}


@pytest.fixture
def api() -> Api:
    made = Api()
    made.broker.vhosts["/"].declare_queue("there", durable=True)
    return made


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("rule", ACCEPTED)
def test_accepted_objects_are_the_same_whichever_way_they_come(api: Api, rule: str, way: Declare) -> None:
    (section, entry), made = ACCEPTED[rule]
    before = shape(api.broker)
    assert way(api, section, entry)
    assert [new - old for new, old in zip(shape(api.broker), before, strict=True) if new != old] == [{made}]


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("rule", REFUSED)
def test_refused_objects_leave_nothing_whichever_way_they_come(api: Api, rule: str, way: Declare) -> None:
    before = shape(api.broker)
    assert not way(api, *REFUSED[rule])
    assert shape(api.broker) == before


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_max_queues_holds_whichever_way_a_queue_comes(api: Api, way: Declare) -> None:
    Administration(api.broker).set_vhost_limit("/", "max-queues", 2)
    assert way(api, *queue("second"))
    assert not way(api, *queue("third"))
    assert shape(api.broker)[1] == {"there", "second"}


def test_limits_of_a_document_hold_for_what_comes_after_it(api: Api) -> None:
    """As RabbitMQ imports its own export of a virtual host that has more queues than its limit."""
    limit = {"component": "vhost-limits", "name": "limits", "vhost": "/", "value": {"max-queues": 1}}
    queues = [{"name": f"q{number}", "vhost": "/"} for number in range(3)]
    document = json.dumps({"parameters": [limit], "queues": queues}).encode()
    assert not apply_definitions(api.broker, parse_definitions(document)).refused
    assert shape(api.broker)[1] == {"there", "q0", "q1", "q2"}
    assert not by_client(api, *queue("more"))


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_max_connections_does_not_concern_declarations(api: Api, way: Declare) -> None:
    Administration(api.broker).set_vhost_limit("/", "max-connections", 0)
    assert way(api, *queue("second"))


def test_a_refused_super_stream_leaves_nothing_even_if_its_name_had_line_breaks(api: Api) -> None:
    topology = Topology(api.broker.vhosts["/"], AnyUser(), object())  # type: ignore[arg-type]
    Administration(api.broker).set_vhost_limit("/", "max-queues", 2)
    before = shape(api.broker)
    with pytest.raises(AmqpError):
        at_once(declare_super_stream(topology, "su\nper", partitions=3))
    assert shape(api.broker) == before
