"""A private RabbitMQ node on loopback, started for a test and removed after it.

Owns the processes (the node and an epmd of its own), their ports and one temporary directory that holds
everything they write: database, logs, configuration, plugin list and Erlang cookie. Nothing outside it is
touched, so that nodes can run beside each other and beside one of the system. Speaks no AMQP beyond the
protocol header that shows the node accepts.

``python -m conformance.rabbitmq --port 5673`` runs one until interrupted.
"""

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.tools import RABBITMQ

POLL = 0.02  # seconds between looks whether it answers
PORTS = range(15_700, 32_000)  # below those that Linux gives to connections and for port 0
START_TIMEOUT = 120.0  # seconds; a busy machine with many plugins is slow to boot
PORT_KEYS = {
    "rabbitmq_management": ("management.tcp.ip", "management.tcp.port"),
    "rabbitmq_prometheus": ("prometheus.tcp.ip", "prometheus.tcp.port"),
    "rabbitmq_web_stomp": ("web_stomp.tcp.ip", "web_stomp.tcp.port"),
    "rabbitmq_web_mqtt": ("web_mqtt.tcp.ip", "web_mqtt.tcp.port"),
}
LISTENER_KEYS = {
    "rabbitmq_stomp": "stomp.listeners.tcp.1",
    "rabbitmq_mqtt": "mqtt.listeners.tcp.1",
    "rabbitmq_stream": "stream.listeners.tcp.1",
}


class RabbitMQError(Exception):
    """The node did not start, or a ``rabbitmqctl`` command failed; the text holds what it printed."""


def free_ports(count: int) -> list[int]:
    """Return ``count`` different TCP ports that are free on loopback.

    They are out of the range from which Linux chooses ports itself: no other test gets one of them while
    the node starts, which takes seconds.
    """
    found: list[int] = []
    for port in random.sample(PORTS, len(PORTS)):
        with socket.socket() as each, contextlib.suppress(OSError):
            each.bind(("127.0.0.1", port))
            found.append(port)
        if len(found) == count:
            return found
    raise RabbitMQError(f"there are no {count} free ports among {PORTS}")


class RabbitMQ:
    """A RabbitMQ node that lives as long as the ``with`` block.

    ``plugins`` are names as ``rabbitmq-plugins`` knows them; each that listens gets a port of its own in
    ``plugin_ports``. ``definitions`` is a definitions document, loaded at boot. ``config`` adds settings of
    ``rabbitmq.conf`` and wins over the defaults given here. ``port`` is the AMQP port (default: a free one).
    Entering the block raises RabbitMQError when the node does not start.
    """

    def __init__(
        self,
        plugins: Iterable[str] = (),
        definitions: Mapping[str, object] | None = None,
        config: Mapping[str, object] | None = None,
        port: int | None = None,
    ) -> None:
        self.plugins = tuple(plugins)
        self.definitions = definitions
        self.config = dict(config or {})
        amqp, self._dist_port, self._epmd_port, *others = free_ports(3 + len(self.plugins))
        self.port = amqp if port is None else port
        self.plugin_ports = {
            name: others.pop() for name in self.plugins if name in PORT_KEYS or name in LISTENER_KEYS
        }
        self.node = f"referee-{os.getpid()}-{self.port}@localhost"
        self._directory: Path | None = None
        self._processes: list[subprocess.Popen[bytes]] = []

    @property
    def url(self) -> str:
        """The address a client connects to as guest, on the default virtual host."""
        return f"amqp://guest:guest@127.0.0.1:{self.port}/%2F"

    @property
    def directory(self) -> Path:
        """Where the running node keeps its files."""
        if self._directory is None:
            raise RabbitMQError("the node is not running")
        return self._directory

    @property
    def log(self) -> str:
        """What the node has logged so far, its standard output included."""
        files = [self.directory / "output", *sorted((self.directory / "log").glob("*.log"))]
        return "".join(file.read_text(errors="replace") for file in files if file.exists())

    def ctl(self, *args: str) -> str:
        """Run ``rabbitmqctl`` against the node and return what it printed; RabbitMQError when it fails."""
        done = subprocess.run(
            [RABBITMQ / "rabbitmqctl", "--quiet", "--node", self.node, *args],
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise RabbitMQError(f"rabbitmqctl {' '.join(args)} ended with {done.returncode}:\n{done.stdout}")
        return done.stdout

    def processes(self) -> list[int]:
        """The ids of the running node's processes: shells, the Erlang VM and its helpers."""
        group = self._processes[-1].pid
        found = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):  # one that has ended meanwhile
                fields = stat.read_text().rpartition(")")[2].split()
                if int(fields[2]) == group:
                    found.append(int(stat.parent.name))
        return found

    def start(self) -> None:
        """Start the node and return when it accepts AMQP connections."""
        self._directory = Path(tempfile.mkdtemp(prefix="rabbitmq-"))
        try:
            self._write_files()
            # An epmd of the node's own: one that the node started itself would outlive it as a daemon.
            self._spawn("epmd", "-address", "127.0.0.1", "-port", str(self._epmd_port))
            self._await(self._epmd_port, b"", b"")
            self._spawn(str(RABBITMQ / "rabbitmq-server"))
            self._await(self.port, b"AMQP\x00\x00\x09\x01", b"\x01\x00\x00")
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End the processes at once, for nothing is worth an orderly shutdown, and remove the directory."""
        for process in reversed(self._processes):
            # Each leads its own process group, which holds the shell wrapper and the Erlang VM alike.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self._processes.clear()
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
            self._directory = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _write_files(self) -> None:
        plugins = ",".join(self.plugins)
        (self.directory / "enabled_plugins").write_text(f"[{plugins}].\n")
        cookie = self.directory / ".erlang.cookie"
        cookie.write_text(os.urandom(10).hex().upper())
        cookie.chmod(0o400)  # Erlang refuses one that others can read
        (self.directory / "env.conf").touch()
        settings: dict[str, object] = {
            "listeners.tcp.1": f"127.0.0.1:{self.port}",
            "log.file.level": "info",
            "vm_memory_high_watermark.relative": 0.6,
            "disk_free_limit.absolute": "50MB",
        }
        for name, port in self.plugin_ports.items():
            if name in LISTENER_KEYS:
                settings[LISTENER_KEYS[name]] = f"127.0.0.1:{port}"
            else:
                address_key, port_key = PORT_KEYS[name]
                settings |= {address_key: "127.0.0.1", port_key: port}
        if self.definitions is not None:
            definitions = self.directory / "definitions.json"
            definitions.write_text(json.dumps(self.definitions))
            settings["load_definitions"] = definitions
        settings |= self.config
        lines = [f"{key} = {value}\n" for key, value in settings.items()]
        (self.directory / "rabbitmq.conf").write_text("".join(lines))

    def _environment(self) -> dict[str, str]:
        inherited = {
            key: value for key, value in os.environ.items() if not key.startswith(("RABBITMQ_", "ERL_"))
        }
        return inherited | {
            "HOME": str(self.directory),
            "ERL_EPMD_PORT": str(self._epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": self.node,
            "RABBITMQ_DIST_PORT": str(self._dist_port),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            "RABBITMQ_CONF_ENV_FILE": str(self.directory / "env.conf"),
            "RABBITMQ_CONFIG_FILE": str(self.directory / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(self.directory / "advanced.config"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.directory / "enabled_plugins"),
            "RABBITMQ_MNESIA_BASE": str(self.directory / "mnesia"),
            "RABBITMQ_GENERATED_CONFIG_DIR": str(self.directory / "generated"),
            "RABBITMQ_SCHEMA_DIR": str(self.directory / "schema"),
            "RABBITMQ_LOG_BASE": str(self.directory / "log"),
            "RABBITMQ_PID_FILE": str(self.directory / "pid"),
        }

    def _spawn(self, *command: str) -> None:
        with (self.directory / "output").open("ab") as output:
            process = subprocess.Popen(
                command,
                env=self._environment(),
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self._processes.append(process)

    def _await(self, port: int, question: bytes, answer: bytes) -> None:
        """Return when the last process started answers ``question`` on ``port`` with ``answer``."""
        process = self._processes[-1]
        deadline = time.monotonic() + START_TIMEOUT
        while not _answers(port, question, answer):
            if process.poll() is not None:
                raise RabbitMQError(f"{process.args!r} ended with {process.returncode}:\n{self.log[-4000:]}")
            if time.monotonic() > deadline:
                raise RabbitMQError(f"no answer on port {port} in {START_TIMEOUT} s:\n{self.log[-4000:]}")
            time.sleep(POLL)


def _answers(port: int, question: bytes, answer: bytes) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            connection.sendall(question)
            return not answer or connection.recv(len(answer)) == answer
    except OSError:
        return False


def main() -> None:
    """Run a node until interrupted or terminated, and print where it is."""
    parser = argparse.ArgumentParser(prog="python -m conformance.rabbitmq", description=main.__doc__)
    parser.add_argument("--port", type=int, help="AMQP port (default: a free one)")
    parser.add_argument("--plugin", action="append", default=[], help="a plugin to enable; may be repeated")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="a rabbitmq.conf setting"
    )
    options = parser.parse_args()
    interrupted = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: interrupted.set())
    config = dict(setting.split("=", 1) for setting in options.set)
    with RabbitMQ(options.plugin, config=config, port=options.port) as node:
        where = {"amqp": node.url, "node": node.node, "files": node.directory, **node.plugin_ports}
        print("\n".join(f"{name}: {place}" for name, place in where.items()), flush=True)
        interrupted.wait()


if __name__ == "__main__":
    main()
