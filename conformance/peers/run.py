"""Runs one suite against one broker and gathers the outcome of every test.

Each test file is a pytest process of its own with a time limit, so that one that hangs or crashes costs
itself alone.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from conformance import brokers
from conformance.brokers import ROOT, Broker
from conformance.peers.suites import PLANTED, Suite
from conformance.peers.tls import terminate_tls

TEST_SECONDS = 60  # a test
FILE_SECONDS = 900  # a file of tests
# The suites' own container is told the same: their large messages are larger than RabbitMQ's present default.
SETTINGS = ("--set", "amqp.max_message_size=134217728")


@dataclass(frozen=True)
class Outcome:
    """What became of a test: passed, failed, skipped or unfinished, and the first line of why."""

    outcome: str
    why: str = ""


@contextlib.contextmanager
def endpoint(what: str) -> Iterator[dict[str, str]]:
    """Start a broker for a suite; yields the environment that tells the suite where it is."""
    with (
        brokers.start(what, arguments=SETTINGS) as broker,
        terminate_tls(broker.host, broker.port) as tls_port,
    ):
        yield environment(broker, tls_port)


def environment(broker: Broker, tls_port: int) -> dict[str, str]:
    """What the stand-ins, kombu's tests and the plugin read."""
    return {
        "PEER_HOST": broker.host,
        "PEER_PORT": str(broker.port),
        "PEER_TLS_PORT": str(tls_port),
        "PEER_KIND": broker.name if broker.name in ("leveret", "rabbitmq") else "",
        "PEER_PYTHON": sys.executable,
        "PEER_ROOT": str(ROOT),
        "RABBITMQ_HOST": broker.host,
        "RABBITMQ_5672_TCP": str(broker.port),
        "PYTHONPATH": str(PLANTED),
    }


def run_suite(suite: Suite, where: dict[str, str]) -> dict[str, Outcome]:
    """Run all test files of the suite; the outcomes by node id."""
    tests = suite.source / suite.tests
    files = sorted(tests.glob("test_*.py")) if tests.is_dir() else [tests]
    outcomes: dict[str, Outcome] = {}
    for file in files:
        outcomes |= run_tests(suite, where, [str(file.relative_to(suite.source))])
    return outcomes


def run_tests(suite: Suite, where: dict[str, str], selected: Iterable[str]) -> dict[str, Outcome]:
    """Run the selected node ids in one pytest process; the outcomes by node id."""
    command = [str(suite.python), "-m", "pytest", "-q", "--tb=line", "-p", "peer_outcomes"]
    command += ["--timeout", str(TEST_SECONDS), *selected]
    command += [option for test in suite.deselected for option in ("--deselect", test)]
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "outcomes")
        path.touch()
        process = subprocess.Popen(
            command,
            cwd=suite.source,
            env=os.environ | where | {"PEER_OUTCOMES": str(path)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        limit = threading.Timer(FILE_SECONDS, process.kill)
        limit.start()
        printed, _ = process.communicate()
        limit.cancel()
        outcomes: dict[str, Outcome] = {}
        for line in path.read_text().splitlines():
            found = json.loads(line)
            why = found["why"].strip().splitlines() or [""]
            outcomes[found["test"]] = Outcome(found["outcome"], why[0])
    if process.returncode not in (0, 1, 5):  # all passed, some failed, none collected
        name = next(iter(selected), suite.name)
        last = printed.strip().splitlines()[-1:] or [""]
        outcomes.setdefault(name, Outcome("failed", f"pytest ended with {process.returncode}: {last[0]}"))
    return outcomes
