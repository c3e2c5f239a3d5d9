"""The samples of README and docs: finding them, and doing what a reader would do with each.

Every fenced block is a sample. Its language says what becomes of it:

    console     run by bash, in the page's own directory. Lines that begin with "$ " are commands, and what
                stands between them is what they print; without any "$ " all lines are commands. A command
                whose comment says "until Ctrl-C" must still be running after a while, and is then ended.
    python, js  run with what earlier samples of the page have left: a Python sample knows its names
    others      not run

A comment ``<!-- sample: MARK -->`` in the line before a block says otherwise: ``file NAME`` writes it to
a file, ``background`` leaves it running until the end of the page, ``output`` compares it with what the
sample before it has printed. In what is compared "..." stands for anything, and numbers for any numbers.

Ports that samples assume are replaced by those of the broker, and so are directories. ``leveret serve`` is
run by ``serve`` below: with the sample's flags, but at other addresses and only until it listens.
"""

import contextlib
import io
import os
import re
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
TIMEOUT = 60  # seconds that a sample may take
WATCHED = 3  # seconds after which a command is ended that runs until Ctrl-C
RUN = ("console", "python", "js")

_BLOCK = re.compile(
    r"^(?:<!-- sample: (?P<mark>[^\n]+) -->\n)?```(?P<language>\w*)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_LINK = re.compile(r"\]\((?:docs/)?([\w./-]+\.md)")


class Sample(NamedTuple):
    """A block of a page: ``line`` is the number of its first line."""

    page: str
    line: int
    language: str
    mark: str
    text: str

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def first(self) -> str:
        """Its first line."""
        return self.text.partition("\n")[0]


class SampleError(AssertionError):
    """A sample does not do what the page says; the text says where and what it did."""


def pages() -> list[str]:
    """README and the pages that it links to, in that order, then those that they link to."""
    found = ["README.md"]
    for page in found:
        path = ROOT / page
        for link in _LINK.findall(path.read_text()):
            bases = (path.parent, ROOT / "docs")
            there = next((base / link for base in bases if (base / link).is_file()), None)
            name = there and str(there.resolve().relative_to(ROOT))
            if name and name not in found:
                found.append(name)
    return found


def samples(page: str) -> list[Sample]:
    """The samples of a page, in order."""
    text = (ROOT / page).read_text()
    return [
        Sample(
            page,
            text.count("\n", 0, found.start("text")) + 1,
            found["language"],
            found["mark"] or "",
            found["text"],
        )
        for found in _BLOCK.finditer(text)
    ]


class Reader:
    """Tries the samples of one page, in a directory of its own."""

    def __init__(
        self,
        directory: Path,
        *,
        environ: Mapping[str, str],
        replaced: Callable[[str], str],
        names: Mapping[str, Any],
    ) -> None:
        """``replaced`` puts the broker's addresses in the place of those that samples assume.

        ``names`` are what Python samples know from the text around them.
        """
        self._directory = directory
        self._environ = environ
        self._replaced = replaced
        self._names = dict(names)
        self._printed = ""
        self._background: list[subprocess.Popen[str]] = []

    def follow(self, sample: Sample) -> None:
        """Do what the sample says. Raises SampleError."""
        text = self._replaced(sample.text)
        kind, _, name = sample.mark.partition(" ")
        if kind == "file":
            path = self._directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            if text.startswith("#!"):
                path.chmod(path.stat().st_mode | stat.S_IXUSR)
        elif kind == "output":
            compare(sample, text, self._printed)
        elif kind == "background":
            self._start(text)
        elif kind:
            raise SampleError(f"{sample.place}: there is no mark {sample.mark!r}")
        elif sample.language == "python":
            self._python(sample, text)
        elif sample.language == "js":
            (self._directory / "sample.js").write_text(text)
            self._printed = self._bash(sample, "node sample.js")
        elif re.search(r"^\$ ", text, re.MULTILINE):
            self._session(sample, text)
        else:
            self._printed = self._bash(sample, "\n".join(map(_watched, text.splitlines())))

    def check_background(self) -> None:
        """Raise SampleError if something in the background has ended by itself."""
        if any(process.poll() is not None for process in self._background):
            log = (self._directory / "background.log").read_text()
            raise SampleError(f"a sample in the background has ended\n{log[-3000:]}")

    def close(self) -> None:
        """End what runs in the background."""
        for process in self._background:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            process.wait(TIMEOUT)

    def _python(self, sample: Sample, text: str) -> None:
        printed = io.StringIO()
        padding = "\n" * (sample.line - 1)  # so that a traceback names the line of the page
        with contextlib.redirect_stdout(printed):
            exec(compile(padding + text, str(ROOT / sample.page), "exec"), self._names)
        self._printed = printed.getvalue()

    def _session(self, sample: Sample, text: str) -> None:
        """Commands with what they print; their status may be any."""
        for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
            command, _, expected = part.partition("\n")
            while command.endswith("\\"):
                more, _, expected = expected.partition("\n")
                command += f"\n{more}"
            self._printed = self._bash(sample, command, any_status=True)
            compare(sample, expected, self._printed)

    def _bash(self, sample: Sample, script: str, *, any_status: bool = False) -> str:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=self._directory,
            env=self._environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
        if done.returncode and not any_status:
            raise SampleError(f"{sample.place}: status {done.returncode}\n{script}\n{done.stdout[-3000:]}")
        return done.stdout

    def _start(self, script: str) -> None:
        with open(self._directory / "background.log", "a") as log:
            process = subprocess.Popen(
                ["bash", "-euo", "pipefail", "-c", script],
                cwd=self._directory,
                env=self._environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                text=True,
            )
        self._background.append(process)


def _watched(line: str) -> str:
    """A command that ends at Ctrl-C as one that is ended so, and has to be running until then."""
    command, hash_sign, comment = line.rpartition("  # ")
    if not hash_sign or "until Ctrl-C" not in comment:
        return line
    quoted = "'" + command.replace("'", "'\\''") + "'"
    return f"timeout --signal=INT {WATCHED} bash -c {quoted} || test $? = 124"


def compare(sample: Sample, expected: str, printed: str) -> None:
    """Raise SampleError unless ``printed`` is what the page shows."""
    pattern = re.escape(_plain(expected)).replace(r"\.\.\.", ".*")
    if not re.fullmatch(pattern, _plain(printed), re.DOTALL):
        raise SampleError(f"{sample.place}: the page shows\n{expected}\nand it prints\n{printed}")


def _plain(text: str) -> str:
    lines = (re.sub(r"\d+", "0", line.rstrip()) for line in text.strip().splitlines())
    return "\n".join(lines)


# -- leveret serve, as samples call it -----------------------------------------------------------------------


@contextlib.contextmanager
def commands(directory: Path) -> Iterator[Path]:
    """A directory with the commands that samples call, to be first in PATH."""
    directory.mkdir()
    scripts = {
        "leveret": f"#!{sys.executable}\nfrom conformance.samples import leveret\nleveret()\n",
        "curl": '#!/bin/sh\nexec /usr/bin/curl --silent --show-error --fail-with-body "$@"\n',
    }
    for name, script in scripts.items():
        (directory / name).write_text(script)
        (directory / name).chmod(0o755)
    yield directory


def leveret() -> None:
    """The command of samples: ``serve`` is tried, anything else is run."""
    command = [sys.executable, "-m", "leveret", *sys.argv[1:]]
    if sys.argv[1:2] == ["serve"]:
        sys.exit(serve(command))
    os.execv(sys.executable, command)


def serve(command: list[str]) -> int:
    """Run a broker with these flags, on free ports and another directory, until it listens."""
    command = [re.sub(r"^[\w.:\[\]]+:\d{4,5}$", "127.0.0.1:0", each) for each in command]
    for flag in ("--amqp", "--http"):
        if flag not in command:
            command += [flag, "127.0.0.1:0"]
    with tempfile.TemporaryDirectory() as directory:
        command += ["--data", directory]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            if "listening" in process.stdout.readline():
                process.send_signal(signal.SIGTERM)
    return process.returncode
