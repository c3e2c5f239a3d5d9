"""Networks of a cluster that can be cut: a network namespace for each broker, of Linux, as root.

Each broker has two links: one to clients and the other brokers, and one to PostgreSQL. A link that is down
drops all packets in both directions, and tells neither side.
"""

import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

CLIENTS, POSTGRESQL = "c", "p"  # the links, by the first letter of their names
ALLOWED = "host all all 10.214.0.0/16 trust\n"  # the line for pg_hba.conf


def missing() -> str | None:
    """Return why networks cannot be cut here; None if they can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if shutil.which("ip") is None:
        return "there is no program 'ip'"
    with suppress(subprocess.CalledProcessError), networks(1):
        return None
    return "this machine allows no network namespaces"


class Network:
    """The namespace of one broker."""

    def __init__(self, name: str, number: int) -> None:
        self._name = f"lv{name}{number}"
        self._links = {kind: f"lv{name}{kind}{number}" for kind in (CLIENTS, POSTGRESQL)}
        self.prefix = ("ip", "netns", "exec", self._name)  # of a command, to run it there
        self.address = f"10.213.0.{10 + number}"  # of the broker
        self.postgresql = f"10.214.{number}.1"  # of PostgreSQL for this broker
        self._inside = f"10.214.{number}.2"

    @contextmanager
    def created(self, bridge: str) -> Iterator["Network"]:
        """Create the namespace and its links, and remove them at the end."""
        name = self._name
        ip("netns", "add", name)
        try:
            ip("-n", name, "link", "set", "lo", "up")
            for kind, link in self._links.items():
                ip("link", "add", link, "type", "veth", "peer", "name", f"eth{kind}", "netns", name)
                if kind == CLIENTS:
                    ip("link", "set", link, "master", bridge)
                    ip("-n", name, "addr", "add", f"{self.address}/24", "dev", f"eth{kind}")
                else:
                    ip("addr", "add", f"{self.postgresql}/24", "dev", link)
                    ip("-n", name, "addr", "add", f"{self._inside}/24", "dev", f"eth{kind}")
                ip("link", "set", link, "up")
                ip("-n", name, "link", "set", f"eth{kind}", "up")
            yield self
        finally:
            ip("netns", "del", name)

    @contextmanager
    def cut(self, kind: str) -> Iterator[None]:
        """Cut a link during the block."""
        ip("link", "set", self._links[kind], "down")
        try:
            yield
        finally:
            ip("link", "set", self._links[kind], "up")


@contextmanager
def networks(count: int) -> Iterator[list[Network]]:
    """Create the networks of so many brokers, and remove them at the end."""
    name = secrets.token_hex(2)
    bridge = f"lv{name}b"
    with ExitStack() as stack:
        ip("link", "add", bridge, "type", "bridge")
        stack.callback(ip, "link", "del", bridge)
        ip("addr", "add", "10.213.0.1/24", "dev", bridge)
        ip("link", "set", bridge, "up")
        yield [stack.enter_context(Network(name, number).created(bridge)) for number in range(count)]


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)
