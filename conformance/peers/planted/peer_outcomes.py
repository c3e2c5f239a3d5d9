"""A pytest plugin: writes the outcome of every test as a line of JSON as soon as it is known.

So that a run which hangs or crashes in the middle still tells what it had found, by node id.
"""

import json
import os

import pytest

CHECKED = os.environ.get("PEER_OUTCOMES", "")


class Outcomes:
    """Gathers the phases of each test into one outcome."""

    def __init__(self, path):
        self.path = path
        self.failed = {}

    def pytest_runtest_logstart(self, nodeid):
        self.write({"test": nodeid, "outcome": "unfinished", "why": "the run ended within it"})

    def pytest_runtest_logreport(self, report):
        if report.outcome == "failed":
            crash = getattr(report.longrepr, "reprcrash", None)
            why = crash.message if crash else str(report.longrepr)
            self.failed.setdefault(report.nodeid, f"{report.when}: {why}")  # the first says most
        if report.when == "call" or report.skipped:
            self.write({"test": report.nodeid, "outcome": report.outcome, "why": self.why(report)})
        if report.when == "teardown" and report.nodeid in self.failed:
            why = self.failed.pop(report.nodeid)
            self.write({"test": report.nodeid, "outcome": "failed", "why": why})

    def pytest_collectreport(self, report):
        if report.failed:
            self.write({"test": report.nodeid, "outcome": "failed", "why": str(report.longrepr)})

    def why(self, report):
        if report.skipped and isinstance(report.longrepr, tuple):
            return report.longrepr[2]
        return self.failed.get(report.nodeid, "")

    def write(self, line):
        with open(self.path, "a") as lines:
            lines.write(json.dumps(line) + "\n")


@pytest.hookimpl
def pytest_configure(config):
    if CHECKED:
        config.pluginmanager.register(Outcomes(CHECKED), "peer-outcomes")
