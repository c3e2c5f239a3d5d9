"""Requests and replies over short-lived queues leave nothing in memory."""

import gc
import tracemalloc

import pytest

from leveret.router.auth import User
from tests.router.harness import Node

SESSIONS = 10
CALLS = 60  # of each session, in each round


def churn(node, clients, start, exchange):
    """Have each client publish to reply queues of its own, which are deleted behind it."""
    for number in range(start, start + CALLS):
        for place, client in enumerate(clients):
            name = f"amq.gen-{place}-{number}-{'r' * 60}"
            queue = node.vhost.declare_queue(name)
            if exchange:
                node.vhost.bind(node.vhost.exchange(exchange), queue, name)
            client.publish("answer", name, exchange)
            client.publish("late", f"{name}-gone", exchange)
            node.vhost.delete_queue(queue)
    node.settle()


@pytest.fixture
def node():
    return Node()


@pytest.fixture
def clients(node):
    user = User("alice")
    user.permit("/", configure=".*", write=".*", read=".*")
    user.permit_topic("/", "amq.topic", write=".*", read=".*")
    return [node.client(user) for _ in range(SESSIONS)]


@pytest.mark.slow
@pytest.mark.parametrize("exchange", ["", "amq.direct", "amq.topic", "amq.headers"])
def test_memory_is_flat_under_rpc_churn(node, clients, exchange, monkeypatch):
    monkeypatch.setattr("leveret.router.exchange.routing.PLANS", 200)
    monkeypatch.setattr("leveret.router.auth.users.VERDICTS", 200)
    tracemalloc.start()
    try:
        used = []
        for round in range(4):
            churn(node, clients, round * CALLS, exchange)
            gc.collect()
            used.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    # A plan and a grant that stayed for each of the 1,200 names of a round would be over 600 kB.
    assert used[-1] - used[1] < 150_000, used
    assert len(node.vhost.routes.plans) <= 200


def test_many_sessions_share_the_plans_of_their_virtual_host(node, clients):
    for number in range(100):
        node.queue(f"q{number}")
        for client in clients:
            client.publish("a", f"q{number}")
    assert len(node.vhost.routes.plans) == 100
