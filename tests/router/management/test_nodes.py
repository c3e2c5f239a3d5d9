"""The node: its memory by category, its use of the machine, and attempts to log in."""

import pytest

from leveret.router.management.metrics.broker_metrics import identity
from leveret.router.management.node import Measurements
from leveret.router.management.resources.queues import MESSAGE
from leveret.router.management.statistics.memory import (
    CATEGORIES,
    DURABLE,
    LOADED_LATER,
    OWNERS,
    QUEUE,
    SLICE,
)

NODE = "/nodes/leveret@test"


@pytest.fixture
def busy(api):
    for name, kind in (("c", "classic"), ("q", "quorum"), ("s", "stream")):
        api.vhost.declare_queue(name, durable=True, arguments={"x-queue-type": kind})
        api.node.client().publish("x" * 10, name)
    api.node.settle()
    return api


def test_memory_by_category_adds_up_to_what_the_process_takes_up(busy, monkeypatch):
    monkeypatch.setattr(
        busy.context.node, "measured", lambda: Measurements(1_000_000, 0, None, 0, 0, 0, 0), raising=False
    )
    told = busy.get(f"{NODE}/memory")["memory"]
    assert told.pop("strategy") == "rss"
    assert told.pop("total") == {"rss": 1_000_000, "allocated": 1_000_000, "erlang": 1_000_000}
    owners = told.pop("leveret")
    assert owners.keys() == set(OWNERS)
    assert told.keys() == set(CATEGORIES)
    assert sum(told.values()) == sum(owners.values()) == 1_000_000
    assert told["queue_procs"] == owners["classic_queues"] == QUEUE + MESSAGE + 10
    assert told["quorum_queue_procs"] == owners["quorum_queues"] == QUEUE + MESSAGE + 10
    assert owners["metadata"] == 3 * DURABLE
    assert told["other_system"] > 900_000


def test_every_owner_has_a_category_of_rabbitmq():
    assert set(OWNERS.values()) <= set(CATEGORIES)


def test_memory_of_what_clients_send_has_owners(api):
    api.node.queue("q")
    client = api.node.client(owner=object())
    client.publish("x" * 1000, "q")
    api.broker.incoming.grow(client, "user a", 5000)
    api.broker.dead_letters.held_bytes = 700
    owners = api.get(f"{NODE}/memory")["memory"]["leveret"]
    assert (owners["incomplete"], owners["dead_letters"]) == (5500, 700)  # a tenth more for what parts pin
    assert owners["plans"] == api.vhost.routes.size > 0


def test_what_the_c_library_counts_as_free_is_never_more_than_is_left(api, monkeypatch):
    measured = Measurements(1_000_000, 0, None, 0, 0, 0, 0)
    monkeypatch.setattr(api.context.node, "freed_memory", lambda: 5_000_000, raising=False)
    monkeypatch.setattr(api.context.node, "measured", lambda: measured, raising=False)
    owners = api.get(f"{NODE}/memory")["memory"]["leveret"]
    assert owners["unexplained"] == 0
    assert sum(owners.values()) == 1_000_000


def test_memory_at_the_start_and_freed_memory_have_categories_of_their_own(busy, monkeypatch):
    measured = Measurements(9_000_000, 0, None, 0, 0, 0, 0, memory_at_start=600_000)
    monkeypatch.setattr(busy.context.node, "freed_memory", lambda: 50_000, raising=False)
    monkeypatch.setattr(busy.context.node, "measured", lambda: measured, raising=False)
    told = busy.get(f"{NODE}/memory")["memory"]
    assert (told["code"], told["allocated_unused"]) == (600_000 + LOADED_LATER, 50_000)
    known = 650_000 + LOADED_LATER + 3 * (QUEUE + MESSAGE + 10 + DURABLE)
    assert told["other_system"] == pytest.approx(9_000_000 - known, abs=2000)


def test_memory_adds_up_though_estimates_are_too_high(busy):
    told = busy.get(f"{NODE}/memory")["memory"]  # the process takes up 1000 bytes here
    del told["strategy"], told["leveret"]
    total = told.pop("total")["rss"]
    assert sum(told.values()) == total == 1000
    assert min(told.values()) >= 0


def test_relative_memory_is_in_percent(busy):
    told = busy.get(f"{NODE}/memory/relative")["memory"]
    assert told.pop("total") == 100
    assert told.keys() == set(CATEGORIES)
    assert 100 <= sum(told.values()) <= 100 + len(CATEGORIES)


def test_memory_of_many_queues_lets_others_run(api):
    for number in range(3 * SLICE):
        api.node.queue(f"q{number}")
    assert api.ask("GET", f"{NODE}/memory").pauses >= 2


def test_rates_of_the_node_are_those_between_two_samples(api):
    api.sampler.sample_node(Measurements(1000, 0, 500, 0, 7, 0, 3, collections=10))
    api.broker.now += 2000
    api.sampler.sample_node(Measurements(3000, 0, 500, 0, 7, 0, 3, collections=14))
    told = api.get(NODE)
    assert told["mem_used_details"] == {"rate": 1000.0}
    assert told["gc_num_details"] == {"rate": 2.0}
    assert told["disk_free_details"] == {"rate": 0.0}


@pytest.mark.parametrize("path", ["memory", "memory/relative"])
def test_another_node_is_not_found(api, path):
    assert api.ask("GET", f"/nodes/other/{path}").status == 404


def test_attempts_to_log_in_are_counted_and_reset(api):
    api.ask("GET", "/whoami", headers={"authorization": "Basic Z3Vlc3Q6bm8="}, user=None)
    api.get("/whoami")
    (told,) = api.get("/auth/attempts/leveret@test")
    assert told == {
        "protocol": "http",
        "auth_attempts": 3,  # this one too
        "auth_attempts_failed": 1,
        "auth_attempts_succeeded": 2,
    }
    assert api.get("/auth/attempts/leveret@test/source") == []
    assert api.ask("DELETE", "/auth/attempts/leveret@test").status == 204
    assert api.get("/auth/attempts/leveret@test")[0]["auth_attempts"] == 1
    assert api.ask("DELETE", "/auth/attempts/leveret@test/source").status == 204


@pytest.mark.parametrize("path", ["", "/source"])
@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_attempts_are_for_monitoring_users_and_this_node(api, method, path):
    assert api.ask(method, f"/auth/attempts/other{path}").status == 404
    assert api.ask(method, f"/auth/attempts/leveret@test{path}", user="mgmt").status == 401


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("/nodes?columns=name,running", [{"name": "leveret@test", "running": True}]),
        (f"{NODE}?columns=name", {"name": "leveret@test"}),
        ("/overview?columns=node", {"node": "leveret@test"}),
        (f"{NODE}?memory=false&columns=memory", {}),
    ],
)
def test_columns_of_nodes_and_the_overview_are_chosen(api, path, told):
    assert api.get(path) == told


def test_a_node_is_shown_with_its_memory_on_request(busy):
    told = busy.get(f"{NODE}?memory=true")["memory"]
    assert told == busy.get(f"{NODE}/memory")["memory"]
    assert "memory" not in busy.get(NODE)


def test_the_cluster_name_is_the_same_everywhere(api):
    def names():
        labels = next(
            each for each in identity(api.context) if each.family.name.endswith("identity_info")
        ).labels
        metrics = dict(labels)["rabbitmq_cluster"]
        return {api.get("/overview")["cluster_name"], api.get("/cluster-name")["name"], metrics}

    assert names() == {api.broker.node_name}
    api.ask("PUT", "/global-parameters/cluster_name", {"value": {"a": 1}})
    assert names() == {api.broker.node_name}
    assert api.ask("PUT", "/cluster-name", {"name": "hutch"}).status == 204
    assert names() == {"hutch"}
    long = "x" * 256
    assert api.ask("PUT", "/cluster-name", {"name": long}).status == 400
    assert api.ask("PUT", "/global-parameters/cluster_name", {"value": long}).status == 400
    assert names() == {"hutch"}
