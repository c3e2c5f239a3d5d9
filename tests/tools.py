"""The programs that some tests need and a machine may lack: one table of them, and one way to skip.

A test has the mark ``needs("node")``, a fixture calls ``need("node")``. ``tests/selection.py``
evaluates the marks and reports at the end of a run how many tests were skipped for each tool.

``python tests/tools.py`` prints the Debian packages of the missing tools, one a line. It imports only the
standard library, because ``.ci/run`` calls it before anything is installed.
"""

import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple


def _version(path: Path) -> tuple[int, ...]:
    """Return the version of PostgreSQL in the name of its directory, such as ``15/bin``."""
    return tuple(int(number) for number in re.findall(r"\d+", path.parent.name))


# The wrappers that Debian has in PATH switch the user and share one cookie; these do not.
RABBITMQ = Path(os.environ.get("RABBITMQ_BIN", "/usr/lib/rabbitmq/bin"))
# Debian keeps the servers of all versions out of PATH; the newest is used.
POSTGRESQL = Path(
    os.environ.get("POSTGRESQL_BIN")
    or max(Path("/usr/lib/postgresql").glob("*/bin"), default="/usr/lib/postgresql/bin", key=_version)
)
CHROMIUM = os.environ.get("CHROMIUM", "chromium")

_REASON = re.compile(r"needs (\w+): ")


class Tool(NamedTuple):
    """``programs`` are paths, or names to be found in PATH; ``packages`` are Debian's."""

    programs: tuple[str, ...]
    packages: tuple[str, ...]

    @property
    def install(self) -> str:
        """The command that installs the tool."""
        return f"apt install {' '.join(self.packages)}"

    def missing(self) -> list[str]:
        """The programs that this machine lacks."""
        path = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin"  # debootstrap is there
        return [program for program in self.programs if shutil.which(program, path=path) is None]


TOOLS: Mapping[str, Tool] = {
    "rabbitmq": Tool((str(RABBITMQ / "rabbitmq-server"), "epmd"), ("rabbitmq-server",)),
    "rabbitmqadmin": Tool(("rabbitmqadmin",), ("rabbitmq-server",)),
    "node": Tool(("node", "npm"), ("nodejs", "npm")),
    "chromium": Tool((CHROMIUM,), ("chromium",)),
    "prometheus": Tool(("prometheus", "promtool"), ("prometheus",)),
    "curl": Tool(("curl",), ("curl",)),
    "jq": Tool(("jq",), ("jq",)),
    "ps": Tool(("ps",), ("procps",)),
    "postgresql": Tool((str(POSTGRESQL / "postgres"), str(POSTGRESQL / "pg_basebackup")), ("postgresql",)),
    "debootstrap": Tool(("debootstrap",), ("debootstrap", "debian-archive-keyring")),
}


def need(name: str, lack: str = "") -> None:
    """Skip the test that runs unless the tool is installed; ``lack`` says what else is wrong with it."""
    import pytest  # noqa: PLC0415, see above

    missing = TOOLS[name].missing()
    if missing:
        lack = f"{', '.join(missing)} not found"
    if lack:
        pytest.skip(f"needs {name}: {lack}")


def skipped_for(reason: str) -> str | None:
    """Return the tool for whose lack a test was skipped, from the text of the skip; None for other skips."""
    found = _REASON.search(reason)
    return found[1] if found else None


def missing_tools() -> list[str]:
    """The names of the tools that this machine lacks."""
    return [name for name, tool in TOOLS.items() if tool.missing()]


def packages(names: list[str]) -> list[str]:
    """The Debian packages that contain these tools, each once."""
    return list(dict.fromkeys(package for name in names for package in TOOLS[name].packages))


if __name__ == "__main__":
    for package in packages(missing_tools()):
        print(package)
