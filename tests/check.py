"""Run the checks of a change: ``python -m tests.check [fast|all]``.

``fast`` gives each property a fifth of the examples of ``all``.

All checks run, also after one that failed; the exit status is 1 if any failed.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
LINT = (("ruff", "check", "."), ("ruff", "format", "--check", "."), ("mypy",))
FAST = "not process and not referee and not slow"
CHECKS = {
    "fast": (
        *LINT,
        ("pytest", "-n", "2", "--hypothesis-profile", "quick", "-m", FAST),
    ),
    # Each process gets whole files of tests, so that the broker of a module starts once, in the order of
    # ``selection.sort_by_length``. Three processes keep two cores busy: many tests wait for other programs.
    # The tests are last: their summary ends the output.
    "all": (*LINT, ("pytest", "-n", "3", "--dist", "loadfile", "--no-loadscope-reorder", "--all-tools")),
}


# Some systems forbid Python to keep compiled modules; hundreds of processes would compile all of them again.
ENVIRONMENT = os.environ | {"PYTHONDONTWRITEBYTECODE": ""}


def run(commands: Sequence[Sequence[str]]) -> bool:
    """Run each command as a module of this interpreter; return True if all succeeded.

    The time of each but the last is printed: the summary of the tests ends the output.
    """
    failed = []
    for program, *arguments in commands:
        print(f"== {' '.join((program, *arguments))}", flush=True)
        started = time.monotonic()
        command = [sys.executable, "-m", program, *arguments]
        ended = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, check=False)
        if ended.returncode:
            failed.append(program)
        if program != "pytest":
            verdict = f"status {ended.returncode}" if ended.returncode else "ok"
            print(f"-- {program}: {verdict}, {time.monotonic() - started:.1f} s", flush=True)
    return not failed


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.check", description=__doc__)
    parser.add_argument(
        "which",
        nargs="?",
        choices=list(CHECKS),
        default="fast",
        help="fast: linters, types, and the tests that start no process; all: every test, with every tool",
    )
    sys.exit(0 if run(CHECKS[parser.parse_args().which]) else 1)


if __name__ == "__main__":
    main()
