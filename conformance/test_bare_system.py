"""The two set-up lines of README work, word for word, on a Debian 12 without any other tool."""

import os
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from conformance.bare_system import BareSystem, lacks
from conformance.brokers import speaks_amqp
from conformance.samples import ROOT, Sample, compare, samples
from tests.tools import need

CHECKOUT = "/root/leveret"
# A minute's worth of tests, among them some that need RabbitMQ and Node.
SOME_TESTS = (
    "tests/protocol tests/test_imports.py conformance/test_playbooks.py conformance/clients/test_node.py"
)
ANNOUNCED = re.compile(r"amqp://127\.0\.0\.1:(\d+)")

pytestmark = [pytest.mark.slow, pytest.mark.needs("debootstrap"), pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BareSystem]:
    need("debootstrap", lack=lacks())
    root = tmp_path_factory.mktemp("system")
    try:
        made = BareSystem(root)
        made.make()
        made.copy_head(ROOT, CHECKOUT)
        yield made
    finally:
        shutil.rmtree(root)


def line_and_output(ending: str) -> tuple[str, Sample]:
    """Return the line of README that ends so, and the sample of its output."""
    shown = samples("README.md")
    (place,) = (number for number, sample in enumerate(shown) if sample.text.endswith(f"{ending}\n"))
    (line,) = shown[place].text.splitlines()
    return line, shown[place + 1]


@contextmanager
def running(
    system: BareSystem, line: str, seconds: float, **variables: str
) -> Iterator["subprocess.Popen[str]"]:
    """Run a line; kill it with its processes after so many seconds, or at the end of the block."""

    def kill() -> None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)

    with system.start(line, CHECKOUT, **variables) as process:
        timer = threading.Timer(seconds, kill)
        timer.start()
        try:
            yield process
        finally:
            timer.cancel()
            kill()


def test_one_line_installs_and_serves(system: BareSystem) -> None:
    line, expected = line_and_output("leveret serve")
    free = {"LEVERET_LISTEN__AMQP": "127.0.0.1:0", "LEVERET_LISTEN__HTTP": "127.0.0.1:0"}
    printed = ""
    with running(system, line, seconds=180, **free) as process:
        assert process.stdout is not None
        for text in process.stdout:
            printed += text
            if (announced := ANNOUNCED.search(text)) is not None:
                break
        else:
            pytest.fail(f"the broker was not announced:\n{printed[-4000:]}")
        assert speaks_amqp("127.0.0.1", int(announced[1]))
        os.killpg(process.pid, signal.SIGINT)
        printed += process.stdout.read()
        assert process.wait() == 0, printed[-4000:]
    compare(expected, expected.text, printed)


def test_one_line_installs_the_test_extra_and_passes(system: BareSystem) -> None:
    line, expected = line_and_output("&& pytest")
    with running(system, line, seconds=480, PYTEST_ADDOPTS=SOME_TESTS) as process:
        printed, _ = process.communicate()
    assert process.returncode == 0, printed[-4000:]
    compare(expected, expected.text, printed)
