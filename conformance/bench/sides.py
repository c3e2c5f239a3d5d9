"""The brokers that are compared, each a process of its own with a directory of its own on the same disk."""

import compileall
import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache

from conformance import brokers
from conformance.brokers import Broker
from conformance.rabbitmq import RabbitMQ
from leveret.router.bench.load import BenchTarget
from leveret.router.bench.wire import check_target


@dataclass(frozen=True)
class Side:
    """A running broker. ``resident`` returns the bytes of its memory; None if they are not known.

    ``broker`` has the port of its WebSockets as ``http_port``, ``websocket`` is their path; "" without any.
    """

    name: str
    target: BenchTarget
    url: str
    resident: Callable[[], int] | None
    broker: Broker
    websocket: str = ""


@contextlib.contextmanager
def start(what: str, *, websockets: bool = False) -> Iterator[Side]:
    """Run ``leveret``, ``rabbitmq`` or take a URL, for a ``with`` block; both keep their files below the
    directory for temporary ones. ``websockets``: RabbitMQ has the plugin for STOMP over them; it starts later
    and needs more memory with it. Raises BenchError if the broker of a URL cannot be used.
    """
    with contextlib.ExitStack() as stack:
        resident: Callable[[], int] | None = None
        websocket = ""
        if what == "leveret":
            _compile()
            data = stack.enter_context(tempfile.TemporaryDirectory(prefix="leveret-data-"))
            broker = stack.enter_context(brokers.leveret(data))
            assert broker.pid is not None
            pid, websocket = broker.pid, "/ws/stomp"

            def resident() -> int:
                return memory_of(pid)

        elif what == "rabbitmq":
            # The second plugin starts the first one, which must not listen on its usual port.
            plugins = ["rabbitmq_stomp", "rabbitmq_web_stomp"] if websockets else []
            node = stack.enter_context(RabbitMQ(plugins=plugins))
            broker = brokers.rabbitmq_broker(node)
            if websockets:
                broker, websocket = replace(broker, http_port=node.plugin_ports[plugins[-1]]), "/ws"

            def resident() -> int:
                return max(memory_of(each) for each in node.processes())

        else:
            target = BenchTarget.parse(what)
            check_target(target)
            broker = brokers.from_url(what)
            what = f"{target.host}:{target.port}"  # without the password
        yield Side(what, _target(broker), broker.url, resident, broker, websocket)


@cache
def _compile() -> None:
    """Compile leveret's modules once, as pip does when it installs them: a start is measured without that."""
    for package in ("router", "protocol"):
        compileall.compile_dir(brokers.ROOT / package, quiet=1)


def _target(broker: Broker) -> BenchTarget:
    return BenchTarget(broker.host, broker.port, broker.user, broker.password, broker.vhost)


def memory_of(pid: int) -> int:
    """The resident memory of a process, in bytes; 0 when it has ended."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0
