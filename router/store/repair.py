"""Mends what ``check`` found: damaged files are set aside, and what is left of them takes their place.

Owns the writing. Nothing is deleted: the files as they were are in ``set-aside/<time>`` of the data directory
before anything is put in their place. A repair that was cut off can be begun again.
"""

import os
import shutil
from datetime import datetime
from pathlib import Path

from router.store.checkpoint import NAME
from router.store.files import DiskFiles
from router.store.findings import Inspection

SET_ASIDE = "set-aside"


def repair(directory: Path, found: Inspection, now: datetime) -> Path:
    """Do what an inspection proposes; return where the old files are. Raises OSError."""
    files = DiskFiles()
    aside = directory / SET_ASIDE / now.strftime("%Y%m%dT%H%M%S.%f")
    for path in sorted({*found.changes, *found.given_up}):
        if path.exists():
            _set_aside(files, path, aside / path.relative_to(directory))
    checkpoint = directory / NAME
    # A checkpoint last: what it names has to be there.
    for path, data in sorted(found.changes.items(), key=lambda change: change[0] == checkpoint):
        if data is not None:
            files.replace(path, data)
        else:
            files.remove(path)
            files.sync_directory(path.parent)
    return aside


def _set_aside(files: DiskFiles, path: Path, target: Path) -> None:
    """Give a file a second name, or copy it where that cannot be done, and have that on disk."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(path, target)
    except OSError:
        shutil.copy2(path, target)
    descriptor = files.open(target)
    try:
        files.sync(descriptor)
    finally:
        files.close(descriptor)
    for parent in (target.parent, *target.parents[1:4]):
        files.sync_directory(parent)
