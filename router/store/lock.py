"""The lock of a data directory: one process at a time, and the record of a regular stop.

Responsible for the file ``lock``, and for a lock on the directory itself, which still excludes a second
process if a clean-up program removes the file. The first line of the file is the id of the process that holds
the lock; it is meaningless after a release. A second line ``stopped <sequence>`` exists if the last broker
stopped regularly: everything was on disk then, up to this batch of the journal. The line stays until the next
broker has read the directory, even if that broker fails.
"""

import fcntl
import os
import re
from pathlib import Path

from leveret.router.store.backend import StorageError

NAME = "lock"
_SIZE = 64
_STOPPED = re.compile(rb"stopped (\d+)\n")


class DataDirectoryError(StorageError):
    """A data directory that cannot be used; the text gives the reason."""


class Lock:
    """The lock of a data directory, held until it is released or the process ends."""

    def __init__(self, directory: Path) -> None:
        """Acquire the lock. Raises DataDirectoryError, which names the process that holds it."""
        try:
            self._directory = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                self._file = os.open(directory / NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
            except OSError:
                os.close(self._directory)
                raise
        except OSError as error:
            raise DataDirectoryError(f"cannot use the data directory {directory}: {error.strerror}") from None
        if not (_flock(self._file) and _flock_directory(self._directory)):
            holder = os.pread(self._file, _SIZE, 0).partition(b"\n")[0].decode("ascii", "replace").strip()
            self.release()
            by = f"the process {holder}" if holder else f"a process that has lost its file '{NAME}'"
            raise DataDirectoryError(
                f"the data directory {directory} is in use by {by}; stop it or choose another directory"
            )
        self._found = os.pread(self._file, _SIZE, 0)
        stopped = _STOPPED.search(self._found)
        # None: the last broker did not stop regularly, or there was none.
        self.stopped = None if stopped is None else int(stopped[1])
        self._write(f"{os.getpid()}\n".encode() + (stopped[0] if stopped is not None else b""))

    def begin(self) -> None:
        """Remove the record of the last stop: the directory was read and will change."""
        self._write(f"{os.getpid()}\n".encode())

    def stop(self, sequence: int) -> None:
        """Record a regular stop and release the lock; everything is on disk up to batch ``sequence``."""
        self._write(f"\nstopped {sequence}\n".encode())
        self.release()

    def leave(self) -> None:
        """Restore the record that was found and release the lock: the directory was not changed."""
        self._write(self._found)
        self.release()

    def forget(self) -> None:
        """Remove the record of the last stop: the directory has been changed."""
        self.stopped = None
        self._found = b""

    def release(self) -> None:
        """Release the lock without a record: the next process must expect any state."""
        os.close(self._file)
        os.close(self._directory)

    def _write(self, content: bytes) -> None:
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, content, 0)
        os.fsync(self._file)  # so that an irregular stop is recorded even after a crash of the machine


def _flock(descriptor: int) -> bool:
    """Lock an open file. Return False if another process has locked it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _flock_directory(descriptor: int) -> bool:
    """Lock the directory itself. Return False if another process has locked it.

    Returns True on NFS, which cannot lock a directory: there only the file is locked.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True
