"""The plugin of the tests: skipping for lack of a tool, ``--all-tools``, and the order in processes."""

import pytest

pytest_plugins = ["pytester"]
pytestmark = pytest.mark.process

SUITE = """
import subprocess, sys
import pytest
from tests.tools import need

@pytest.fixture
def referee():
    need("rabbitmq")

@pytest.mark.parametrize("number", range(3))
def test_asks_rabbitmq(referee, number):
    pass

@pytest.mark.needs("node")
def test_runs_node():
    pass

def test_has_an_old_jq():
    need("jq", lack="jq is too old")

def test_starts_a_process():
    subprocess.run([sys.executable, "-c", ""], check=True)

@pytest.mark.process
def test_may_start_a_process():
    subprocess.run([sys.executable, "-c", ""], check=True)

def test_runs_anywhere():
    pass
"""
SUMMARY = [
    "node: 1 skipped; to run: apt install nodejs npm",
    "rabbitmq: 3 skipped; to run: apt install rabbitmq-server",
]


@pytest.fixture
def suite(
    pytester: pytest.Pytester, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> pytest.Pytester:
    """Tests with the hooks of this repository, on a machine that has no tool but a ``jq``."""
    root = request.config.rootpath
    pytester.makepyfile(SUITE)
    pytester.makeconftest((root / "tests" / "selection.py").read_text())
    markers = "\n  ".join(request.config.getini("markers"))
    pytester.makeini(f"[pytest]\npythonpath = {root}\nmarkers =\n  {markers}\n")
    jq = pytester.mkdir("bin") / "jq"
    jq.touch(0o755)
    monkeypatch.setenv("PATH", str(jq.parent))
    monkeypatch.setenv("RABBITMQ_BIN", str(jq.parent))
    return pytester


@pytest.mark.parametrize("processes", [(), ("-n", "2")], ids=["alone", "xdist"])
def test_skipped_tests_are_counted_for_each_tool(suite: pytest.Pytester, processes: tuple[str, ...]) -> None:
    result = suite.runpytest_subprocess("-k", "not test_starts_a_process", *processes)
    result.assert_outcomes(passed=2, skipped=5)
    result.stdout.fnmatch_lines(["jq: 1 skipped; to run: apt install jq", *SUMMARY])
    assert result.ret == pytest.ExitCode.OK


def test_nothing_is_reported_if_nothing_was_skipped(suite: pytest.Pytester) -> None:
    result = suite.runpytest_subprocess("-k", "runs_anywhere")
    result.assert_outcomes(passed=1)
    result.stdout.no_fnmatch_line("*lack of a tool*")


def test_a_missing_tool_is_an_error_with_all_tools(suite: pytest.Pytester) -> None:
    result = suite.runpytest_subprocess("--all-tools")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--all-tools: rabbitmq, rabbitmqadmin, node, * not found; apt install *"])


@pytest.mark.parametrize("processes", [(), ("-n", "2")], ids=["alone", "xdist"])
def test_a_skipped_test_fails_the_run_with_all_tools(
    suite: pytest.Pytester, processes: tuple[str, ...]
) -> None:
    found = "import tests.tools\ntests.tools.missing_tools = list  # as if nothing were missing\n"
    suite.makeconftest(found + suite.path.joinpath("conftest.py").read_text())
    result = suite.runpytest_subprocess("--all-tools", "-k", "old_jq or anywhere", *processes)
    result.assert_outcomes(passed=1, skipped=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED


def test_a_process_needs_the_mark(suite: pytest.Pytester) -> None:
    result = suite.runpytest_subprocess("-k", "start_a_process or starts_a_process")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*a test that starts a process needs the mark `process`: *"])


def test_tests_are_marked_by_their_fixtures(suite: pytest.Pytester) -> None:
    result = suite.runpytest_subprocess("--collect-only", "-m", "referee")
    result.stdout.fnmatch_lines(["*test_asks_rabbitmq*"] * 3)
    result.stdout.no_fnmatch_line("*test_runs_anywhere*")


def test_processes_run_long_modules_first_and_quick_ones_last(suite: pytest.Pytester) -> None:
    body = "def test_it():\n    pass\n"
    suite.makepyfile(
        test_a=body,
        test_b="import pytest\n@pytest.mark.process\n" + body,
        test_c="import pytest\n@pytest.mark.timeout(240)\n" + body,
        test_d="import pytest\npytestmark = pytest.mark.timeout(900)\n" + body,
    )
    result = suite.runpytest_subprocess(
        "-v", "-n", "1", "--dist", "loadfile", "--no-loadscope-reorder", "-k", "test_it"
    )
    ran = [line.split()[-1] for line in result.outlines if "PASSED" in line]
    assert ran == [f"test_{name}.py::test_it" for name in "dcba"]
