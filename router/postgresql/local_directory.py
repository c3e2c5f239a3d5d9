"""The local directory of a store in PostgreSQL: for messages that do not outlive the broker.

A broker that was killed leaves its directory behind. The next one on the same machine removes it: a running
broker holds a lock on its own directory.
"""

import fcntl
import os
import shutil
import tempfile
import time
from pathlib import Path

PREFIX = "leveret-transient-"
YOUNG = 60  # seconds in which a directory without a lock may be one that is being created


class LocalDirectory:
    """A new directory, which is removed by ``remove``, or after the end of the process."""

    def __init__(self) -> None:
        """Create the directory, and remove those that were left behind. Raises OSError."""
        _remove_left_over(Path(tempfile.gettempdir()))
        self.path = Path(tempfile.mkdtemp(prefix=PREFIX))
        self._lock = _lock(self.path)

    def remove(self) -> None:
        """Remove the directory with its content."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _remove_left_over(parent: Path) -> None:
    for path in parent.glob(f"{PREFIX}*"):
        try:
            is_young = time.time() - path.stat().st_mtime < YOUNG
            lock = None if is_young else _lock(path)
        except OSError:
            continue  # removed meanwhile, or another user's
        if lock is not None:
            shutil.rmtree(path, ignore_errors=True)
            os.close(lock)


def _lock(path: Path) -> int | None:
    """Lock a directory; return its descriptor, or None if another process has locked it. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor
