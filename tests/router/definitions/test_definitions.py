"""Definitions: what RabbitMQ exports is taken over, again and again; what cannot be is named."""

# ruff: noqa: E501 - a refused entry and its error stand on one line

import base64
import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from leveret.protocol.errors import AccessRefused
from leveret.router.auth import NO_PASSWORD, SHA256, Login, User, hash_password
from leveret.router.auth.passwords import SCRYPT
from leveret.router.broker.broker import Broker
from leveret.router.definitions import (
    DefinitionsError,
    apply_definitions,
    export_definitions,
    import_definitions,
    parse_definitions,
    unportable_users,
)
from leveret.router.definitions.document import ENTRY_MAX, REFUSED_MAX
from leveret.router.definitions.exporting import PART_BYTES, export_in_parts
from leveret.router.settings import Auth, Settings
from leveret.router.vhost.metadata import VHostMetadata

EXPORT = Path(__file__).parent / "definitions_3_10.json"  # by RabbitMQ 3.10.8

# In the form of RabbitMQ 4.
NEWER: dict[str, Any] = {
    "rabbit_version": "4.1.0",
    "rabbitmq_version": "4.1.0",
    "product_name": "RabbitMQ",
    "product_version": "4.1.0",
    "rabbitmq_definition_format": "cluster",
    "original_cluster_name": "rabbit@host",
    "explanation": "Definitions of cluster 'rabbit@host'",
    "users": [
        {
            "name": "dora",
            "password_hash": "pqD74hYSMcS2YPQY91uQPkZsv5r0Dw0kOg+sGEsbsXFEZcBf",
            "hashing_algorithm": "rabbit_password_hashing_sha256",
            "tags": ["monitoring"],
            "limits": {},
        }
    ],
    "vhosts": [
        {
            "name": "/",
            "description": "Default virtual host",
            "metadata": {"description": "", "tags": [], "default_queue_type": "classic"},
            "tags": [],
            "default_queue_type": "classic",
        }
    ],
    "permissions": [{"user": "dora", "vhost": "/", "configure": "", "write": "", "read": ".*"}],
    "topic_permissions": [],
    "parameters": [],
    "global_parameters": [{"name": "internal_cluster_id", "value": "rabbitmq-cluster-id-1"}],
    "policies": [
        {
            "vhost": "/",
            "name": "limit",
            "pattern": "^q",
            "apply-to": "quorum_queues",
            "definition": {"delivery-limit": 7},
            "priority": 0,
        }
    ],
    "queues": [
        {
            "name": "q1",
            "vhost": "/",
            "durable": True,
            "auto_delete": False,
            "type": "quorum",
            "arguments": {},
        }
    ],
    "exchanges": [
        {
            "name": "x",
            "vhost": "/",
            "type": "fanout",
            "durable": True,
            "auto_delete": False,
            "internal": True,
            "arguments": {},
        }
    ],
    "bindings": [
        {
            "source": "x",
            "vhost": "/",
            "destination": "q1",
            "destination_type": "queue",
            "routing_key": "",
            "arguments": {},
        }
    ],
}


@pytest.fixture
def broker() -> Broker:
    broker = Broker(Settings(auth=Auth(password_hash="sha256")))
    broker.add_vhost("/")
    return broker


def apply(broker: Broker, document: dict[str, Any], vhost: str = "") -> list[str]:
    """Apply the document; return what was left out."""
    with capture_logs() as logs:
        apply_definitions(broker, parse_definitions(json.dumps(document).encode()), vhost)
    return [line["what"] for line in logs if line["event"] == "definition not imported"]


def log_in(broker: Broker, name: str, password: str) -> User:
    found = broker.log_in(Login(name, password, "h", loopback=False), lambda outcome: None)
    assert found is not None
    return found


def shape(broker: Broker) -> Any:
    """All that an import can change, as comparable values."""
    return (
        {
            name: (user.password_hash, user.tags, user.permissions, user.topic_permissions)
            for name, user in broker.users.items()
        },
        {
            name: (
                {
                    queue.name: (queue.durable, queue.auto_delete, queue.arguments, queue.settings)
                    for queue in vhost.queues.values()
                },
                {
                    exchange.name: (
                        exchange.type,
                        exchange.durable,
                        exchange.auto_delete,
                        exchange.internal,
                        exchange.arguments,
                        exchange.alternate,
                        set(exchange.bindings),
                    )
                    for exchange in vhost.exchanges.values()
                },
                set(vhost.policies.policies),
                set(vhost.policies.operator_policies),
            )
            for name, vhost in broker.vhosts.items()
        },
    )


# -- what RabbitMQ exports
# ------------------------------------------------------------------------------------


@pytest.fixture
def imported(broker) -> Broker:
    apply_definitions(broker, parse_definitions(EXPORT.read_bytes()))
    return broker


def test_users_of_an_export_log_in(imported):
    anna = log_in(imported, "anna", "anna-pw")
    assert anna.tags == {"administrator", "impersonator"}
    assert log_in(imported, "bert", "bert-pw").tags == set()
    for password in ("", "x"):
        with pytest.raises(AccessRefused):
            log_in(imported, "carl", password)


def test_permissions_of_an_export(imported):
    bert = imported.users["bert"]
    assert bert.may("shop", "configure", "bert-1")
    assert bert.may("shop", "write", "amq.topic")
    assert not bert.may("shop", "read", "bert-1")
    assert not bert.may_enter("/")
    assert bert.may_route("shop", "amq.topic", "write", "bert.x")
    assert not bert.may_route("shop", "amq.topic", "write", "pub.x")


def test_queues_of_an_export_under_its_policies(imported):
    queues = imported.vhosts["shop"].queues
    assert set(queues) == {"orders.eu", "orders.us", "graveyard", "transient"}
    eu = queues["orders.eu"]
    assert eu.arguments["x-custom"] == {"a": [1, "b", True, "undefined"]}
    assert (eu.settings.max_length, eu.settings.overflow) == (1000, "reject-publish")  # the operator policy's
    assert (eu.settings.message_ttl, eu.settings.dead_letter_exchange) == (60000, "")
    us = queues["orders.us"]
    assert (us.settings.queue_type, us.settings.delivery_limit) == ("quorum", 3)
    assert us.settings.dead_letter_exchange == "dead"
    assert not queues["transient"].durable
    assert queues["graveyard"].auto_delete
    assert set(imported.vhosts["/"].queues) == {"plain"}


def test_exchanges_and_bindings_of_an_export(imported):
    exchanges = imported.vhosts["shop"].exchanges
    assert (exchanges["orders"].type, exchanges["orders"].alternate) == ("topic", "lost")
    bound = {
        (binding.source.name, binding.destination.name, binding.routing_key)
        for exchange in exchanges.values()
        for binding in exchange.bindings.values()
    }
    assert bound == {
        ("dead", "graveyard", "graveyard"),
        ("orders", "orders.eu", "eu.#"),
        ("orders", "orders.us", "us.#"),
        ("orders", "transient", "t"),
    }


def test_what_an_export_says_in_vain_is_logged(broker):
    assert apply(broker, json.loads(EXPORT.read_bytes())) == [
        "binding from exchange 'by-header' to queue 'graveyard' with key 'graveyard' in vhost 'shop'",
        "binding from exchange 'orders' to exchange 'by-header' with key '#.headers' in vhost 'shop'",
    ]


def test_export_of_a_later_version(broker):
    assert apply(broker, NEWER) == []
    assert broker.global_parameters == {"internal_cluster_id": "rabbitmq-cluster-id-1"}
    vhost = broker.vhosts["/"]
    assert vhost.queues["q1"].settings.queue_type == "quorum"
    assert vhost.queues["q1"].settings.delivery_limit == 7
    assert vhost.exchanges["x"].internal
    assert len(vhost.exchanges["x"].bindings) == 1
    assert broker.users["dora"].tags == {"monitoring"}


@pytest.mark.parametrize("document", [json.loads(EXPORT.read_bytes()), NEWER])
def test_importing_again_changes_nothing(broker, document):
    apply(broker, document)
    before = shape(broker)
    apply(broker, document)
    assert shape(broker) == before


# -- what is there already
# ------------------------------------------------------------------------------------


def test_what_is_there_with_other_properties_stays(broker):
    vhost = broker.vhosts["/"]
    exchange = vhost.declare_exchange("x", "topic")
    queue = vhost.declare_queue("q1", arguments={"x-max-length": 5})
    apply(broker, NEWER)
    assert vhost.exchanges["x"] is exchange
    assert vhost.queues["q1"] is queue
    assert queue.settings.max_length == 5


def test_new_policy_reaches_a_queue_that_is_there(broker):
    queue = broker.vhosts["/"].declare_queue("q")
    policy = {"vhost": "/", "name": "p", "pattern": "", "definition": {"max-length": 3}}
    apply(broker, {"policies": [policy]})
    assert queue.settings.max_length == 3


def test_an_existing_user_is_replaced(broker):
    broker.users.add("u", NO_PASSWORD, tags=("administrator",))
    apply(broker, {"users": [{"name": "u", "password": "pw", "tags": " policymaker,monitoring "}]})
    assert log_in(broker, "u", "pw").tags == {"policymaker", "monitoring"}


def test_entries_of_one_virtual_host_do_not_name_it(broker):
    broker.add_vhost("v")
    document = {
        "exchanges": [{"name": "x", "type": "direct"}],
        "queues": [{"name": "q"}],
        "bindings": [{"source": "x", "destination": "q", "destination_type": "queue", "routing_key": "k"}],
        "policies": [{"name": "p", "pattern": "", "definition": {"max-length": 3}}],
    }
    apply(broker, document, vhost="v")
    vhost = broker.vhosts["v"]
    assert vhost.queues["q"].settings.max_length == 3
    assert len(vhost.exchanges["x"].bindings) == 1
    assert not broker.vhosts["/"].queues


def test_binding_to_the_default_exchange_needs_no_entry(broker):
    binding = {
        "source": "",
        "destination": "q",
        "destination_type": "queue",
        "routing_key": "q",
        "vhost": "/",
    }
    assert apply(broker, {"queues": [{"name": "q", "vhost": "/"}], "bindings": [binding]}) == []
    assert not broker.vhosts["/"].exchanges[""].bindings


def test_parameters_of_plugins_are_left_out(broker):
    parameter = {"vhost": "/", "component": "shovel", "name": "s", "value": {}}
    assert apply(broker, {"parameters": [parameter]}) == ["shovel parameter 's' in vhost '/'"]


@pytest.mark.parametrize(
    "entry",
    [
        {"description": "d", "tags": ["a", "b"], "default_queue_type": "quorum"},
        {"description": "d", "tags": "a,b", "metadata": {"default_queue_type": "rabbit_quorum_queue"}},
        {"metadata": {"description": "d", "tags": ["a", "b"], "default_queue_type": "quorum"}},
    ],
)
def test_what_is_said_of_a_virtual_host(broker, entry):
    apply(broker, {"vhosts": [{"name": "v", **entry}]})
    assert broker.vhosts["v"].metadata == VHostMetadata("d", ("a", "b"), "quorum")
    apply(broker, {"vhosts": [{"name": "v"}]})
    assert broker.vhosts["v"].metadata == VHostMetadata("d", ("a", "b"), "quorum")


def test_limits_are_in_effect(imported):
    assert imported.users["bert"].limits == {"max-connections": 5}
    assert imported.vhosts["shop"].limits == {"max-connections": 100}


def test_a_password_that_is_there_already_keeps_its_hash(broker):
    document = {"users": [{"name": "u", "password": "pw", "tags": ""}]}
    apply(broker, document)
    before = broker.users["u"].password_hash
    apply(broker, document)
    assert broker.users["u"].password_hash == before
    apply(broker, {"users": [{"name": "u", "password": "other", "tags": ""}]})
    assert broker.users["u"].password_hash != before


def test_entries_of_virtual_hosts_go_where_they_are_sent(broker, imported):
    imported.add_vhost("copy")
    document = json.loads(EXPORT.read_bytes())
    document["users"] = [{"name": "nobody"}]
    for section in ("queues", "exchanges", "bindings", "policies", "parameters"):
        document[section] = [entry for entry in document[section] if entry["vhost"] == "shop"]
    apply(imported, document, vhost="copy")
    shop, copy = imported.vhosts["shop"], imported.vhosts["copy"]
    assert set(copy.queues) == set(shop.queues)
    assert copy.limits == shop.limits
    assert set(copy.policies.operator_policies) == set(shop.policies.operator_policies)
    assert "nobody" not in imported.users


def test_an_import_comes_in_steps(broker):
    queues = [{"name": f"q{number}", "vhost": "/"} for number in range(3)]
    steps = import_definitions(broker, parse_definitions(json.dumps({"queues": queues}).encode()))
    assert [len(broker.vhosts["/"].queues) for _ in steps] == [1, 2, 3]


# -- exports
# --------------------------------------------------------------------------------------------------


def test_an_export_imports_to_the_same(imported):
    document = export_definitions(imported)
    other = Broker(Settings())
    assert apply(other, document) == []
    assert shape(other) == shape(imported)
    assert {name: (vhost.metadata, vhost.limits) for name, vhost in other.vhosts.items()} == {
        name: (vhost.metadata, vhost.limits) for name, vhost in imported.vhosts.items()
    }
    assert {user.name: user.limits for user in other.users.values()} == {
        user.name: user.limits for user in imported.users.values()
    }
    assert other.global_parameters == imported.global_parameters
    assert export_definitions(other) == document


def test_an_export_of_one_virtual_host_imports_to_another(imported):
    document = export_definitions(imported, "shop")
    assert set(document) == {"rabbit_version", "parameters", "policies", "queues", "exchanges", "bindings"}
    assert all(
        "vhost" not in entry for name in ("queues", "exchanges", "bindings") for entry in document[name]
    )
    imported.add_vhost("copy")
    assert apply(imported, document, vhost="copy") == []
    _users, vhosts = shape(imported)
    assert vhosts["copy"] == vhosts["shop"]


def test_exclusive_queues_are_not_exported(broker):
    vhost = broker.vhosts["/"]
    owned = vhost.declare_queue("mine", exclusive=True, owner=object())
    vhost.bind(vhost.exchanges["amq.fanout"], owned, "")
    document = export_definitions(broker)
    assert (document["queues"], document["bindings"]) == ([], [])


def test_names_that_json_cannot_say_are_left_out(broker):
    broker.vhosts["/"].declare_queue("q\udcff")
    broker.vhosts["/"].declare_queue("q")
    with capture_logs() as logs:
        document = export_definitions(broker)
    assert [queue["name"] for queue in document["queues"]] == ["q"]
    assert [(line["event"], line["section"], line["count"]) for line in logs] == [
        ("definitions not exported", "queues", 1)
    ]


def test_scrypt_hash_survives_an_export(broker):
    slow = hash_password("pw", "scrypt")
    broker.users.add("u", slow)
    with capture_logs() as logs:
        document = export_definitions(broker)
    [user] = document["users"]
    assert base64.b64decode(user["password_hash"]) == slow.text.encode()  # RabbitMQ takes base64 only
    assert user["hashing_algorithm"] == SCRYPT
    assert list(unportable_users(broker)) == ["u"]
    assert [(line["event"], line["users"]) for line in logs] == [
        ("exported users cannot log in elsewhere", ["u"])
    ]
    other = Broker(Settings())
    apply(other, document)
    assert other.users["u"].password_hash == slow


@pytest.mark.parametrize(
    "fields",
    [
        lambda text: {"password_hash": "", "hashing_algorithm": SHA256, "leveret_password_hash": text},
        lambda text: {"password_hash": text, "hashing_algorithm": SCRYPT},
    ],
)
def test_scrypt_hash_of_an_earlier_export_is_imported(broker, fields):
    slow = hash_password("pw", "scrypt")
    apply(broker, {"users": [{"name": "u", **fields(slow.text)}]})
    assert broker.users["u"].password_hash == slow


# -- refused entries
# ------------------------------------------------------------------------------------------

PATTERNS = {"configure": "", "write": "", "read": ""}
GOOD: dict[str, list[dict[str, Any]]] = {
    "users": [{"name": "good", "password": "pw", "tags": ""}],
    "vhosts": [{"name": "good"}],
    "permissions": [{"user": "good", "vhost": "good", **PATTERNS}],
    "topic_permissions": [{"user": "good", "vhost": "good", "exchange": "x", "write": "", "read": ""}],
    "parameters": [
        {"vhost": "good", "component": "vhost-limits", "name": "limits", "value": {"max-queues": 50}},
        {"vhost": "good", "component": "operator_policy", "name": "o", "value": {"pattern": "", "definition": {"max-length": 9}}},
    ],
    "global_parameters": [{"name": "good", "value": 1}],
    "policies": [{"vhost": "good", "name": "p", "pattern": "", "definition": {"max-length": 3}}],
    "exchanges": [{"vhost": "good", "name": "x", "type": "topic"}],
    "queues": [{"vhost": "good", "name": "q"}],
    "bindings": [{"vhost": "good", "source": "x", "destination": "q", "destination_type": "queue", "routing_key": "k"}],
}  # fmt: skip
BAD: list[tuple[str, Any, str]] = [
    ("users", {"name": "u", "password_hash": "!"}, "user 'u': password hash is not base64"),
    ("users", {"name": "u", "password_hash": "A" * 2000}, "user 'u': password hash or hashing algorithm has more than 1024 characters"),
    ("users", {"name": ""}, "user '': a user needs a name"),
    ("users", {"name": "u", "limits": {"odd": 1}}, "user 'u': "),
    ("users", {"name": "u", "password": "p", "password_hash": "YQ=="}, "user 'u': both_password_and_password_hash_are_provided"),
    ("users", {"name": "u", "password": "", "password_hash": ""}, "user 'u': both_password_and_password_hash_are_provided"),
    ("users", {"name": "u", "password": None}, "users[0]: Expected `str`, got `null` - at `$.password`"),
    ("users", {"name": "u", "password_hash": None}, "users[0]: Expected `str`, got `null` - at `$.password_hash`"),
    ("users", {"name": "u", "tags": ["t" * 256]}, "user 'u': a tag has more than 255 characters"),
    ("users", {"name": "u", "tags": ["t"] * 1001}, "user 'u': there are more than 1000 tags"),
    ("users", {"name": "u", "tags": "t," * 100_000}, "user 'u': there are more than 1000 tags"),
    ("vhosts", {"name": "v", "tags": ["t"] * 1001}, "vhost 'v': there are more than 1000 tags"),
    ("users", {"tags": ""}, "users[0]: Object missing required field `name`"),
    ("users", {"name": "u", "tags": 5}, "users[0]: Expected `str | array`, got `int` - at `$.tags`"),
    ("vhosts", {"name": ""}, "vhost '': a virtual host needs a name"),
    ("vhosts", {"name": "v" * 256}, f"vhost '{'v' * 256}': virtual host name should be less than 255 bytes, actually was 256"),
    ("vhosts", {"name": "v", "metadata": {"tags": [5]}}, "vhost 'v': tags are texts"),
    ("vhosts", {"name": "v", "metadata": {"tags": 5}}, "vhost 'v': tags are a text with commas, or a list of texts"),
    ("vhosts", {"name": "v", "metadata": {"tags": {"a": 1}}}, "vhost 'v': tags are a text with commas, or a list of texts"),
    ("vhosts", {"name": "v", "metadata": {"description": 10**400}}, "vhost 'v': 'description' must be a text"),
    ("vhosts", {"name": "v", "metadata": {"default_queue_type": [5]}}, "vhost 'v': unsupported queue type '[5]'"),
    ("vhosts", {"name": "v", "tags": "t" * 256}, "vhost 'v': a tag has more than 255 characters"),
    ("vhosts", "v", "vhosts[0]: Expected `object`, got `str`"),
    ("permissions", {"user": "u", "vhost": "/", **PATTERNS}, "permissions of user 'u' in vhost '/': no user 'u'"),
    ("permissions", {"user": "good", "vhost": "v", **PATTERNS}, "permissions of user 'good' in vhost 'v': no virtual host 'v'"),
    ("permissions", {"user": "good", "vhost": "/", **PATTERNS, "read": "("}, "permissions of user 'good' in vhost '/': regular expression '(' is invalid: "),
    ("permissions", {"user": "good", "vhost": "/"}, "permissions[0]: Object missing required field `configure`"),
    ("topic_permissions", {"user": "u", "vhost": "/", "exchange": "x", "write": "", "read": ""}, "topic permissions of user 'u' at exchange 'x' in vhost '/': no user 'u'"),
    ("parameters", {"vhost": "/", "component": "operator_policy", "name": "p", "value": {"pattern": ""}}, "operator policy 'p' in vhost '/': Object missing required field `definition`"),
    ("parameters", {"vhost": "/", "component": "vhost-limits", "name": "limits", "value": {"odd": 1}}, "vhost-limits parameter 'limits' in vhost '/': "),
    ("parameters", {"vhost": "v", "component": "vhost-limits", "name": "limits", "value": {}}, "vhost-limits parameter 'limits' in vhost 'v': no virtual host 'v'"),
    ("global_parameters", {"name": ""}, "global parameter '': a global parameter needs a name"),
    ("policies", {"vhost": "/", "name": "p", "pattern": "", "definition": {"a": 1}}, "policy 'p' in vhost '/': [{<<\"a\">>,1}] are not recognised policy settings"),
    ("policies", {"vhost": "/", "name": "p", "pattern": "(", "definition": {"max-length": 1}}, "policy 'p' in vhost '/': "),
    ("exchanges", {"vhost": "/", "name": "x", "type": "odd"}, "exchange 'x' in vhost '/': unknown exchange type 'odd'"),
    ("exchanges", {"vhost": "v", "name": "x", "type": "topic"}, "exchange 'x' in vhost 'v': no virtual host 'v'"),
    ("queues", {"vhost": "/", "name": "q", "arguments": {"x-expires": 0}}, "queue 'q' in vhost '/': PRECONDITION_FAILED - invalid arg 'x-expires' for queue 'q' in vhost '/': {value_zero,0}"),
    ("queues", {"vhost": "/", "name": ""}, "queue '' in vhost '/': a queue needs a name"),
    ("queues", {"vhost": "/", "name": "q\ud800"}, "queues[0]: Invalid UTF-8 encoded string"),
    ("queues", {"vhost": "/", "name": "q", "arguments": {"x-\udfff": 1}}, "queues[0]: Invalid UTF-8 encoded string"),
    ("queues", {"vhost": "v", "name": "q"}, "queue 'q' in vhost 'v': no virtual host 'v'"),
    ("queues", {"vhost": "/", "name": 5}, "queues[0]: Expected `str`, got `int` - at `$.name`"),
    ("bindings", {"source": "amq.headers", "destination": "amq.topic", "destination_type": "exchange", "arguments": {"x-match": "odd"}, "vhost": "/"}, "binding from exchange 'amq.headers' to exchange 'amq.topic' with key '' in vhost '/': PRECONDITION_FAILED - "),
    ("bindings", {"source": "amq.topic", "destination": "q", "destination_type": "odd", "vhost": "/"}, "bindings[0]: Invalid enum value 'odd' - at `$.destination_type`"),
]  # fmt: skip


def import_document(broker: Broker, document: dict[str, Any]) -> tuple[list[str], list[str]]:
    """Import; return the refused entries as reported, and as logged."""
    with capture_logs() as logs:
        report = apply_definitions(broker, parse_definitions(json.dumps(document).encode()))
    logged = [f"{line['entry']}: {line['reason']}" for line in logs if line["event"] == "definition refused"]
    return [str(refusal) for refusal in report.refused], logged


@pytest.mark.parametrize(("section", "entry", "text"), BAD)
def test_refused_entry_is_reported_once_and_the_others_are_imported(broker, section, entry, text):
    alone = Broker(Settings(auth=Auth(password_hash="sha256")))
    alone.add_vhost("/")
    apply(alone, GOOD)
    refused, logged = import_document(broker, {**GOOD, section: [entry, *GOOD[section]]})
    assert len(refused) == 1
    assert refused[0].startswith(text)
    assert refused == logged
    broker.users["good"].password_hash = alone.users["good"].password_hash  # each has a salt of its own
    assert shape(broker) == shape(alone)
    assert broker.vhosts["good"].limits == alone.vhosts["good"].limits
    assert broker.global_parameters == alone.global_parameters


def test_surrogate_pairs_and_backslashes_in_a_document_are_taken_as_they_are(broker):
    names = ["\U0001f407", "\\ud800", "\\\\ud800", "\\\U0001f407", 'a"\\']
    refused, _ = import_document(
        broker, {"odd": "\ud800", "\udc00": 1, "queues": [{"vhost": "/", "name": name} for name in names]}
    )
    assert refused == []
    assert sorted(broker.vhosts["/"].queues) == sorted(names)


@pytest.mark.parametrize("metadata", [{"tags": None}, {"description": None}, {"default_queue_type": None}])
def test_metadata_of_a_virtual_host_that_is_null_is_not_set(broker, metadata):
    refused, _ = import_document(broker, {"vhosts": [{"name": "v", "metadata": metadata}]})
    assert refused == []
    assert broker.vhosts["v"].metadata == VHostMetadata()


def test_all_refused_entries_of_a_document_are_reported(broker):
    document = {
        section: [*(entry for where, entry, _ in BAD if where == section), *GOOD[section]] for section in GOOD
    }
    refused, logged = import_document(broker, document)
    assert len(refused) == len(BAD)
    assert sorted(refused) == sorted(logged)
    assert "q" in broker.vhosts["good"].queues


@pytest.mark.parametrize(
    ("document", "text"),
    [
        (b"", "not a definitions document: Input data was truncated"),
        (b"[]", "not a definitions document: Expected `object`, got `array`"),
        (b"null", "not a definitions document: Expected `object`, got `null`"),
        (
            b'{"queues": {}}',
            "not a definitions document: Expected `array | null`, got `object` - at `$.queues`",
        ),
        (b'{"queues": ' + b"[" * 100_000, "not a definitions document: "),
    ],
)
def test_what_is_no_definitions_document_is_refused_as_a_whole(document, text):
    with pytest.raises(DefinitionsError) as caught:
        parse_definitions(document)
    assert str(caught.value).startswith(text)


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"password_hash": base64.b64encode(bytes(32)).decode()}, "password hash has 32 bytes, wrong for 'rabbit_password_hashing_sha256'"),
        ({"password_hash": "AAAA", "hashing_algorithm": "odd"}, "password hashing algorithm 'odd' is not supported"),
        ({"password_hash": "AAAA", "hashing_algorithm": SCRYPT}, "password hash is not like $scrypt$ln=..,r=..,p=..$SALT$HASH"),
    ],
)  # fmt: skip
def test_user_with_an_unusable_hash_exists_and_cannot_log_in(broker, fields, fault):
    document = {"users": [{"name": "u", **fields}], "queues": [{"vhost": "/", "name": "q"}]}
    with capture_logs() as logs:
        report = apply_definitions(broker, parse_definitions(json.dumps(document).encode()))
    assert (report.refused, report.without_login) == ([], ["u"])
    assert [(line["user"], line["reason"]) for line in logs if "user" in line] == [("u", fault)]
    assert "q" in broker.vhosts["/"].queues
    [exported] = export_definitions(broker)["users"]
    assert exported == exported | fields
    for password in ("", "x"):
        with pytest.raises(AccessRefused):
            log_in(broker, "u", password)


# -- virtual hosts
# --------------------------------------------------------------------------------------------


def test_importing_user_gets_all_permissions_in_a_new_virtual_host(broker):
    document: dict[str, Any] = {"vhosts": [{"name": "/"}, {"name": "new"}, {"name": "own"}]}
    document["permissions"] = [{"user": "maker", "vhost": "own", **PATTERNS}]
    maker = broker.users.add("maker", NO_PASSWORD)
    apply_definitions(broker, parse_definitions(json.dumps(document).encode()), maker=maker)
    assert maker.permissions == {"new": (".*", ".*", ".*"), "own": ("", "", "")}


def test_import_without_a_user_sets_no_permissions(broker):
    user = broker.users.add("u", NO_PASSWORD)
    apply(broker, {"vhosts": [{"name": "new"}]})
    assert not user.permissions


def test_an_entry_that_is_too_large_is_refused_and_the_others_are_imported(broker):
    large = {"name": "large", "value": "x" * ENTRY_MAX}
    document = {"global_parameters": [large, {"name": "small", "value": 1}]}
    definitions = parse_definitions(json.dumps(document).encode())
    [refused] = definitions.refused
    assert refused.entry == "global_parameters[0]"
    assert f"an entry may have {ENTRY_MAX}" in refused.reason
    assert [entry.name for entry in definitions.global_parameters] == ["small"]


def test_replacing_half_surrogate_pairs_takes_little_memory():
    document = rb'{"x":"\ud800%b", "queues": [{"name": "q"}]}' % (rb"\n\\" * (1 << 16))
    tracemalloc.start()
    try:
        assert [entry.name for entry in parse_definitions(document).queues] == ["q"]
        assert tracemalloc.get_traced_memory()[1] < 8 * len(document)
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("entry", [0, {"name": ""}, {"name": 1}, {"name": "q", "vhost": "missing"}], ids=repr)
def test_an_import_names_the_first_refused_entries_in_steps_and_counts_the_others(broker, entry):
    document = json.dumps({"queues": [entry] * (REFUSED_MAX + 5)}).encode()
    definitions = parse_definitions(document)
    assert len(definitions.refused) in (0, REFUSED_MAX)
    run = import_definitions(broker, definitions)
    with capture_logs() as logged:
        steps, report = count_steps(run)
    assert steps >= REFUSED_MAX
    assert (len(report.refused), report.more_refused) == (REFUSED_MAX, 5)
    assert [line for line in logged if line["event"] == "further definitions refused"] == [
        {"event": "further definitions refused", "log_level": "warning", "count": 5}
    ]
    assert len(logged) == REFUSED_MAX + 1


def test_an_import_frees_each_entry_in_its_own_step(broker):
    document = json.dumps({"queues": [{"name": f"q{number}", "vhost": "/"} for number in range(5)]}).encode()
    definitions = parse_definitions(document)
    left = [len(definitions.queues) for _ in import_definitions(broker, definitions)]
    assert left == [4, 3, 2, 1, 0]
    assert list(broker.vhosts["/"].queues) == [f"q{number}" for number in range(5)]


def count_steps(run):
    """Run a generator to its end; return the number of its steps and its result."""
    steps = 0
    while True:
        try:
            next(run)
        except StopIteration as end:
            return steps, end.value
        steps += 1


def test_an_export_of_large_entries_has_small_parts(broker):
    value = "x" * 100_000
    broker.global_parameters |= {f"p{number}": value for number in range(50)}
    parts = [part for part in export_in_parts(broker) if part is not None]
    assert max(map(len, parts)) < 2 * PART_BYTES
    exported = json.loads(b"".join(parts))
    assert len([each for each in exported["global_parameters"] if each["value"] == value]) == 50
