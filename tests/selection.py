"""Options, marks and the summary of skipped tests: a plugin for all tests of the repository.

The profile of hypothesis decides how many examples a property gets; ``--hypothesis-profile quick`` is for
``python -m tests.check``.

The marks ``process`` and ``referee`` are applied here, by folder and by fixture. A test elsewhere that starts
a process has the mark ``process`` itself; without it the test fails.
"""

import os
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import hypothesis
import pytest
import structlog

from tests.tools import TOOLS, missing_tools, need, packages, skipped_for

ROOT = Path(__file__).parents[1]
# Below these the tests start brokers or other programs.
PROCESSES = (
    "conformance",
    "tests/faults",
    "tests/fuzz",
    "tests/hostile",
    "tests/router/bench",
    "tests/router/cli",
    "tests/router/client",
    "tests/router/server",
    "tests/test_distribution.py",
)
REFEREES = {"rabbitmq", "referee"}  # fixtures that start a RabbitMQ
SERVERS = {"postgresql", "postgresql_pair"}  # fixtures that start a PostgreSQL

# An example may take long because the machine is busy.
hypothesis.settings.register_profile("leveret", deadline=None)
hypothesis.settings.register_profile("quick", deadline=None, max_examples=20)
hypothesis.settings.load_profile("leveret")


# By default rich formats tracebacks, which takes up to 50 ms for each, and some tests make thousands.
structlog.configure(
    processors=[
        structlog.processors.add_log_level,
        structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback),
    ]
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--all-tools",
        action="store_true",
        help="fail if a program that some tests need is missing, or if a test was skipped for one",
    )


def pytest_configure(config: pytest.Config) -> None:
    required = config.getoption("--all-tools")
    missing = missing_tools()
    if required and missing:
        raise pytest.UsageError(
            f"--all-tools: {', '.join(missing)} not found; apt install {' '.join(packages(missing))}"
        )
    config.pluginmanager.register(Skips(fail=required))


@pytest.hookimpl(tryfirst=True)  # before -m selects by marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    starting: dict[Path, bool] = {}  # by file
    for item in items:
        if item.path not in starting:
            starting[item.path] = starts_processes(item.path)
        if starting[item.path] or not SERVERS.isdisjoint(getattr(item, "fixturenames", ())):
            item.add_marker("process")
        if asks_rabbitmq(item):
            item.add_marker("referee")
    if os.environ.get("PYTEST_XDIST_WORKER"):
        sort_by_length(items)


def sort_by_length(items: list[pytest.Item]) -> None:
    """Put modules with long timeouts first and those without processes last.

    With ``--dist loadfile`` each process takes the next module. Since the last ones are short, all processes
    end at about the same time.
    """
    timeouts: dict[Path, float] = {}  # the longest of a module
    for item in items:
        for mark in item.iter_markers("timeout"):
            timeouts[item.path] = max(mark.args[0], timeouts.get(item.path, 0))
    items.sort(key=lambda item: (-timeouts.get(item.path, 0), item.get_closest_marker("process") is None))


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Do not import tests that ``-m "not process ..."`` deselects anyway."""
    return True if "not process" in config.option.markexpr and starts_processes(collection_path) else None


def starts_processes(path: Path) -> bool:
    """Whether a file or folder is in one of ``PROCESSES``."""
    return any(path.is_relative_to(ROOT / place) for place in PROCESSES)


def asks_rabbitmq(item: pytest.Item) -> bool:
    """Whether a test needs RabbitMQ: by a fixture, a parameter that names a fixture, or a mark."""
    callspec = getattr(item, "callspec", None)
    parameters = callspec.params.values() if callspec is not None else ()
    used = {*getattr(item, "fixturenames", ()), *(value for value in parameters if isinstance(value, str))}
    needed = {name for mark in item.iter_markers("needs") for name in mark.args}
    return bool(REFEREES & used) or "rabbitmq" in needed


@pytest.hookimpl(tryfirst=True)  # before fixtures are set up
def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark in item.iter_markers("needs"):
        for name in mark.args:
            need(name)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    if item.get_closest_marker("process") is not None:
        return (yield)

    def refuse(*args: object, **options: object) -> NoReturn:
        raise AssertionError(f"a test that starts a process needs the mark `process`: {item.nodeid}")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subprocess.Popen, "__init__", refuse)
        return (yield)


class Skips:
    """Counts the tests that were skipped for each tool, and reports the counts at the end."""

    def __init__(self, fail: bool) -> None:
        self._fail = fail
        self._counts: Counter[str] = Counter()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.skipped and isinstance(report.longrepr, tuple):
            tool = skipped_for(report.longrepr[2])
            if tool is not None:
                self._counts[tool] += 1

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self._fail and self._counts and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self._counts:
            terminalreporter.section("skipped for lack of a tool", red=self._fail, yellow=not self._fail)
        for name, count in sorted(self._counts.items()):
            terminalreporter.line(f"{name}: {count} skipped; to run: {TOOLS[name].install}")
