"""Clients of the API that others have written set up the same things in both brokers."""

from typing import Any

import pytest
from pyrabbit2 import Client
from pyrabbit2.http import HTTPError
from rabbitmq_admin import AdminAPI

from conformance.management.sides import Side


@pytest.fixture(params=["leveret", "rabbitmq"])
def side(request: pytest.FixtureRequest) -> Side:
    found: Side = request.getfixturevalue(request.param)
    return found


def test_rabbitmq_admin_sets_up_a_virtual_host(side: Side) -> None:
    api = AdminAPI(f"http://127.0.0.1:{side.http}", ("guest", "guest"))
    assert api.overview()["object_totals"]["connections"] == 0
    assert api.whoami()["name"] == "guest"
    api.create_vhost("plan")
    api.create_user("planner", "secret", tags=["monitoring"])
    api.create_user_permission("planner", "plan", "^p", "^p", ".*")
    api.create_exchange_for_vhost("orders", "plan", {"type": "topic", "durable": True})
    api.create_policy_for_vhost("plan", "bound", {"max-length": 9}, pattern="^p", priority=1)
    assert api.get_vhost("plan")["name"] == "plan"
    assert api.get_user("planner")["tags"] == ["monitoring"]
    assert api.get_user_permission("plan", "planner")["configure"] == "^p"
    assert api.get_exchange_for_vhost("orders", "plan")["type"] == "topic"
    assert api.get_policy_for_vhost("plan", "bound")["definition"] == {"max-length": 9}
    assert api.is_vhost_alive("plan") == {"status": "ok"}
    assert {each["name"] for each in api.list_vhosts()} >= {"plan"}
    name = api.list_nodes()[0]["name"]
    assert api.get_node(name)["running"]
    api.post_definitions(api.get_definitions())
    api.delete_policy_for_vhost("plan", "bound")
    api.delete_exchange_for_vhost("orders", "plan", if_unused=True)
    api.delete_user_permission("planner", "plan")
    api.delete_user("planner")
    api.delete_vhost("plan")
    assert "plan" not in {each["name"] for each in api.list_vhosts()}


def test_pyrabbit_moves_a_message(side: Side) -> None:
    client: Any = Client(f"127.0.0.1:{side.http}", "guest", "guest")
    assert client.is_alive()
    client.create_vhost("py")
    client.set_vhost_permissions("py", "guest", ".*", ".*", ".*")
    client.create_exchange("py", "x", "direct")
    client.create_queue("py", "q", durable=True)
    client.create_binding("py", "x", "q", "key")
    assert client.publish("py", "x", "key", "hello")
    assert not client.publish("py", "x", "nowhere", "hello")
    (message,) = client.get_messages("py", "q")
    assert (message["payload"], message["redelivered"]) == ("hello", False)
    assert [each["routing_key"] for each in client.get_queue_bindings("py", "q")] == ["q", "key"]
    client.purge_queue("py", "q")
    client.delete_binding("py", "x", "q", "key")
    client.delete_queue("py", "q")
    client.delete_exchange("py", "x")
    with pytest.raises(HTTPError) as caught:
        client.get_queue("py", "q")
    assert caught.value.status == 404
    client.delete_vhost("py")
    assert "py" not in client.get_vhost_names()
