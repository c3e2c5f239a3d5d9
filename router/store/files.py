"""The few file operations that the store is made of, in one place, so that a test can have any of them fail.

Owns nothing but the calls: what is written where, and what a failure means, is the caller's.
"""

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol


class Files(Protocol):
    """Every operation raises OSError when it fails. Paths are inside one data directory."""

    def create(self, path: Path, size: int) -> int:
        """A new file of ``size`` bytes of zeros, on disk together with its name; return its descriptor."""

    def open(self, path: Path) -> int:
        """An existing file, for reading and writing."""

    def write(self, descriptor: int, data: bytes, offset: int) -> None:
        """Write all of ``data`` at ``offset``."""

    def sync(self, descriptor: int) -> None:
        """Have everything that was written to the file on disk."""

    def read(self, descriptor: int, size: int, offset: int) -> bytes:
        """Up to ``size`` bytes from ``offset``; fewer only at the end of the file."""

    def truncate(self, descriptor: int, size: int) -> None: ...
    def close(self, descriptor: int) -> None: ...
    def replace(self, path: Path, data: bytes) -> None:
        """Put a whole file in the place of the one that may be there, at once or not at all, on disk."""

    def rename(self, path: Path, to: Path) -> None: ...
    def remove(self, path: Path) -> None:
        """Remove a file; one that is not there is removed already."""

    def list(self, directory: Path) -> Sequence[Path]:
        """The files of a directory, by name; none when it does not exist."""


class DiskFiles:
    """The real ones."""

    def create(self, path: Path, size: int) -> int:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
        try:
            if size:
                os.posix_fallocate(descriptor, 0, size)
                os.fsync(descriptor)
            self._sync_directory(path.parent)
        except OSError:
            os.close(descriptor)
            with contextlib.suppress(OSError):
                path.unlink()
            raise
        return descriptor

    def open(self, path: Path) -> int:
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)

    def write(self, descriptor: int, data: bytes, offset: int) -> None:
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
        return b"".join(pieces)

    def truncate(self, descriptor: int, size: int) -> None:
        os.ftruncate(descriptor, size)

    def close(self, descriptor: int) -> None:
        os.close(descriptor)

    def replace(self, path: Path, data: bytes) -> None:
        temporary = path.with_name(path.name + ".tmp")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o640)
        try:
            self.write(descriptor, data, 0)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        temporary.rename(path)
        self._sync_directory(path.parent)

    def rename(self, path: Path, to: Path) -> None:
        path.rename(to)
        self._sync_directory(to.parent)

    def remove(self, path: Path) -> None:
        path.unlink(missing_ok=True)

    def list(self, directory: Path) -> Sequence[Path]:
        return sorted(path for path in directory.glob("*") if path.is_file())

    def _sync_directory(self, directory: Path) -> None:
        descriptor = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
