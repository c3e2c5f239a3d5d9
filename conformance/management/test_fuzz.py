"""A short run of ``conformance.management.fuzz``."""

import subprocess
from pathlib import Path

import pytest

from conformance.management.fuzz import OPEN, command, prepare
from conformance.management.sides import leveret_side

TIME = 240  # seconds; a busy machine takes its time

pytestmark = pytest.mark.timeout(TIME + 30)


def test_made_up_requests_meet_with_no_failure(tmp_path: Path) -> None:
    with leveret_side(*OPEN) as side:
        prepare(side)
        run = subprocess.run(
            command(side, tmp_path, 1, "fuzzing", "--no-color", "--seed=1"),
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=TIME,
            check=False,
        )
    assert run.returncode == 0, run.stdout[-6000:] + run.stderr[-2000:]
