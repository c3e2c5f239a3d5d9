"""Fixtures of the tests of connections.

In modules marked ``playbook``, tests that ask for ``connect`` and ``dial`` alone are played to RabbitMQ too,
by ``conformance.playbooks``.
"""

import pytest

from tests.router.amqp.world import World


@pytest.fixture
def world():
    return World()


@pytest.fixture
def connect(world):
    """Make a client with an open connection and channel 1 (``channels``: more of them)."""
    return world.connect


@pytest.fixture
def dial(world):
    """Make a client that has said nothing yet."""
    return world.client
