"""Files of what could not be packed and was set aside, so that the rest of its batch could be committed.

Responsible for the place of these files and for writing and reading them; what they say is in ``unpackable``.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from leveret.router.store.files import Files

PLACE = Path("set-aside") / "unpackable"
Aside = tuple[str, bytes]  # name and content of a file


def write_aside(files: Files, directory: Path, aside: Sequence[Aside]) -> None:
    """Write what was set aside, and have it on disk. Raises OSError."""
    place = directory / PLACE
    if not place.is_dir():
        place.mkdir(parents=True, exist_ok=True)
        files.sync_directory(place.parent)
        files.sync_directory(directory)
    for name, data in aside:
        files.replace(place / name, data)


def read_aside(directory: Path) -> list[dict[str, Any]]:
    """Return what was set aside in a data directory, by the names of the files. Raises OSError."""
    found: list[dict[str, Any]] = []
    for path in sorted((directory / PLACE).glob("*.json")):
        try:
            told = dict(json.loads(path.read_bytes()))
        except (TypeError, ValueError) as error:
            told = {"set_aside": "unreadable", "error": str(error)}
        found.append({"file": str(PLACE / path.name), **told})
    return found
