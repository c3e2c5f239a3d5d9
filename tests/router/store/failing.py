"""A data directory in memory whose operations can fail, and what a power cut leaves of it.

What was synced is on disk. Of what was written since, a power cut leaves any part of any write, sector by
sector, in any order; a name that was removed may be there again.
"""

import errno
import os
from collections.abc import Callable, Container
from pathlib import Path
from random import Random

SECTOR = 512
READING = frozenset(("open", "read", "list"))
WRITING = frozenset(("create", "write", "sync", "replace", "remove", "sync_directory"))
EVERYTHING = READING | WRITING


class Killed(BaseException):
    """The process ends here."""


class Node:
    """A file: what a reader sees, what is on disk, and the writes in between."""

    def __init__(self, data: bytes = b"") -> None:
        self.seen = bytearray(data)
        self.disk = bytearray(data)
        self.unsynced: list[tuple[int, bytes]] = []

    def write(self, data: bytes, offset: int) -> None:
        put(self.seen, data, offset)
        self.unsynced.append((offset, bytes(data)))

    def sync(self) -> None:
        for offset, data in self.unsynced:
            put(self.disk, data, offset)
        self.unsynced.clear()

    def after_power_cut(self, random: Random) -> "Node":
        disk = bytearray(self.disk)
        for offset, data in self.unsynced:
            match random.randrange(4):
                case 0:
                    put(disk, data, offset)
                case 1:
                    put(disk, data[: random.randint(0, len(data))], offset)
                case 2:
                    for start in range(0, len(data), SECTOR):
                        if random.randrange(2):
                            put(disk, data[start : start + SECTOR], offset + start)
        return Node(disk)


def put(target: bytearray, data: bytes, offset: int) -> None:
    if data:
        target.extend(bytes(max(0, offset - len(target))))
        target[offset : offset + len(data)] = data


class FailingFiles:
    """``Files`` in memory. The operations are counted from 1; those in ``fail`` fail, as far as they are in
    ``only``.

    ``left``: a write that fails has written half of it, a sync has reached the disk, a file that could not be
    made is there, a file that could not be replaced is. Otherwise there is nothing of it, and what a failed
    sync was to write will never be on disk, though it can be read until the power is cut. With ``kill`` the
    process ends instead.

    ``before`` is called with each operation's name and number: it may take its time.
    """

    def __init__(
        self,
        fail: range = range(0),
        *,
        left: bool = False,
        kill: bool = False,
        error: int = errno.EIO,
        only: Container[str] = EVERYTHING,
        before: Callable[[str, int], None] = lambda _name, _number: None,
    ) -> None:
        self.fail = fail
        self.left = left
        self.kill = kill
        self.error = error
        self.only = only
        self.before = before
        self.operations = 0
        self.seen: dict[Path, Node] = {}
        self.disk: dict[Path, Node] = {}
        self.open_files: dict[int, Node] = {}
        self._next = 100

    # -- what happens to the machine ----------------------------------------------------------------------

    def cut_power(self, seed: int) -> "FailingFiles":
        """The directory as it may be found after a power cut now."""
        random = Random(seed)
        after = FailingFiles()
        for path in sorted(self.seen.keys() | self.disk.keys()):
            node = random.choice([self.seen.get(path), self.disk.get(path)])
            if node is not None:
                after.seen[path] = after.disk[path] = node.after_power_cut(random)
        return after

    def restart_process(self) -> "FailingFiles":
        """The directory as the next process finds it when only this one has ended."""
        after = FailingFiles()
        after.seen, after.disk = self.seen, self.disk
        return after

    def _fails(self, name: str) -> bool:
        self.operations += 1
        self.before(name, self.operations)
        failing = self.operations in self.fail and name in self.only
        if failing and self.kill and not self.left:
            raise Killed
        return failing

    def _raise(self) -> None:
        raise Killed if self.kill else OSError(self.error, os.strerror(self.error))

    def _sync_names(self, directory: Path) -> None:
        for path in [path for path in self.disk if path.parent == directory and path not in self.seen]:
            del self.disk[path]
        self.disk.update({path: node for path, node in self.seen.items() if path.parent == directory})

    # -- Files --------------------------------------------------------------------------------------------

    def create(self, path: Path, size: int) -> int:
        fails = self._fails("create")
        if path in self.seen:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
        if not fails or self.left:
            self.seen[path] = Node(bytes(size))
        if fails:
            self._raise()
        self._sync_names(path.parent)
        return self._descriptor(self.seen[path])

    def open(self, path: Path) -> int:
        if self._fails("open"):
            self._raise()
        if path not in self.seen:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        return self._descriptor(self.seen[path])

    def _descriptor(self, node: Node) -> int:
        self._next += 1
        self.open_files[self._next] = node
        return self._next

    def write(self, descriptor: int, data: bytes, offset: int) -> None:
        node = self.open_files[descriptor]
        if not self._fails("write"):
            node.write(data, offset)
            return
        if self.left:
            node.write(data[: len(data) // 2], offset)
        self._raise()

    def sync(self, descriptor: int) -> None:
        node = self.open_files[descriptor]
        fails = self._fails("sync")
        if not fails or self.left:
            node.sync()
        if fails:
            node.unsynced.clear()
            self._raise()

    def read(self, descriptor: int, size: int, offset: int) -> bytes:
        if self._fails("read"):
            self._raise()
        return bytes(self.open_files[descriptor].seen[offset : offset + size])

    def size(self, path: Path) -> int:
        if path not in self.seen:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        return len(self.seen[path].seen)

    def close(self, descriptor: int) -> None:
        del self.open_files[descriptor]  # KeyError for one that is closed: it would be another's by now

    def replace(self, path: Path, data: bytes) -> None:
        fails = self._fails("replace")
        if not fails or self.left:
            self.seen[path] = Node(data)
        if fails:
            self._raise()
        self._sync_names(path.parent)

    def remove(self, path: Path) -> None:
        if self._fails("remove"):
            self._raise()
        self.seen.pop(path, None)

    def sync_directory(self, directory: Path) -> None:
        fails = self._fails("sync_directory")
        if not fails or self.left:
            self._sync_names(directory)
        if fails:
            self._raise()

    def make_directory(self, directory: Path) -> None:
        self.sync_directory(directory.parent)

    def list(self, directory: Path) -> list[Path]:
        if self._fails("list"):
            self._raise()
        return sorted(path for path in self.seen if path.parent == directory)
