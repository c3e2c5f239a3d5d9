"""The unit tests' playbooks, played to a real RabbitMQ: proof that what they expect is what it answers.

A playbook is a test that asks for nothing but clients, in a module of ``tests.router.amqp`` that is marked
``playbook``. ``python -m conformance.playbooks`` starts a private node and plays them all to it; ``--port``
plays to a broker that is there already (user guest). Prints what was answered otherwise or failed, and ends
with 1 if anything was. Owns the socket and the cleaning up between playbooks, and no expectation.
"""

import argparse
import contextlib
import importlib
import inspect
import itertools
import pkgutil
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType
from typing import Any

import pytest

import tests.router.amqp
from conformance.rabbitmq import RabbitMQ
from leveret.protocol.amqp import methods as m
from tests.router.amqp.client import Client

SILENCE = 1.0  # seconds without an answer
QUEUES, EXCHANGES = ("q", "q2", "q3"), ("x", "y")  # the names that playbooks declare
GIVERS = {"connect", "dial"}


class Socket:
    """A transport on a TCP connection."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), SILENCE)
        self._hung_up = False

    def send(self, data: bytes) -> None:
        with contextlib.suppress(ConnectionError):  # what the broker said before it hung up can still be read
            self._socket.sendall(data)

    def receive(self) -> bytes:
        try:
            data = self._socket.recv(1 << 16)
        except TimeoutError:
            return b""
        except ConnectionError:
            data = b""
        self._hung_up = not data
        return data

    def hung_up(self) -> bool:
        return self._hung_up

    def close(self) -> None:
        self._socket.close()


class Stage:
    """Gives a playbook its clients, and clears away what they leave."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._transports: list[Socket] = []

    def dial(self) -> Client:
        """A client that has said nothing yet."""
        self._transports.append(Socket(self._port))
        return Client(self._transports[-1])

    def connect(self, **options: Any) -> Client:
        """A client with an open connection."""
        return self.dial().open(**options)

    def clear(self) -> None:
        """Hang up, and delete what was declared; a queue may stay exclusive for a moment longer."""
        self._hang_up()
        deadline = time.monotonic() + 10
        while not self._deleted():
            if time.monotonic() > deadline:
                raise RuntimeError("a queue cannot be deleted")
            time.sleep(0.05)
        self._hang_up()

    def _deleted(self) -> bool:
        client = self.connect()
        client.send(*map(m.ExchangeDelete, EXCHANGES), *map(m.QueueDelete, QUEUES))
        answers = [client.next() for _ in (*EXCHANGES, *QUEUES)]
        return answers[-1] is not None and isinstance(answers[-1][1], m.QueueDeleteOk)

    def _hang_up(self) -> None:
        for transport in self._transports:
            transport.close()
        self._transports.clear()


def modules() -> Iterator[ModuleType]:
    """The test modules that are marked as playbooks, ``pytestmark = pytest.mark.playbook``."""
    for info in pkgutil.iter_modules(tests.router.amqp.__path__):
        if info.name.startswith("test_"):
            module = importlib.import_module(f"tests.router.amqp.{info.name}")
            if any(mark.name == "playbook" for mark in _marks(module)):
                yield module


def playbooks() -> Iterator[tuple[str, Callable[..., None], dict[str, Any]]]:
    """Name, function and arguments of every one."""
    for module in modules():
        for name, function in inspect.getmembers(module, inspect.isfunction):
            for arguments in variants(function) if name.startswith("test_") else ():
                if inspect.signature(function).parameters.keys() <= GIVERS | arguments.keys():
                    yield (
                        f"{module.__name__.rpartition('.')[2]}.{name} {arguments or ''}",
                        function,
                        arguments,
                    )


def variants(function: Callable[..., None]) -> Iterator[dict[str, Any]]:
    """What ``pytest.mark.parametrize`` gives a test, one dict for each time it runs."""
    tables = []
    for mark in _marks(function):
        if mark.name == "parametrize":
            names, rows = mark.args
            several = not isinstance(names, str) or "," in names
            names = [name.strip() for name in names.split(",")] if isinstance(names, str) else names
            tables.append([dict(zip(names, _values(row, several), strict=True)) for row in rows])
    for combination in itertools.product(*tables):
        yield {name: value for table in combination for name, value in table.items()}


def _marks(marked: object) -> list[pytest.Mark]:
    """The marks of a module or a function, which may have one, several or none."""
    found = getattr(marked, "pytestmark", [])
    return [getattr(each, "mark", each) for each in (found if isinstance(found, list) else [found])]


def _values(row: Any, several: bool) -> Sequence[Any]:
    """The values of one row of a table; ``pytest.param`` holds them in a tuple, one alone as well."""
    if isinstance(row, type(pytest.param())):
        return row.values
    return row if several else (row,)


def play(stage: Stage, function: Callable[..., None], arguments: dict[str, Any]) -> str:
    """Play one; return what was answered otherwise than expected or went wrong, "" if nothing."""
    given = inspect.signature(function).parameters.keys() & GIVERS
    try:
        function(**{name: getattr(stage, name) for name in given}, **arguments)
    except AssertionError as error:
        return f"{error or 'it does not hold'} ({_place(error, function)})"
    except (Exception, pytest.fail.Exception) as error:
        return f"{error!r} ({_place(error, function)})"
    finally:
        stage.clear()
    return ""


def _place(error: BaseException, function: Callable[..., None]) -> str:
    """The line of the playbook at which an error came up."""
    file = function.__code__.co_filename
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    return f"{file.rpartition('/')[2]}:{lines[-1] if lines else function.__code__.co_firstlineno}"


def perform(port: int, only: str = "") -> Iterator[tuple[str, str]]:
    """Play those with ``only`` in their name to the broker at ``port``; yield name and problem, if any."""
    stage = Stage(port)
    for name, function, arguments in playbooks():
        if only in name:
            yield name, play(stage, function, arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Play everything to one broker."""
    parser = argparse.ArgumentParser(prog="python -m conformance.playbooks", description=main.__doc__)
    parser.add_argument("--port", type=int, help="AMQP port on this machine (default: a RabbitMQ is started)")
    parser.add_argument("--only", default="", help="play those whose name contains this")
    options = parser.parse_args(arguments)
    played = failed = 0
    with contextlib.ExitStack() as stack:
        port = options.port or stack.enter_context(RabbitMQ()).port
        for name, problem in perform(port, options.only):
            played += 1
            if problem:
                failed += 1
                print(f"{name}\n    {problem}", flush=True)
    print(f"{played} played, {failed} answered otherwise or failed")
    return 1 if failed or not played else 0


if __name__ == "__main__":
    sys.exit(main())
