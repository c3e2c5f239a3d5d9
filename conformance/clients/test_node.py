"""amqplib and @cloudamqp/amqp-client under Node: runs node/work.js, and node/web.js over WebSocket.

Their packages are installed once into a cache of the user.
"""

import os
import subprocess
from pathlib import Path

import pytest

from conformance.brokers import Broker
from conformance.clients.node_packages import install
from tests.tools import need

HERE = Path(__file__).parent / "node"


@pytest.fixture(scope="module")
def packages() -> Path:
    need("node")
    return install()


def test_amqplib_works_through_its_promise_and_callback_apis(broker: Broker, packages: Path) -> None:
    run("work.js", packages, AMQP_URL=broker.url)


def test_amqp_client_works_over_websocket(broker: Broker, packages: Path) -> None:
    if broker.http_port is None:
        pytest.skip("only leveret speaks AMQP over WebSocket")
    run("web.js", packages, AMQP_URL=broker.url, WS_URL=f"ws://127.0.0.1:{broker.http_port}/ws/amqp")


def run(script: str, packages: Path, **environ: str) -> None:
    """Run the tests of a script; AssertionError with their output when they fail."""
    done = subprocess.run(
        ["node", "--test", "--test-reporter=spec", str(HERE / script)],
        env=os.environ | {"NODE_PATH": str(packages)} | environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout
