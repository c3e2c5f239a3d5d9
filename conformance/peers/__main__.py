"""``python -m conformance.peers``: what passes with RabbitMQ and fails with leveret."""

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from conformance.peers.run import Outcome, endpoint, run_suite, run_tests
from conformance.peers.suites import SUITES, Suite, prepare

Outcomes = dict[str, Outcome]
REPEATS = 3  # of a test that fails here alone, on either side


def compare(suite: Suite, reference: str, broker: str) -> bool:
    """Run the suite against both brokers and print what differs; False when some fail here alone."""
    prepare(suite)
    with ThreadPoolExecutor() as pool:  # most of the time, these tests wait
        there, here = pool.map(partial(run_on, suite=suite), (reference, broker))
    failures = broken(there, here)
    steadied, unsteady = repeated(failures, partial(run_on, broker, suite), partial(run_on, reference, suite))
    print_table(suite, reference, broker, there, here)
    for test, reason in suite.deselected.items():
        print(f"  not run: {test}: {reason}")
    for test in steadied:
        print(f"  passes there, here only when repeated: {test}: {here[test].why}")
    for test in unsteady:
        print(f"  passes there only now and then, fails here: {test}: {here[test].why}")
    failures = [test for test in failures if test not in (*steadied, *unsteady)]
    for test in failures:
        why = here[test].why if test in here else "not run"
        print(f"  passes there, fails here: {test}: {why}")
    print(flush=True)
    return not failures


def repeated(
    failures: Sequence[str],
    here: Callable[[Sequence[str]], Outcomes],
    there: Callable[[Sequence[str]], Outcomes],
) -> tuple[list[str], list[str]]:
    """Of tests that fail here alone: those that pass here when they are repeated, and of the others those
    that fail there then. Some of these tests fail now and then with any broker.
    """
    left = [test for test in failures if "::" in test]  # the others are files that broke as a whole
    passed: list[str] = []
    failed: list[str] = []
    for run, outcome, found in ((here, "passed", passed), (there, "failed", failed)):
        for _ in range(REPEATS):
            again = run(left) if left else {}
            found += [test for test in left if test in again and again[test].outcome == outcome]
            left = [test for test in left if test not in found]
    return sorted(passed), sorted(failed)


def run_on(broker: str, suite: Suite, selected: Sequence[str] = ()) -> Outcomes:
    """Start the broker and run the suite against it, or only the selected tests."""
    with endpoint(broker) as where:
        return run_tests(suite, where, selected) if selected else run_suite(suite, where)


def broken(there: Outcomes, here: Outcomes) -> list[str]:
    """The tests that pass there and neither pass nor are skipped here."""
    return [
        test
        for test, outcome in there.items()
        if outcome.outcome == "passed"
        and (test not in here or here[test].outcome not in ("passed", "skipped"))
    ]


def print_table(suite: Suite, reference: str, broker: str, there: Outcomes, here: Outcomes) -> None:
    """Print how many tests passed, failed and were skipped on either side."""
    print(f"{suite.name} {suite.version}")
    print(f"  {'':40}{'passed':>8}{'failed':>8}{'skipped':>8}")
    for name, outcomes in ((reference, there), (broker, here)):
        counts = Counter(outcome.outcome for outcome in outcomes.values())
        failed = counts["failed"] + counts["unfinished"]
        print(f"  {name[:39]:40}{counts['passed']:8}{failed:8}{counts['skipped']:8}")
    skipped = Counter(outcome.why for outcome in there.values() if outcome.outcome == "skipped")
    for reason, count in skipped.items():
        print(f"  skipped there: {count}: {reason}")
    for test, outcome in there.items():
        if outcome.outcome in ("failed", "unfinished"):
            also = here.get(test, Outcome("not run")).outcome
            print(f"  fails there ({also} here): {test}: {outcome.why}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the test suites of client libraries against RabbitMQ and leveret; 1 when one fails here alone."""
    parser = argparse.ArgumentParser(prog="python -m conformance.peers", description=main.__doc__)
    parser.add_argument("--suite", action="append", choices=SUITES, help="may be repeated (default: all)")
    parser.add_argument("--broker", default="leveret", help="leveret, rabbitmq or a URL")
    parser.add_argument("--reference", default="rabbitmq", help="what decides which tests must pass")
    options = parser.parse_args(arguments)
    suites = [SUITES[name] for name in options.suite or SUITES]
    same = [compare(suite, options.reference, options.broker) for suite in suites]
    return 0 if all(same) else 1


if __name__ == "__main__":
    sys.exit(main())
