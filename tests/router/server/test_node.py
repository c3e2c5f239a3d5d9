"""Measurements of the process for the management API."""

from leveret.router.broker.broker import Broker
from leveret.router.server import node as node_module
from leveret.router.server.node import SELDOM, ServerNode
from leveret.router.settings import Settings


def test_a_slow_count_of_freed_memory_is_repeated_seldom(monkeypatch):
    moment = [100.0]
    sizes = iter((10, 20))

    def slow():
        moment[0] += 0.05
        return next(sizes)

    monkeypatch.setattr(node_module.time, "perf_counter", lambda: moment[0])
    monkeypatch.setattr(node_module.machine, "freed_memory", slow)
    node = ServerNode(Broker(Settings()), (), None, None)
    assert node.freed_memory() == 10
    moment[0] += 0.04 * SELDOM
    assert node.freed_memory() == 10
    moment[0] += 0.02 * SELDOM
    assert node.freed_memory() == 20
