"""The file operations of the store, in one place, so that a test can make any of them fail.

Responsible for the system calls. The caller chooses paths and handles failures.
"""

import contextlib
import errno
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

Data = bytes | bytearray
LARGEST = 1 << 32  # bytes; a journal file has up to 2 GiB and the rest of its last batch


class Files(Protocol):
    """The interface. Every operation but ``close`` raises OSError if it fails. Paths are inside one data
    directory.
    """

    def create(self, path: Path, size: int) -> int:
        """Create a file of ``size`` zero bytes, on disk together with its name; return its descriptor."""

    def open(self, path: Path) -> int:
        """Open an existing file for reading and writing; return its descriptor."""

    def write(self, descriptor: int, data: Data, offset: int) -> None:
        """Write all of ``data`` at ``offset``. After a failure any part of it may have been written."""

    def sync(self, descriptor: int) -> None:
        """Put everything that was written to the file on disk.

        After a failure the state of everything written since the last success is unknown, and a second call
        proves nothing: the data must be written again.
        """

    def read(self, descriptor: int, size: int, offset: int) -> bytes:
        """Return up to ``size`` bytes from ``offset``; fewer only at the end of the file."""

    def size(self, path: Path) -> int:
        """Return the bytes of a file."""

    def close(self, descriptor: int) -> None:
        """Close a descriptor. Never fails: everything important was synced, and the descriptor is closed in
        any case.
        """

    def replace(self, path: Path, data: Data) -> None:
        """Replace a file as a whole, or create it, atomically and on disk."""

    def remove(self, path: Path) -> None:
        """Remove a file, if it exists. After a crash it may exist again."""

    def sync_directory(self, directory: Path) -> None:
        """Put the names in a directory on disk."""

    def make_directory(self, directory: Path) -> None:
        """Create a directory with its parents, on disk together with their names, unless it exists."""

    def list(self, directory: Path) -> Sequence[Path]:
        """Return the files of a directory, by name; none if it does not exist."""


class DiskFiles:
    """The implementation on a real file system."""

    def create(self, path: Path, size: int) -> int:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
        try:
            if size:
                _allocate(descriptor, size)
                os.fsync(descriptor)
            self.sync_directory(path.parent)
        except OSError:
            self.close(descriptor)
            with contextlib.suppress(OSError):
                path.unlink()
            raise
        return descriptor

    def open(self, path: Path) -> int:
        return open_regular(path, os.O_RDWR)

    def write(self, descriptor: int, data: Data, offset: int) -> None:
        view = memoryview(data)
        while view:
            written = os.pwrite(descriptor, view, offset)
            view = view[written:]
            offset += written

    def sync(self, descriptor: int) -> None:
        os.fdatasync(descriptor)

    def read(self, descriptor: int, size: int, offset: int) -> bytes:
        pieces = []
        while size:
            piece = os.pread(descriptor, size, offset)
            if not piece:
                break
            pieces.append(piece)
            size -= len(piece)
            offset += len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def size(self, path: Path) -> int:
        return path.stat().st_size

    def close(self, descriptor: int) -> None:
        with contextlib.suppress(OSError):
            os.close(descriptor)

    def replace(self, path: Path, data: Data) -> None:
        temporary = path.with_name(path.name + ".tmp")
        temporary.unlink(missing_ok=True)  # rather than follow a link, or wait for the reader of a FIFO
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
        try:
            self.write(descriptor, data, 0)
            os.fsync(descriptor)
            temporary.rename(path)
        except OSError:
            with contextlib.suppress(OSError):
                temporary.unlink()  # it may use the space whose lack caused the failure
            raise
        finally:
            self.close(descriptor)
        self.sync_directory(path.parent)

    def remove(self, path: Path) -> None:
        path.unlink(missing_ok=True)

    def sync_directory(self, directory: Path) -> None:
        descriptor = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def make_directory(self, directory: Path) -> None:
        if not directory.is_dir():
            self.make_directory(directory.parent)
            directory.mkdir(exist_ok=True)
            self.sync_directory(directory.parent)

    def list(self, directory: Path) -> Sequence[Path]:
        # Not Path.glob, which treats an unreadable directory as empty.
        try:
            with os.scandir(directory) as entries:
                return sorted(directory / entry.name for entry in entries if entry.is_file())
        except FileNotFoundError:
            return ()


def open_regular(path: Path, flags: int, mode: int = 0o640) -> int:
    """Open a regular file; return its descriptor. Raises OSError for a FIFO or a device, without waiting."""
    descriptor = os.open(path, flags | os.O_CLOEXEC | os.O_NONBLOCK, mode)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return descriptor


def read_whole(files: Files, descriptor: int) -> bytes:
    """Return the content of a file. Raises OSError for one that is larger than any file of the store."""
    pieces = []
    offset = 0
    while piece := files.read(descriptor, 1 << 24, offset):
        pieces.append(piece)
        offset += len(piece)
        if offset > LARGEST:
            raise OSError(errno.EFBIG, f"a file of more than {LARGEST >> 30} GiB is none of the store's")
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _allocate(descriptor: int, size: int) -> None:
    try:
        os.posix_fallocate(descriptor, 0, size)
    except OSError as error:
        # Some C libraries do not emulate the call on file systems without it. The zeros take no space then,
        # and a full disk is noticed when they are overwritten.
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
            raise
        os.ftruncate(descriptor, size)
