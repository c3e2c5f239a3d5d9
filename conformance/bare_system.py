"""A Debian 12 in a directory, with git, python3 and python3-venv only, and commands that run in it.

It reaches the network as this machine does: it has copies of the machine's name resolution, certificates and
pip configuration. Each command runs in a mount namespace of its own, so that its mounts end with it.
"""

import ast
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from configparser import RawConfigParser
from pathlib import Path

RELEASE = "bookworm"
PACKAGES = ("git", "python3", "python3-venv")
MIRROR = "http://deb.debian.org/debian"  # where APT of this machine names none
NETWORK_FILES = ("/etc/resolv.conf", "/etc/hosts", "/etc/ssl/certs/ca-certificates.crt")
NETWORK_VARIABLES = re.compile(r"\w+_proxy|PIP_\w+|SSL_CERT_FILE|REQUESTS_CA_BUNDLE", re.IGNORECASE)
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

ENTER = """
root=$1; directory=$2; line=$3; shift 3
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
while [ "$1" != -- ]; do mount --bind "$1" "$root$1"; shift; done
shift
exec chroot "$root" env -i "$@" bash -c 'cd "$1" && eval "$2"' bash "$directory" "$line"
"""


def lacks() -> str:
    """Return what keeps this process from making a root; an empty text if nothing does."""
    if os.geteuid() != 0:
        return "root is needed"
    done = subprocess.run(["unshare", "--mount", "true"], capture_output=True, text=True, check=False)
    return done.stderr.strip()


class BareSystem:
    """The system in ``root``, which ``make`` fills."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._settings = _pip_settings()
        self._shared = list(filter(Path.exists, map(_path, self._words())))

    def _words(self) -> Iterator[str]:
        """Yield the words in the settings and variables, some of which are paths and URLs."""
        for section in self._settings.values():
            for value in section.values():
                yield from value.split()
        for value in self._variables().values():
            yield from value.split()

    def make(self) -> None:
        """Install the system. Raises CalledProcessError, with the output, if that fails."""
        options = ["--variant=minbase", f"--include={','.join(PACKAGES)}"]
        environ = os.environ | {"PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}
        dpkg = self.root / "etc" / "dpkg" / "dpkg.cfg.d"
        dpkg.mkdir(parents=True)
        # Without this dpkg syncs each file, which takes minutes on a busy disk.
        (dpkg / "unsafe-io").write_text("force-unsafe-io\n")
        _run(["debootstrap", *options, RELEASE, self.root, _mirror()], env=environ)
        for name in (*NETWORK_FILES, *(path for path in self._shared if path.is_file())):
            if Path(name).exists():
                copy = self.root / str(name).removeprefix("/")
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(name, copy)
        for path in filter(Path.is_dir, self._shared):
            (self.root / str(path).removeprefix("/")).mkdir(parents=True, exist_ok=True)
        with (self.root / "etc" / "pip.conf").open("w") as file:
            self._settings.write(file)

    def copy_head(self, repository: Path, directory: str) -> None:
        """Put the files of the repository's last commit into a directory of the system."""
        target = self.root / directory.removeprefix("/")
        target.mkdir(parents=True)
        archive = _run(["git", "-C", repository, "archive", "HEAD"])
        _run(["tar", "--extract", "--directory", target], input=archive)

    def start(self, line: str, directory: str, **variables: str) -> "subprocess.Popen[str]":
        """Start a line of shell in a directory of the system, in a session of its own, with piped output."""
        binds = [str(path) for path in self._shared if path.is_dir()]
        environ = {"PATH": PATH, "HOME": "/root", "LANG": "C.UTF-8"} | self._variables() | variables
        assignments = [f"{name}={value}" for name, value in environ.items()]
        arguments = [self.root, directory, line, *binds, "--", *assignments]
        return subprocess.Popen(
            ["unshare", "--mount", "bash", "-euc", ENTER, "bash", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def _variables(self) -> Mapping[str, str]:
        return {name: value for name, value in os.environ.items() if NETWORK_VARIABLES.fullmatch(name)}


def _path(word: str) -> Path:
    """Return the path that a word names; of a file:// index the directory above, which has its files."""
    if word.startswith("file://"):
        return Path(word.removeprefix("file://")).parent
    return Path(word if word.startswith("/") else "/nonexistent")


def _run(command: "list[str | Path]", **options: object) -> bytes:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, **options)  # type: ignore[call-overload]
    assert done.returncode == 0, done.stdout.decode(errors="replace")[-4000:]
    return bytes(done.stdout)


def _mirror() -> str:
    """Return the first mirror of the release in this machine's APT configuration."""
    command = ["apt-get", "indextargets", "--format", "$(CODENAME) $(REPO_URI)", "Created-By: Packages"]
    told = subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines()
    return next((line.split()[1] for line in told if line.startswith(f"{RELEASE} ")), MIRROR)


def _pip_settings() -> RawConfigParser:
    """Return the values of this machine's pip configuration files."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = RawConfigParser()
    for name, value in (line.split("=", 1) for line in told.splitlines()):
        section, _, key = name.partition(".")
        if section != ":env:":
            found.read_dict({section: {key: ast.literal_eval(value)}})
    return found
