"""Which suites there are, where they come from, and what is put in place of their containers.

Owns downloading, unpacking and the virtual environment of a suite, all in the user's cache. Runs no tests.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
from dataclasses import dataclass, field
from pathlib import Path

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "leveret-conformance" / "peers"
PLANTED = Path(__file__).parent / "planted"
ASYNCIO = ("aiomisc", "aiomisc-pytest", "pytest", "pytest-timeout")


@dataclass(frozen=True)
class Suite:
    """One peer: its distribution and version, where its tests are, and what they need.

    ``plant`` maps files of the suite to files of ``planted/`` that take their place. ``deselected`` maps node
    ids, or beginnings of them, to the reason why they are not run.
    """

    name: str
    version: str
    tests: str
    requirements: tuple[str, ...]
    plant: dict[str, str] = field(default_factory=dict)
    deselected: dict[str, str] = field(default_factory=dict)

    @property
    def directory(self) -> Path:
        """Where in the cache this version lives, with this list of requirements."""
        digest = hashlib.sha256(repr((sys.version_info[:2], self.requirements)).encode()).hexdigest()[:8]
        return CACHE / f"{self.name}-{self.version}-{digest}"

    @property
    def source(self) -> Path:
        """The unpacked source distribution."""
        return self.directory / f"{self.name.replace('-', '_')}-{self.version}"

    @property
    def python(self) -> Path:
        """The interpreter of the suite's virtual environment."""
        return self.directory / "venv" / "bin" / "python"


SUITES = {
    suite.name: suite
    for suite in (
        Suite(
            "aiormq",
            "7.2.4",
            "tests",
            (*ASYNCIO, "markdown-pytest"),
            {"tests/docker_client.py": "docker_client.py", "conftest.py": "aiormq_conftest.py"},
        ),
        Suite(
            "kombu",
            "5.7.0",
            "t/integration/test_py_amqp.py",
            ("pytest", "pytest-timeout", "pytest-rerunfailures"),
        ),
        Suite(
            "aio-pika",
            "10.2.1",
            "tests",
            (*ASYNCIO, "shortuuid", "timeout-decorator", "pytest-rst"),
            {"tests/docker_client.py": "docker_client.py"},
        ),
    )
}


def prepare(suite: Suite) -> None:
    """Download and unpack the suite and make its virtual environment, once; plant the stand-ins."""
    complete = suite.directory / "complete"
    if not complete.exists():
        shutil.rmtree(suite.directory, ignore_errors=True)
        suite.directory.mkdir(parents=True)
        pinned = f"{suite.name}=={suite.version}"
        # Not ":all:", which would also build the build systems of the distribution from source.
        source_only = ["--no-binary", suite.name, "--no-deps"]
        _run(sys.executable, "-m", "pip", "download", *source_only, "--dest", str(suite.directory), pinned)
        (archive,) = suite.directory.glob("*.tar.gz")
        with tarfile.open(archive) as unpacked:
            unpacked.extractall(suite.directory, filter="data")
        _run(sys.executable, "-m", "venv", str(suite.directory / "venv"))
        _run(str(suite.python), "-m", "pip", "install", str(archive), *suite.requirements)
        complete.touch()
    for target, stand_in in suite.plant.items():
        shutil.copy(PLANTED / stand_in, suite.source / target)


def _run(*command: str) -> None:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout[-4000:]}")
