"""Queues, exchanges and bindings, declared and deleted through the API."""

import pytest

from leveret.router.exchange import EXCHANGE_TYPES
from tests.router.management.api import name


def test_queue_is_declared_once(api):
    body = {"durable": "true", "auto_delete": False, "arguments": {"x-max-length": 5}}
    assert api.ask("PUT", "/queues/%2F/a%2Fb", body).status == 201
    assert api.ask("PUT", "/queues/%2F/a%2Fb", body).status == 204
    told = api.get("/queues/%2F/a%2Fb")
    assert (told["name"], told["durable"], told["arguments"]) == ("a/b", True, {"x-max-length": 5})
    assert told["type"] == "classic"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"{", "not_json"),
        (b"[]", "not_json"),
        (b"5", "not_json"),
        (
            b'"{}"',
            "invalid payload: the request body JSON-decoded to a string. Is the input doubly-JSON-encoded?",
        ),
        ({"node": 5}, "'node' should be a text, actually was 5"),
        ({"durable": "what"}, "'durable' should be true or false, actually was \"what\""),
        ({"arguments": "x"}, "'arguments' should be an object, actually was \"x\""),
        (
            {"arguments": {"x": 2**70}},
            f"invalid argument 'x': the number {2**70} does not fit in 64 bits; send it as text",
        ),
        ({"node": "other"}, "Node other could not be contacted"),
        (
            {"arguments": {"x-max-length": -1}},
            "invalid arg 'x-max-length' for queue 'q' in vhost '/': {value_negative,-1}",
        ),
    ],
)
def test_faults_of_a_declaration_are_reported(api, body, reason):
    told = api.ask("PUT", "/queues/%2F/q", body)
    assert (told.status, told.json) == (400, {"error": "bad_request", "reason": reason})


@pytest.mark.parametrize("body", [b"", b"null", b" null\n", b"{}", {"node": ""}, {"node": None}])
def test_queue_is_declared_by_a_body_without_properties(api, body):
    assert api.ask("PUT", "/queues/%2F/q", body).status == 201
    told = api.get("/queues/%2F/q")
    assert (told["durable"], told["auto_delete"], told["arguments"]) == (False, False, {})


@pytest.mark.parametrize("path", ["/exchanges/%2F/x", "/vhosts/v"])
def test_body_of_null_is_an_empty_object(api, path):
    assert api.ask("PUT", path, b"null").status == 201


@pytest.mark.parametrize(("sent", "made"), [("a%0Ab", "ab"), ("a%0D%0Ab", "ab"), ("a%0A", "a")])
def test_line_breaks_in_names_are_left_out(api, sent, made):
    """As in RabbitMQ, whose clients cannot name such a queue or exchange."""
    assert api.ask("PUT", f"/queues/%2F/{sent}", {}).status == 201
    assert api.ask("PUT", f"/exchanges/%2F/{sent}", {"type": "direct"}).status == 201
    assert list(api.vhost.queues) == [made]
    assert made in api.vhost.exchanges
    assert api.ask("GET", f"/queues/%2F/{sent}").status == 404


@pytest.mark.parametrize("kind", ["classic", "quorum"])
def test_queue_of_any_type_is_deleted_if_it_is_empty_or_unused(api, kind):
    """RabbitMQ refuses these conditions for quorum queues."""
    path, arguments = "/queues/%2F/q", {"x-queue-type": kind}
    body = {"durable": True, "arguments": arguments}
    for condition in ("if-empty", "if-unused"):
        assert api.ask("PUT", path, body).status == 201
        assert api.ask("DELETE", f"{path}?{condition}=true").status == 204
    api.ask("PUT", path, body)
    client = api.node.client()
    client.publish("x")
    api.node.settle()
    assert api.ask("DELETE", f"{path}?if-empty=true").status == 400
    client.consume()
    assert api.ask("DELETE", f"{path}?if-unused=true").status == 400
    assert "q" in api.vhost.queues


def test_name_that_is_too_long_is_refused(api):
    told = api.ask("PUT", f"/queues/%2F/{'q' * 256}", {})
    assert told.json["reason"] == "queue should be less than 255 bytes, actually was 256"


def test_queue_is_deleted_unless_conditions_say_no(api):
    api.node.queue("q")
    client = api.node.client()
    client.publish("x")
    assert api.ask("DELETE", "/queues/%2F/q?if-empty=true").status == 400
    client.consume()
    assert api.ask("DELETE", "/queues/%2F/q?if-unused=true").status == 400
    assert api.ask("DELETE", "/queues/%2F/q").status == 204
    assert api.ask("DELETE", "/queues/%2F/q").status == 404


def test_queue_is_purged(api):
    api.node.queue("q")
    api.node.client().publish("x")
    assert api.ask("DELETE", "/queues/%2F/q/contents").status == 204
    assert api.get("/queues/%2F/q")["messages"] == 0
    assert api.ask("DELETE", "/queues/%2F/none/contents").status == 404


def test_queue_shows_its_policies(api):
    api.node.queue("q")
    body = {"pattern": "^q", "definition": {"max-length": 7}, "apply-to": "queues", "priority": 2}
    assert api.ask("PUT", "/policies/%2F/p", body).status == 201
    assert api.ask("PUT", "/policies/%2F/p", body).status == 204
    told = api.get("/queues/%2F/q")
    assert (told["policy"], told["operator_policy"]) == ("p", None)
    assert told["effective_policy_definition"] == {"max-length": 7}
    assert api.get("/policies/%2F/p") == {**body, "vhost": "/", "name": "p"}
    assert api.ask("DELETE", "/policies/%2F/p").status == 204
    assert api.get("/queues/%2F/q")["policy"] is None


@pytest.mark.parametrize("priority", ["5", "", None, True, [1], {}, 1.5])
def test_a_policys_priority_is_a_whole_number(api, priority):
    body = {"pattern": "^q", "definition": {"max-length": 7}, "priority": priority}
    told = api.ask("PUT", "/policies/%2F/p", body)
    assert told.status == 400
    assert told.json["reason"].startswith("Validation failed\n\npriority should be a number, actually was ")
    assert api.get("/policies/%2F") == []


def test_a_policys_priority_may_be_written_with_a_point(api):
    body = {"pattern": "^q", "definition": {"max-length": 7}, "priority": 5.0}
    assert api.ask("PUT", "/policies/%2F/p", body).status == 201
    assert api.get("/policies/%2F/p")["priority"] == 5


def test_exchange_is_declared_once_with_one_type(api):
    assert api.ask("PUT", "/exchanges/%2F/x", {"type": "topic"}).status == 201
    assert api.ask("PUT", "/exchanges/%2F/x", {"type": "topic"}).status == 204
    told = api.ask("PUT", "/exchanges/%2F/x", {"type": "direct"})
    assert told.status == 400
    assert told.json["reason"].startswith("inequivalent arg 'type' for exchange 'x'")
    assert api.ask("DELETE", "/exchanges/%2F/x").status == 204
    assert api.ask("DELETE", "/exchanges/%2F/x").status == 404


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("DELETE", "/exchanges/%2F/amq.direct", None),
        ("DELETE", "/exchanges/%2F/amq.default", None),
        ("PUT", "/exchanges/%2F/amq.new", {"type": "direct"}),
        ("PUT", "/exchanges/%2F/amq.default", {"type": "direct"}),
        ("PUT", "/queues/%2F/amq.new", {}),
        ("POST", "/bindings/%2F/e/amq.default/q/q", {}),
    ],
)
def test_operations_that_are_never_allowed_are_refused(api, method, path, body):
    api.node.queue("q")
    told = api.ask(method, path, body)
    assert (told.status, told.json) == (401, {"error": "not_authorised", "reason": "Access refused."})


@pytest.mark.parametrize(
    ("body", "key"),
    [
        ({}, "~"),
        ({"routing_key": "k"}, "k"),
        ({"routing_key": "a.#"}, "a.%23"),
        ({"routing_key": "with space"}, "with+space"),
        ({"routing_key": "a~b"}, "a%7Eb"),
        ({"routing_key": "ü"}, "%C3%BC"),
    ],
)
def test_binding_is_found_by_its_properties_key(api, body, key):
    api.node.queue("q")
    told = api.ask("POST", "/bindings/%2F/e/amq.topic/q/q", body)
    assert told.status == 201
    assert told.headers["Location"] == f"q/{name(key).replace('%7E', '~') if key != '~' else '~'}"
    assert api.get("/bindings/%2F/e/amq.topic/q/q")[0]["properties_key"] == key
    path = f"/bindings/%2F/e/amq.topic/q/q/{name(key)}"
    assert api.get(path)["routing_key"] == body.get("routing_key", "")
    assert api.ask("DELETE", path).status == 204
    assert api.ask("DELETE", path).status == 404


def test_bindings_with_different_arguments_are_distinguished(api):
    api.node.queue("q")
    for arguments in ({"a": 1}, {"a": 2}, {}):
        body = {"routing_key": "k", "arguments": arguments}
        assert api.ask("POST", "/bindings/%2F/e/amq.headers/q/q", body).status == 201
    keys = [each["properties_key"] for each in api.get("/bindings/%2F/e/amq.headers/q/q")]
    assert len(set(keys)) == 3
    assert "k" in keys
    assert all(key == "k" or key.startswith("k~") for key in keys)
    chosen = next(key for key in keys if key != "k")
    assert api.ask("DELETE", f"/bindings/%2F/e/amq.headers/q/q/{name(chosen)}").status == 204
    assert len(api.get("/bindings/%2F/e/amq.headers/q/q")) == 2


def test_bindings_are_listed_from_all_sides(api):
    api.node.queue("q")
    api.ask("POST", "/bindings/%2F/e/amq.topic/q/q", {"routing_key": "k"})
    api.ask("POST", "/bindings/%2F/e/amq.topic/e/amq.fanout", {"routing_key": "e"})

    def ends(path):
        return [(each["source"], each["destination"]) for each in api.get(path)]

    default, topic, fanout = ("", "q"), ("amq.topic", "q"), ("amq.topic", "amq.fanout")
    assert ends("/bindings") == ends("/bindings/%2F") == [default, fanout, topic]
    assert ends("/queues/%2F/q/bindings") == [default, topic]
    assert ends("/exchanges/%2F/amq.topic/bindings/source") == [fanout, topic]
    assert ends("/exchanges/%2F/amq.fanout/bindings/destination") == [fanout]
    assert ends("/exchanges/%2F/amq.default/bindings/source") == [default]
    assert ends("/bindings/%2F/e/amq.default/q/q") == [default]


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/bindings/%2F/e/amq.topic/q/none", "no queue 'none' in vhost '/'"),
        ("/bindings/%2F/e/none/q/q", "no exchange 'none' in vhost '/'"),
        ("/bindings/%2F/e/amq.topic/z/q", "Not Found"),
    ],
)
def test_binding_of_what_is_not_there_is_404(api, path, reason):
    api.node.queue("q")
    told = api.ask("POST", path, {})
    assert (told.status, told.json["reason"]) == (404, reason)


def test_virtual_host_is_open_to_its_creator(api):
    body = {"description": "d", "tags": "a,b", "default_queue_type": "quorum"}
    assert api.ask("PUT", "/vhosts/v", body).status == 201
    assert api.ask("PUT", "/vhosts/v", b"").status == 204
    told = api.get("/vhosts/v")
    assert (told["description"], told["tags"], told["default_queue_type"]) == ("d", ["a", "b"], "quorum")
    assert [each["user"] for each in api.get("/vhosts/v/permissions")] == ["admin"]
    assert api.ask("DELETE", "/vhosts/v").status == 204
    assert api.ask("DELETE", "/vhosts/v").status == 404


def test_user_is_made_changed_and_deleted(api):
    assert api.ask("PUT", "/users/u", {"password": "p"}).json["reason"] == "tags_not_present"
    assert api.ask("PUT", "/users/u", {"password_hash": HASH, "tags": "a, b"}).status == 201
    assert api.ask("PUT", "/users/u", {"password_hash": HASH, "tags": ["c"]}).status == 204
    told = api.get("/users/u")
    assert (told["tags"], told["password_hash"]) == (["c"], HASH)
    for odd in (
        {"password_hash": "zz"},
        {"password_hash": None},
        {"password": None},
        {"password": "p", "password_hash": HASH},
        {"password": "", "password_hash": ""},
        {"password": "p", "tags": ["t" * 256]},
    ):
        assert api.ask("PUT", "/users/u2", {"tags": "", **odd}).status == 400
        assert api.ask("GET", "/users/u2").status == 404
    rights = {"configure": "^a", "write": "", "read": ".*"}
    assert api.ask("PUT", "/permissions/%2F/u", rights).status == 201
    assert api.ask("PUT", "/permissions/%2F/u", rights).status == 204
    assert api.get("/permissions/%2F/u") == {"user": "u", "vhost": "/", **rights}
    assert api.ask("PUT", "/permissions/%2F/none", rights).json["reason"] == "vhost_or_user_not_found"
    assert api.ask("PUT", "/permissions/%2F/u", {**rights, "read": "("}).status == 400
    assert api.ask("DELETE", "/permissions/%2F/u").status == 204
    assert api.ask("DELETE", "/permissions/%2F/u").status == 404
    assert api.ask("POST", "/users/bulk-delete", {"users": ["u"]}).status == 204
    assert api.ask("GET", "/users/u").status == 404


HASH = "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR"


def test_topic_permissions_limits_and_parameters_are_kept(api):
    rights = {"exchange": "amq.topic", "write": "^a", "read": ".*"}
    assert api.ask("PUT", "/topic-permissions/%2F/mon", rights).status == 201
    assert api.get("/topic-permissions/%2F/mon") == [{"user": "mon", "vhost": "/", **rights}]
    assert api.ask("DELETE", "/topic-permissions/%2F/mon").status == 204
    assert api.ask("PUT", "/vhost-limits/%2F/max-queues", {"value": 9}).status == 204
    assert api.get("/vhost-limits/%2F") == [{"vhost": "/", "value": {"max-queues": 9}}]
    assert api.ask("PUT", "/vhost-limits/%2F/nonsense", {"value": 9}).status == 400
    assert api.ask("DELETE", "/vhost-limits/%2F/max-queues").status == 204
    assert api.get("/vhost-limits") == []
    assert api.ask("PUT", "/user-limits/mon/max-connections", {"value": 1}).status == 204
    assert api.get("/user-limits") == [{"user": "mon", "value": {"max-connections": 1}}]
    assert api.ask("PUT", "/global-parameters/g", {"value": [1]}).status == 201
    assert api.get("/global-parameters/g") == {"name": "g", "value": [1]}
    assert api.ask("PUT", "/parameters/shovel/%2F/s", {"value": {}}).status == 400
    assert api.ask("PUT", "/cluster-name", {"name": "warren"}).status == 204
    assert api.get("/cluster-name") == {"name": "warren"}


def test_tracing_is_switched_on_and_off(api):
    firehose = api.node.vhost.firehose
    for given, on in ((True, True), ("false", False), ("true", True), (False, False)):
        assert api.ask("PUT", "/vhosts/%2F", {"tracing": given}).status == 204
        assert firehose.on is on
        assert api.get("/vhosts/%2F")["tracing"] is on
    assert api.ask("PUT", "/vhosts/%2F", {"tracing": "perhaps"}).status == 400


@pytest.mark.parametrize(
    "fields",
    [
        {"tracing": "perhaps"},
        {"tracing": True, "tracing_until_unbound": 7},
        {"description": 5},
        {"tags": [5]},
        {"tags": 5},
        {"tags": ["t" * 256]},
        {"default_queue_type": "odd"},
    ],
)
def test_a_refused_virtual_host_is_not_made(api, fields):
    assert api.ask("PUT", "/vhosts/refused", {"description": "d", **fields}).status == 400
    assert api.ask("GET", "/vhosts/refused").status == 404


def test_tracing_can_end_with_the_last_binding(api):
    vhost = api.node.vhost
    api.ask("PUT", "/vhosts/%2F", {"tracing": True, "tracing_until_unbound": True})
    trace, queue = vhost.exchange("amq.rabbitmq.trace"), api.node.queue("watching")
    vhost.bind(trace, queue, "#")
    assert vhost.firehose.on
    vhost.delete_queue(queue)
    assert not vhost.firehose.on
    assert api.ask("PUT", "/vhosts/%2F", {"tracing": True, "tracing_until_unbound": 7}).status == 400


def test_a_change_of_something_else_leaves_tracing_as_it_is(api):
    api.ask("PUT", "/vhosts/%2F", {"tracing": True})
    assert api.ask("PUT", "/vhosts/%2F", {"description": "x"}).status == 204
    assert api.ask("PUT", "/vhosts/%2F").status == 204
    assert api.get("/vhosts/%2F")["tracing"] is True


KEYS = ["a b", "a/b", "a%b", "a%2Fb", "é", "a~b", "a+b", "a.b", "", "~", "#", "*.x", "\udcff"]


@pytest.mark.parametrize("arguments", [{}, {"x": 1}, {"x": True}])
@pytest.mark.parametrize("key", KEYS)
def test_each_of_many_bindings_is_found_and_deleted_by_its_properties_key(api, key, arguments):
    api.node.queue("q")
    queue, source = api.vhost.queues["q"], api.vhost.exchanges["amq.topic"]
    for other in KEYS:
        for others in ({}, {"x": 1}, {"x": True}, {"x": 2}):
            if (other, str(others)) != (key, str(arguments)):
                api.vhost.bind(source, queue, other, others)
    others_keys = {each["properties_key"] for each in api.get("/bindings/%2F/e/amq.topic/q/q")}
    api.vhost.bind(source, queue, key, arguments)
    found = {each["properties_key"]: each for each in api.get("/bindings/%2F/e/amq.topic/q/q")}
    [own] = found.keys() - others_keys
    path = f"/bindings/%2F/e/amq.topic/q/q/{name(own)}"
    assert api.get(path) == found[own]
    assert api.ask("DELETE", path).status == 204
    assert {each["properties_key"] for each in api.get("/bindings/%2F/e/amq.topic/q/q")} == others_keys


@pytest.mark.parametrize(
    ("segment", "status"),
    [
        ("a%2Fb", 200),  # the properties key as it stands, which the path decodes to a/b
        ("a%252Fb", 200),  # percent-encoded once, as a name in a path should be
        ("a%25252Fb", 404),  # percent-encoded twice
        ("c+d", 200),
        ("c%20d", 200),
        ("c%2Bd", 200),
        ("c%252Bd", 404),
        ("e%257Ef", 200),
        ("e~f", 404),
        ("e%7Ef", 404),
        ("a%2Fb~", 200),
    ],
)
def test_properties_key_in_a_path_may_be_decoded_already(api, segment, status):
    """The statuses are those of RabbitMQ 3.10."""
    api.node.queue("q")
    queue, source = api.vhost.queues["q"], api.vhost.exchanges["amq.topic"]
    for key in ("a/b", "c d", "e~f"):
        api.vhost.bind(source, queue, key)
    path = f"/bindings/%2F/e/amq.topic/q/q/{segment}"
    assert api.ask("GET", path).status == status
    assert api.ask("DELETE", path).status == (204 if status == 200 else 404)


def test_binding_to_the_default_exchange_cannot_be_deleted(api):
    api.node.queue("q")
    assert api.ask("GET", "/bindings/%2F/e/amq.default/q/q/q").status == 200
    assert api.ask("DELETE", "/bindings/%2F/e/amq.default/q/q/q").status == 401
    assert api.ask("DELETE", "/bindings/%2F/e/amq.default/q/q/other").status == 404


def test_every_exchange_type_has_a_description():
    assert all(kind.description for kind in EXCHANGE_TYPES.values())
