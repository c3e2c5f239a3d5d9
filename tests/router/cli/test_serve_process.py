"""``leveret serve`` as a process: what it announces, how it ends, and what it loads before it listens."""

import contextlib
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

OTHERWISE = ("--http", "none", "--data", ":memory:")


@contextlib.contextmanager
def leveret(*args: str, interpreter: tuple[str, ...] = ()) -> Iterator[subprocess.Popen[str]]:
    """Run ``leveret ARGS`` for the ``with`` block; the process is killed if it has not ended by then."""
    with subprocess.Popen(
        [sys.executable, *interpreter, "-m", "leveret", *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def announced_port(process: subprocess.Popen[str]) -> int:
    return int(re.search(r"127\.0\.0\.1:(\d+)", process.stdout.readline())[1])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serve_announces_its_port_answers_and_ends_at_a_signal(number):
    with leveret("serve", "--amqp", "127.0.0.1:0", *OTHERWISE) as process:
        address = f"127.0.0.1:{announced_port(process)}"
        with leveret("ping", address) as ping:
            assert ping.communicate() == (f"{address} is up\n", "")
        process.send_signal(number)
        assert process.wait() == 0


def test_busy_port_is_one_line_and_status_1():
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        with leveret("serve", "--amqp", address, *OTHERWISE) as process:
            stdout, stderr = process.communicate()
    assert (process.returncode, stdout) == (1, "")
    assert stderr.startswith(f"leveret: cannot listen on {address}: ")
    assert stderr.count("\n") == 1


# Modules that a start loads: each takes about half a millisecond. With other versions of Python and of the
# dependencies the second number varies by some.
OF_LEVERET = 278
MODULES = 600


def test_a_broker_listens_before_it_loads_what_it_may_never_need():
    listen = ("--amqp", "127.0.0.1:0", "--http", "127.0.0.1:0", "--data", ":memory:")
    with leveret("serve", *listen, interpreter=("-X", "importtime")) as process:
        announced_port(process)
        process.send_signal(signal.SIGTERM)
        _stdout, stderr = process.communicate()
    until_it_listened, _, _ = stderr.partition("listening ")  # in the log, in the same stream
    loaded = set(re.findall(r"^import time:.*\| +(\S+)$", until_it_listened, re.MULTILINE))
    assert {"trio", "leveret.router.server.main"} <= loaded
    assert not loaded & {"rich.console", "pygments", "lark", "h11", "wsproto", "re2", "leveret.router.client"}
    assert not loaded & {
        "asyncio",
        "tomllib",
        "difflib",
        "leveret.router.definitions",
        "leveret.router.stomp",
        "leveret.protocol.stomp",
        "leveret.router.postgresql",
        "psycopg",
    }
    assert len([name for name in loaded if name.startswith("leveret.")]) <= OF_LEVERET
    assert len(loaded) <= MODULES
