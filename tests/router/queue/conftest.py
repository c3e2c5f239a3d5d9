"""Fixtures of tests of queues with messages on disk."""

import pytest

from leveret.router.persistence.api import NoStorage
from leveret.router.queue import page_out
from tests.router.harness import Node
from tests.router.queue.fake_pager import FakePager
from tests.router.queue.paged import FEW, HEAD, PAGE


@pytest.fixture
def pager(monkeypatch):
    """A few messages make a page."""
    monkeypatch.setattr(page_out, "HEAD", HEAD)
    monkeypatch.setattr(page_out, "PAGE_MESSAGES", PAGE)
    monkeypatch.setattr(page_out, "FEW", FEW)
    return FakePager()


@pytest.fixture
def node(pager):
    node = Node()
    node.broker.storage = NoStorage()
    node.broker.storage.pager = pager
    return node


@pytest.fixture
def client(node):
    return node.client()
