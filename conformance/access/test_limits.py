"""Limits of virtual hosts and users, in RabbitMQ's words."""

import pytest

from conformance.access.conftest import ALL, Managed, refusal


def test_connections_of_a_virtual_host(managed: Managed, vhost, user):
    managed.do("PUT", "vhost-limits", vhost, "max-connections", body={"value": 1})
    first = managed.connect(user, vhost)
    text = (
        f"NOT_ALLOWED - access to vhost '{vhost}' refused for user '{user}': connection limit (1) is reached"
    )
    assert refusal(lambda: managed.connect(user, vhost)) == (530, text)
    first.close()
    managed.do("PUT", "vhost-limits", vhost, "max-connections", body={"value": -1})
    for connection in [managed.connect(user, vhost) for _ in range(2)]:
        connection.close()


def test_connections_of_a_user(managed: Managed, vhost, user):
    managed.do("PUT", "user-limits", user, "max-connections", body={"value": 1})
    first = managed.connect(user, vhost)
    text = f"NOT_ALLOWED - connection refused for user '{user}': user connection limit (1) is reached"
    assert refusal(lambda: managed.connect(user, vhost)) == (530, text)
    first.close()
    managed.do("DELETE", "user-limits", user, "max-connections")
    for connection in [managed.connect(user, vhost) for _ in range(2)]:
        connection.close()


def test_channels_of_a_user(managed: Managed, vhost, user):
    managed.do("PUT", "user-limits", user, "max-channels", body={"value": 1})
    connection = managed.connect(user, vhost)
    connection.channel()
    text = (
        f"NOT_ALLOWED - number of channels opened for user '{user}' has reached "
        "the maximum allowed user limit of (1)"
    )
    assert refusal(connection.channel) == (530, text)


def test_queues_of_a_virtual_host(managed: Managed, vhost, user):
    managed.do("PUT", "vhost-limits", vhost, "max-queues", body={"value": 1})
    connection = managed.connect(user, vhost)
    connection.channel().queue_declare("a")
    connection.channel().queue_declare("a")
    text = f"PRECONDITION_FAILED - cannot declare queue 'b': queue limit in vhost '{vhost}' (1) is reached"
    assert refusal(lambda: connection.channel().queue_declare("b")) == (406, text)
    connection.close()


@pytest.mark.parametrize(
    ("properties", "kind"),
    [
        ({"durable": True}, "quorum"),
        ({}, "classic"),
        ({"durable": True, "exclusive": True}, "classic"),
        ({"durable": True, "auto_delete": True}, "classic"),
        ({"durable": True, "arguments": {"x-queue-type": "classic"}}, "classic"),
    ],
)
def test_default_queue_type(managed: Managed, unique, properties, kind):
    said = {"default_queue_type": "quorum"}
    document = {"vhosts": [{"name": unique, **said, "metadata": said}]}
    managed.do("POST", "definitions", body=document)  # 3.10 takes it from there only
    managed.permit("guest", unique, **ALL)
    connection = managed.connect("guest", unique)
    for _ in range(2):
        connection.channel().queue_declare("q", **properties)
    assert managed.do("GET", "queues", unique, "q").get("type", "classic") == kind
    told = refusal(lambda: connection.channel().queue_declare("", durable=True))
    text = "PRECONDITION_FAILED - Cannot declare a server-named queue for type rabbit_quorum_queue"
    assert told == (406, text)
    connection.close()
    managed.do("DELETE", "vhosts", unique)


@pytest.mark.parametrize(
    ("limit", "value", "told"),
    [
        ("odd", 1, 'Unrecognised terms [{<<"odd">>,1}] in limits'),
        ("max-queues", "x", 'max-queues should be a number, actually was <<"x">>'),
        ("max-queues", 1.5, "max-queues should be a number, actually was 1.5"),
    ],
)
def test_what_is_no_limit(managed: Managed, vhost, limit, value, told):
    status, answer = managed.call("PUT", "vhost-limits", vhost, limit, body={"value": value})
    assert status == 400
    assert told in answer["reason"]
