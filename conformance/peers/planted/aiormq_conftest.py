"""The fixtures that aiormq's tests expect from a file that its source distribution leaves out."""

import pytest
from yarl import URL

from tests.docker_client import DockerClient


@pytest.fixture(scope="session")
def rabbitmq_container():
    """The broker that runs for the whole suite."""
    return DockerClient().run("", ["5672/tcp", "5671/tcp"])


@pytest.fixture(scope="session")
def amqp_direct_url(rabbitmq_container):
    """Its plain AMQP address."""
    return URL.build(
        scheme="amqp",
        user="guest",
        password="guest",
        host=rabbitmq_container.host,
        port=rabbitmq_container.ports["5672/tcp"],
        path="//",
    )
