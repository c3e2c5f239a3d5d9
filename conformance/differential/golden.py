"""Transcripts in files: those of RabbitMQ by version, and those of leveret where it differs on purpose.

One file for each feature area, so that a change of one scenario is a change of a few lines.
"""

from collections.abc import Mapping
from pathlib import Path

DIRECTORY = Path(__file__).resolve().parent.parent / "golden"
MARK = "== "
DOCUMENTED = "documented"  # the directory of what only later versions do


def versions() -> list[str]:
    """The directories of goldens of the reference."""
    return sorted(each.name for each in DIRECTORY.iterdir() if each.name.startswith("rabbitmq-"))


def read(version: str) -> dict[str, list[str]]:
    """All transcripts of one directory, by the name of their scenario."""
    found: dict[str, list[str]] = {}
    for file in sorted((DIRECTORY / version).glob("*.txt")):
        name = ""
        for line in file.read_text().splitlines():
            if line.startswith(MARK):
                name = f"{file.stem}/{line.removeprefix(MARK)}"
                found[name] = []
            elif line:
                found[name].append(line)
    return found


def reference(version: str) -> dict[str, list[str]]:
    """What leveret is compared with: the answers of a version, and what is documented of later ones."""
    return read(version) | read(DOCUMENTED)


def write(version: str, transcripts: Mapping[str, list[str]]) -> None:
    """Replace a directory by these transcripts."""
    directory = DIRECTORY / version
    directory.mkdir(parents=True, exist_ok=True)
    areas: dict[str, list[str]] = {}
    for name, lines in transcripts.items():
        area, _, rest = name.partition("/")
        areas.setdefault(area, []).append("\n".join([MARK + rest, *lines, ""]))
    for file in directory.glob("*.txt"):
        if file.stem not in areas:
            file.unlink()
    for area, texts in areas.items():
        (directory / f"{area}.txt").write_text("\n".join(texts))
