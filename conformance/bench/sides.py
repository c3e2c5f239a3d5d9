"""The brokers that are compared, each a process of its own with a directory of its own on the same disk."""

import compileall
import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from conformance import brokers
from conformance.brokers import Broker
from conformance.rabbitmq import RabbitMQ
from leveret.router.bench.load import BenchTarget


@dataclass(frozen=True)
class Side:
    """A running broker. ``resident`` says how many bytes of memory it has; None where nobody knows."""

    name: str
    target: BenchTarget
    url: str
    resident: Callable[[], int] | None


@contextlib.contextmanager
def start(what: str) -> Iterator[Side]:
    """Run ``leveret``, ``rabbitmq`` or take a URL, for a ``with`` block; both keep their files below the
    directory for temporary ones.
    """
    with contextlib.ExitStack() as stack:
        resident: Callable[[], int] | None = None
        if what == "leveret":
            _compile()
            data = stack.enter_context(tempfile.TemporaryDirectory(prefix="leveret-data-"))
            broker = stack.enter_context(brokers.leveret(data))
            assert broker.pid is not None
            pid = broker.pid

            def resident() -> int:
                return memory_of(pid)

        elif what == "rabbitmq":
            node = stack.enter_context(RabbitMQ())
            broker = brokers.rabbitmq_broker(node)

            def resident() -> int:
                return max(memory_of(each) for each in node.processes())

        else:
            broker = brokers.from_url(what)
        yield Side(what, _target(broker), broker.url, resident)


def _compile() -> None:
    """Compile leveret's modules, as pip does when it installs them."""
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
