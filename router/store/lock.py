"""The lock of a data directory: one process at a time, and the record of a regular stop.

Responsible for the file ``lock``, and for a lock on the directory itself, which still excludes a second
process if a clean-up program removes the file. The first line of the file is the id of the process that holds
the lock; it is meaningless after a release. A second line ``stopped <sequence>`` exists if the last broker
stopped regularly: everything was on disk then, up to this batch of the journal. The line stays until the next
broker has read the directory, even if that broker fails.
"""

import errno
import fcntl
import os
import re
from pathlib import Path

from leveret.router.store.backend import StorageError
from leveret.router.store.files import open_regular

NAME = "lock"
_SIZE = 64
_STOPPED = re.compile(rb"stopped (\d+)\n")


class DataDirectoryError(StorageError):
    """A data directory that cannot be used; the text gives the reason."""


class Lock:
    """The lock of a data directory, held until it is released or the process ends."""

    def __init__(self, directory: Path, *, may_read_only: bool = False) -> None:
        """Acquire the lock. Raises DataDirectoryError, which names the process that holds it.

        With ``may_read_only`` a directory without permission to write, or in a file system that is mounted
        read-only, is locked too; its lock file is not written then.
        """
        self._descriptors: list[int] = []  # the directory, and the file if there is one
        try:
            self._acquire(directory, may_read_only)
        except OSError as error:
            self.release()
            raise DataDirectoryError(cannot_use(directory, error)) from None

    def _acquire(self, directory: Path, may_read_only: bool) -> None:
        """Open and lock the directory and the file, and read the record of the last stop."""
        opened = self._descriptors
        opened.append(os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        self._found = b""
        self._is_writable, file = _open_file(directory / NAME, may_read_only)
        if file is not None:
            opened.append(file)
            self._found = os.pread(file, _SIZE, 0)
        if not (all(map(_flock, opened[1:])) and _flock_directory(opened[0])):
            holder = self._found.partition(b"\n")[0].decode("ascii", "replace").strip()
            self.release()
            by = (
                f"the process {holder}"
                if holder.isdecimal()
                else f"a process that has lost its file '{NAME}'"
            )
            raise DataDirectoryError(
                f"the data directory {directory} is in use by {by}; stop it or choose another directory"
            )
        if file is not None:
            self._found = os.pread(file, _SIZE, 0)
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
        while self._descriptors:
            os.close(self._descriptors.pop())

    def _write(self, content: bytes) -> None:
        if not self._is_writable:
            return
        file = self._descriptors[1]
        os.ftruncate(file, 0)
        os.pwrite(file, content, 0)
        os.fsync(file)  # so that an irregular stop is recorded even after a crash of the machine


def cannot_use(directory: Path, error: OSError) -> str:
    """Return the text of an error about a data directory; it names the file if that is another one."""
    what = f": {error.filename}" if error.filename and Path(error.filename) != directory else ""
    return f"cannot use the data directory {directory}: {error.strerror or error}{what}"


def _open_file(path: Path, may_read_only: bool) -> tuple[bool, int | None]:
    """Open the lock file; return whether it can be written, and its descriptor. Raises OSError.

    Returns None in place of the descriptor if the file does not exist and cannot be created.
    """
    try:
        return True, open_regular(path, os.O_RDWR | os.O_CREAT)
    except OSError as error:
        if not may_read_only or error.errno not in (errno.EROFS, errno.EACCES, errno.EPERM):
            raise
    try:
        return False, open_regular(path, os.O_RDONLY)
    except FileNotFoundError:
        return False, None


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
