"""A broker in a cluster, as its node and its metrics show it; nothing of that for a broker alone."""

import time

import pytest

from leveret.router.cluster.state import ClusterRole, ClusterState
from leveret.router.web.pages import pages
from tests.router.management.test_metrics import asked, samples


@pytest.fixture
def state(api) -> ClusterState:
    now = time.monotonic()
    state = ClusterState("a", "broker-a:5672", ClusterRole.ACTIVE, epoch=4, position=9, position_at=now)
    state.standbys, state.commits, state.commit_seconds = ("b",), 20, 0.5
    api.context.node.cluster = state
    return state


def test_node_of_a_broker_alone_has_no_cluster(api):
    (node,) = api.ask("GET", "/nodes").json
    assert "leveret_cluster" not in node
    assert not [name for name, *_ in samples(asked(api)[1]) if name.startswith("leveret_cluster_")]


def test_node_shows_role_epoch_and_standbys(api, state):
    (node,) = api.ask("GET", "/nodes").json
    cluster = node["leveret_cluster"]
    assert (cluster["node"], cluster["role"], cluster["epoch"]) == ("a", "active", 4)
    assert cluster["standbys"] == ["b"]
    assert cluster["advertise"] == "broker-a:5672"


def test_metrics_show_the_lease_and_the_commits(api, state):
    found = {name: value for (name, *_), value in samples(asked(api)[1]).items()}
    assert found["leveret_cluster_active"] == 1
    assert found["leveret_cluster_epoch"] == 4
    assert found["leveret_cluster_commits_total"] == 20
    assert found["leveret_cluster_commit_seconds_total"] == 0.5
    assert found["leveret_cluster_standbys"] == 1
    assert 0 <= found["leveret_cluster_last_commit_age_seconds"] < 60


@pytest.mark.parametrize(
    ("role", "observed", "ready"),
    [
        (ClusterRole.STANDBY, 0.0, False),
        (ClusterRole.STANDBY, 99.0, True),
        (ClusterRole.STANDBY, 90.0, False),
        (ClusterRole.ACTIVE, 0.0, True),
        (ClusterRole.SUSPENDED, 99.0, False),
        (ClusterRole.TAKING_OVER, 99.0, False),
    ],
)
def test_standby_is_ready_while_the_store_answers(role, observed, ready):
    assert ClusterState("a", "", role, observed_at=observed).is_ready(100.0) is ready


@pytest.mark.parametrize(("is_active", "status"), [(True, 200), (False, 503)])
def test_health_checks_of_a_suspended_broker_fail(api, is_active, status):
    table = pages(api.broker, is_active=lambda: is_active)
    assert table["/health/active"]["GET"](None).status == status
    assert table["/ready"]["GET"](None).status == status
    assert table["/health"]["GET"](None).status == 200
