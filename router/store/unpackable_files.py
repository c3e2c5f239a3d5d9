"""Files of records that could not be packed and were set aside, so that the rest of their batch was
committed.

Responsible for the place of these files, and for writing and reading them. Not for their content (see
``unpackable``).
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from leveret.router.store.files import Files

PLACE = Path("set-aside") / "unpackable"
Aside = tuple[str, bytes]  # name and content of a file


def write_aside(files: Files, directory: Path, aside: Sequence[Aside]) -> None:
    """Write records that were set aside, and sync them. Raises OSError."""
    place = directory / PLACE
    files.make_directory(place)
    for name, data in aside:
        files.replace(place / name, data)


def read_aside(directory: Path) -> list[dict[str, Any]]:
    """Return the records that were set aside in a data directory, with the names of the files. Raises
    OSError.
    """
    found: list[dict[str, Any]] = []
    for path in sorted((directory / PLACE).glob("*.json")):
        try:
            fields = dict(json.loads(path.read_bytes()))
        except (TypeError, ValueError) as error:
            fields = {"set_aside": "unreadable", "error": str(error)}
        found.append({"file": str(PLACE / path.name), **fields})
    return found
