"""The brokers that conformance runs talk to: leveret, a private RabbitMQ, or one that already runs somewhere.

Owns starting each of them, finding the port it listens on, and ending it. Knows nothing of what is then
asked of it.
"""

import argparse
import contextlib
import hashlib
import os
import queue
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from conformance.rabbitmq import RabbitMQ

ROOT = Path(__file__).resolve().parent.parent
START_TIMEOUT = 30.0  # seconds until leveret must accept connections
POLL = 0.002  # seconds between looks whether it listens
STOP_TIMEOUT = 10.0  # seconds from SIGTERM to SIGKILL
# Works from a checkout, whether or not the distribution is installed.
LEVERET = (sys.executable, "-m", "leveret")
STORE = "LEVERET_STORE__URL"  # the variable with the URL of a PostgreSQL, which leveret reads as well
ADDRESS = re.compile(r"(127\.0\.0\.1|localhost|\[::1\]):([1-9]\d*)")
HTTP_ADDRESS = re.compile(r"http://127\.0\.0\.1:([1-9]\d*)")


class BrokerError(Exception):
    """A broker did not start, or cannot do what was asked; the text holds what it printed."""


@dataclass(frozen=True)
class Broker:
    """Where a running broker is and how to log in.

    ``pid`` is leveret's process, ``http_port`` where its management API is. ``leave`` makes the broker close
    its connections in good order and stop, where the end of the ``with`` block does not. All are None where
    there is no such thing.
    """

    name: str
    host: str
    port: int
    user: str = "guest"
    password: str = "guest"
    vhost: str = "/"
    pid: int | None = None
    http_port: int | None = None
    make_vhost: Callable[[str], None] | None = None
    leave: Callable[[], None] | None = None

    @property
    def address(self) -> str:
        """``user:password@host:port``, the part of an URL that all client libraries agree on."""
        return f"{quote(self.user, '')}:{quote(self.password, '')}@{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """The AMQP URL of the virtual host, whose name is percent-encoded."""
        return f"amqp://{self.address}/{quote(self.vhost, '')}"

    def with_vhost(self, name: str) -> "Broker":
        """Make another virtual host, open to the user; BrokerError where that cannot be done."""
        if self.make_vhost is None:
            raise BrokerError(f"{self.name}: there is no way to make a virtual host here")
        self.make_vhost(name)
        return replace(self, vhost=name)


@contextlib.contextmanager
def start(what: str, port: int = 0, arguments: Sequence[str] = ()) -> Iterator[Broker]:
    """Start ``what`` ("leveret", "rabbitmq", or the URL of a running broker) for a ``with`` block.

    ``arguments`` are leveret's own, for what a RabbitMQ does without being told.
    """
    if what == "leveret":
        with leveret(port=port, arguments=arguments) as broker:
            yield broker
    elif what == "rabbitmq":
        with RabbitMQ(plugins=["rabbitmq_management"], port=port or None) as node:
            yield rabbitmq_broker(node)
    elif what.startswith("amqp://"):
        yield from_url(what)
    else:
        raise BrokerError(f"--broker {what}: leveret, rabbitmq or an amqp:// URL")


def rabbitmq_broker(node: RabbitMQ) -> Broker:
    """The handle of a running private RabbitMQ."""

    def make_vhost(name: str) -> None:
        node.ctl("add_vhost", name)
        node.ctl("set_permissions", "-p", name, "guest", ".*", ".*", ".*")

    return Broker(
        "rabbitmq",
        "127.0.0.1",
        node.port,
        http_port=node.plugin_ports.get("rabbitmq_management"),
        make_vhost=make_vhost,
        leave=lambda: node.ctl("stop_app"),
    )


def from_url(url: str) -> Broker:
    """The handle of a broker that somebody else runs: ``amqp://user:password@host:port/vhost``."""
    parts = urlsplit(url)
    return Broker(
        url,
        parts.hostname or "127.0.0.1",
        parts.port or 5672,
        unquote(parts.username or "guest"),
        unquote(parts.password or "guest"),
        unquote(parts.path[1:]) or "/",
    )


@contextlib.contextmanager
def leveret(
    data: str = ":memory:", port: int = 0, arguments: Sequence[str] = (), http_port: int = 0
) -> Iterator[Broker]:
    """Run leveret as a process; ``data`` is its directory or ``:memory:``, a port of 0 lets it choose.

    It prints its address once it listens. Any line may hold it: the first address that answers an AMQP
    protocol header is taken, so that other listeners and log lines do no harm.
    """
    listen = ("--amqp", f"127.0.0.1:{port}", "--http", f"127.0.0.1:{http_port}")
    with tempfile.NamedTemporaryFile(prefix="leveret-", suffix=".log") as log:
        process = subprocess.Popen(
            [*LEVERET, "serve", *listen, *_store(data), *arguments],
            cwd=ROOT,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        try:
            host, listening = _await_address(process, Path(log.name))
            http = HTTP_ADDRESS.search(Path(log.name).read_text(errors="replace"))
            http_port = int(http[1]) if http is not None else None
            yield Broker("leveret", host, listening, pid=process.pid, http_port=http_port)
        finally:
            _end(process)


def _store(data: str) -> tuple[str, ...]:
    """The options for what a broker stores: in the PostgreSQL that ``STORE`` names, or else in ``data``.

    Every directory has a schema of its own there, and so has every broker without a directory.
    """
    if not os.environ.get(STORE):
        return ("--data", data)
    name = os.urandom(8).hex() if data == ":memory:" else hashlib.sha256(data.encode()).hexdigest()[:16]
    return ("--data", data, "--set", f"store.schema=broker_{name}")


def _await_address(process: subprocess.Popen[bytes], log: Path) -> tuple[str, int]:
    deadline = time.monotonic() + START_TIMEOUT
    while True:
        ended = process.poll() is not None
        printed = log.read_text(errors="replace")
        for host, port in ADDRESS.findall(printed):
            if speaks_amqp(host.strip("[]"), int(port)):
                return host.strip("[]"), int(port)
        if ended:
            raise BrokerError(f"leveret ended with {process.returncode}:\n{printed[-4000:]}")
        if time.monotonic() > deadline:
            raise BrokerError(f"leveret printed no AMQP address in {START_TIMEOUT} s:\n{printed[-4000:]}")
        time.sleep(POLL)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def speaks_amqp(host: str, port: int) -> bool:
    """Whether something there answers the AMQP 0-9-1 protocol header with a method frame on channel 0."""
    try:
        with socket.create_connection((host, port), timeout=5) as connection:
            connection.sendall(b"AMQP\x00\x00\x09\x01")
            return connection.recv(3) == b"\x01\x00\x00"
    except OSError:
        return False


def main() -> None:
    """Run a broker and print its URL. SIGINT stops it in good order; SIGTERM or the end of input at once."""
    parser = argparse.ArgumentParser(prog="python -m conformance.brokers", description=main.__doc__)
    parser.add_argument("broker", choices=["leveret", "rabbitmq"])
    parser.add_argument("--port", type=int, default=0, help="AMQP port (default: a free one)")
    options = parser.parse_args()
    ends: queue.SimpleQueue[str] = queue.SimpleQueue()
    signal.signal(signal.SIGINT, lambda *_: ends.put("orderly"))
    signal.signal(signal.SIGTERM, lambda *_: ends.put("at once"))
    with start(options.broker, options.port) as broker:
        print(broker.url, flush=True)
        threading.Thread(target=lambda: ends.put(sys.stdin.read() and "at once"), daemon=True).start()
        end = ends.get()
        if end == "orderly" and broker.leave is not None:
            broker.leave()
        elif end != "orderly" and broker.pid is not None:
            os.kill(broker.pid, signal.SIGKILL)


if __name__ == "__main__":
    main()
