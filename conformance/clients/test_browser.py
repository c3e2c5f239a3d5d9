"""A page of leveret's in a headless Chromium: it subscribes over WebSocket, and again after a restart."""

import contextlib
import functools
import http.server
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pika
import pytest

from conformance import brokers
from conformance.clients.test_node import HERE, packages  # noqa: F401  (a fixture)
from tests.tools import CHROMIUM

pytestmark = pytest.mark.needs("chromium")


def publish(broker: brokers.Broker, key: str, *bodies: str) -> None:
    with pika.BlockingConnection(pika.URLParameters(broker.url)) as connection:
        channel = connection.channel()
        for body in bodies:
            channel.basic_publish("amq.topic", key, body.encode())


@contextlib.contextmanager
def chromium(modules: Path, script: str, *arguments: str) -> Iterator[Iterator[str]]:
    """Run a script in node/ for a ``with`` block: the lines that it prints, to the end."""
    with subprocess.Popen(
        ["node", str(HERE / script), *arguments],
        env=os.environ | {"NODE_PATH": str(modules), "CHROMIUM": str(shutil.which(CHROMIUM))},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            yield map(str.rstrip, process.stdout)
        finally:
            process.terminate()


@pytest.mark.parametrize("protocol", ["amqp", "stomp"])
def test_demo_page_receives_acknowledges_publishes_and_reconnects(
    packages: Path,  # noqa: F811
    tmp_path: Path,
    protocol: str,
) -> None:
    screenshot = tmp_path / f"{protocol}.png"  # to look at afterwards
    steps = ("wait first", "count 301", "publish demo.hello", "columns", "lost", "wait second")
    with contextlib.ExitStack() as stack:
        with brokers.leveret() as broker:
            url = f"http://localhost:{broker.http_port}/demo"
            told = stack.enter_context(
                chromium(packages, "page.js", url, protocol, "demo.#", str(screenshot), *steps)
            )
            assert next(told) == "subscribed"
            publish(broker, "other.key", "not for it")
            publish(broker, "demo.one", "first")
            assert next(told) == "demo.one: first"
            publish(broker, "demo.many", *map(str, range(300)))  # thrice the prefetch: they are acknowledged
            assert next(told) == "301 messages"
            assert next(told) == 'demo.hello: {"hello": "world"}'
            assert next(told) == "1 columns of bodies"  # though the keys differ in length
        with brokers.leveret(port=broker.port, http_port=broker.http_port or 0) as again:
            assert [next(told), next(told)] == ["reconnecting", "subscribed"]
            publish(again, "demo.two", "second")
            assert next(told) == "demo.two: second"
            assert list(told) == []
    assert screenshot.stat().st_size > 10_000


@pytest.mark.parametrize(
    ("protocol", "binding", "key"),
    [("amqp", "demo.#", "demo.a/b%c ü"), ("stomp", "demo.#", "demo.a/b%c ü"), ("stomp", "a/b", "a/b")],
)
def test_demo_page_takes_any_routing_key(
    packages: Path,  # noqa: F811
    tmp_path: Path,
    protocol: str,
    binding: str,
    key: str,
) -> None:
    arguments = (protocol, binding, str(tmp_path / "end.png"), f"publish {key}")
    with brokers.leveret() as broker:
        url = f"http://localhost:{broker.http_port}/demo"
        with chromium(packages, "page.js", url, *arguments) as told:
            assert list(told) == ["subscribed", f'{key}: {{"hello": "world"}}']


WEB = Path(__file__).parents[2] / "docs" / "web.md"
SNIPPETS = re.findall(r"```html\n(.*?)```", WEB.read_text(), re.DOTALL)


@contextlib.contextmanager
def site(directory: Path) -> Iterator[str]:
    """Serve the files of a directory for a ``with`` block: the URL of an origin that is not the broker's."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments: object) -> None:
            """Say nothing."""

    handler = functools.partial(Handler, directory=str(directory))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://localhost:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("snippet", SNIPPETS, ids=["amqp", "stomp"])
def test_pages_of_the_documentation_subscribe(
    packages: Path,  # noqa: F811
    tmp_path: Path,
    snippet: str,
) -> None:
    assert snippet.count("\n") <= 17  # and two of them are the element
    with brokers.leveret() as broker, site(tmp_path) as url:
        page = snippet.replace("localhost:15672", f"localhost:{broker.http_port}")
        (tmp_path / "page.html").write_text('<link rel="icon" href="data:,">\n' + page)
        with chromium(packages, "snippet.js", f"{url}/page.html", "2") as told:
            assert next(told) == "subscribed"
            publish(broker, "orders.eu.deleted", "not for it")
            publish(broker, "orders.eu.created", "hello")
            assert next(told) == "orders.eu.created hello"
            assert list(told) == []


def test_the_stomp_page_of_the_documentation_tells_why_it_was_refused(
    packages: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    page = SNIPPETS[1].replace('passcode: "guest"', 'passcode: "wrong"')
    with brokers.leveret() as broker, site(tmp_path) as url:
        page = page.replace("localhost:15672", f"localhost:{broker.http_port}")
        (tmp_path / "page.html").write_text('<link rel="icon" href="data:,">\n' + page)
        with chromium(packages, "snippet.js", f"{url}/page.html", "1") as told:
            assert next(told) == "Access refused for user 'guest'"
