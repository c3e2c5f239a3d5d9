"""Takes the place of the suites' own client of the container daemon, under the names that their fixtures use.

A container with a TLS port is the broker that runs for the whole suite; the environment says where. Any other
one is a private broker of the same kind: a process that can be killed, stopped in order and started again.
"""

import os
import signal
import subprocess
from dataclasses import dataclass
from urllib.parse import urlsplit

import pytest


class DockerNotAvailableError(Exception):
    """Never raised: nothing of it is needed."""


@dataclass
class DockerHostInfo:
    """Where "containers" are reached."""

    container_host: str


@dataclass
class ContainerInfo:
    """A broker: an identity, its ports by the names they have in a container, and its host."""

    id: str
    ports: dict
    host: str


def check_docker_available():
    """The host of the broker."""
    return DockerHostInfo(os.environ["PEER_HOST"])


class DockerClient:
    """Starts and ends private brokers by the calls that would start and end containers."""

    _brokers = {}  # a container id -> the process of its broker; shared, as a daemon would be
    _ports = {}

    def __init__(self, docker_host_info=None):
        self.docker_host_info = docker_host_info or check_docker_available()

    def run(self, image, ports, environment=None):
        host = os.environ["PEER_HOST"]
        if "5671/tcp" in ports:
            shared = {"5672/tcp": int(os.environ["PEER_PORT"]), "5671/tcp": int(os.environ["PEER_TLS_PORT"])}
            return ContainerInfo("shared", shared, host)
        if not os.environ["PEER_KIND"]:
            pytest.skip("needs a broker of its own, and there is only a running one")
        container = f"private-{len(self._ports)}"
        self._ports[container] = 0
        self.start(container)
        return self.inspect(container)

    def start(self, container):
        if container in self._brokers:
            return
        process = subprocess.Popen(
            [
                os.environ["PEER_PYTHON"],
                "-m",
                "conformance.brokers",
                os.environ["PEER_KIND"],
                "--port",
                str(self._ports[container]),
            ],
            cwd=os.environ["PEER_ROOT"],
            stdin=subprocess.PIPE,  # its end is the broker's end, should this process be killed
            stdout=subprocess.PIPE,
            text=True,
        )
        self._ports[container] = urlsplit(process.stdout.readline()).port
        self._brokers[container] = process

    def inspect(self, container):
        return ContainerInfo(container, {"5672/tcp": self._ports[container]}, os.environ["PEER_HOST"])

    def _parse_ports(self, info):
        return info.ports

    def kill(self, container):
        self._end(container, signal.SIGTERM)

    def remove(self, container):
        self._end(container, signal.SIGTERM)

    def _end(self, container, number):
        process = self._brokers.pop(container, None)
        if process is not None:
            process.send_signal(number)
            process.wait(60)

    def _request(self, method, path, body=None):
        """What is asked of the daemon directly: "rabbitmqctl stop_app" and "start_app" in a container."""
        parts = path.strip("/").split("/")
        if parts[0] == "containers" and parts[2] == "exec":
            if body["Cmd"] == ["rabbitmqctl", "stop_app"]:
                self._end(parts[1], signal.SIGINT)
            elif body["Cmd"] == ["rabbitmqctl", "start_app"]:
                self.start(parts[1])
            else:
                raise NotImplementedError(body)
            return {"Id": "done"}
        if parts[0] == "exec":
            return {"Running": False, "ExitCode": 0}
        raise NotImplementedError(path)
