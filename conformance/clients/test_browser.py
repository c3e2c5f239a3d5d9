"""A page of leveret's in a headless Chromium: it subscribes over WebSocket, and again after a restart."""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pika
import pytest

from conformance import brokers
from conformance.clients.test_node import HERE, packages  # noqa: F401  (a fixture)

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium")

pytestmark = [
    pytest.mark.skipif(shutil.which("npm") is None, reason="node and its npm are not installed"),
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed"),
]


def publish(broker: brokers.Broker, key: str, body: str) -> None:
    with pika.BlockingConnection(pika.URLParameters(broker.url)) as connection:
        connection.channel().basic_publish("amq.topic", key, body.encode())


@contextlib.contextmanager
def chromium(modules: Path, *arguments: str) -> Iterator[Iterator[str]]:
    """Run node/page.js for a ``with`` block: the lines that it prints, to the end."""
    with subprocess.Popen(
        ["node", str(HERE / "page.js"), *arguments],
        env=os.environ | {"NODE_PATH": str(modules), "CHROMIUM": str(CHROMIUM)},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            yield map(str.rstrip, process.stdout)
        finally:
            process.terminate()


def test_demo_page_receives_what_is_published_and_reconnects(packages: Path) -> None:  # noqa: F811
    with contextlib.ExitStack() as stack:
        with brokers.leveret() as broker:
            url = f"http://localhost:{broker.http_port}/demo"
            told = stack.enter_context(chromium(packages, url, "first", "-", "second"))
            assert next(told) == "subscribed"
            publish(broker, "other.key", "not for it")
            publish(broker, "demo.one", "first")
            assert next(told) == "demo.one: first"
        with brokers.leveret(port=broker.port, http_port=broker.http_port or 0) as again:
            assert [next(told), next(told)] == ["disconnected", "subscribed"]
            publish(again, "demo.two", "second")
            assert next(told) == "demo.two: second"
            assert list(told) == []
