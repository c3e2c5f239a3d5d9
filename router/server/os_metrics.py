"""What the machine says of memory and disk: how much there is, and how much the process takes up.

Owns the ways to ask, and to give memory back. Everything here may block for a moment: call it in a thread.
"""

import ctypes
import gc
import os
import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path

STATM = Path("/proc/self/statm")
KIB = 1024
RESERVE = 128  # files that the broker may need for itself at a time: its store's, above all


def memory_limit(root: Path = Path("/")) -> int:
    """Bytes that the process may take up: the machine's memory, or less if a control group says so."""
    return min([os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), *_group_limits(root)])


def _group_limits(root: Path) -> Iterator[int]:
    """The limits of the process's own control group and of all above it, in version 1 or 2 or both.

    A container may see its own group at the top of the tree, though it is told another path.
    """
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, group = line.split(":", 2)
        if not controllers:
            tree, name = root / "sys/fs/cgroup", "memory.max"
        elif "memory" in controllers.split(","):
            tree, name = root / "sys/fs/cgroup/memory", "memory.limit_in_bytes"
        else:
            continue
        path = Path(group.lstrip("/"))
        for each in (path, *path.parents):
            limit = _read(tree / each / name).strip()
            if limit.isdigit():  # and not "max"
                yield int(limit)


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def resident_memory() -> int:
    """Bytes of memory that the process takes up now; 0 where nobody can say."""
    if fields := _read(STATM).split():
        return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")
    # getrusage knows the most there ever was, which would never clear an alarm.
    command = ["ps", "-o", "rss=", "-p", str(os.getpid())]
    try:
        asked = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return 0
    return int(asked.stdout.strip() or 0) * KIB


def give_memory_back() -> None:
    """Give back to the system what the C library keeps of freed memory.

    glibc keeps it below whatever is still in use, for ever: after a backlog of 400 MB in bodies of 20 kB was
    drained, 398 MB of it stayed, and an alarm would never have been cleared. Trimming takes 30 ms then, and
    less than one when there is nothing to give. (Smaller objects are CPython's, which gives them back.)
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


class _MallInfo(ctypes.Structure):
    """glibc's struct mallinfo2, see mallinfo(3)."""

    _fields_ = [
        *((name, ctypes.c_size_t) for name in ("arena", "ordblks", "smblks", "hblks", "hblkhd")),
        *((name, ctypes.c_size_t) for name in ("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")),
    ]


def freed_memory() -> int:
    """Bytes that were freed and that the C library keeps; 0 where it does not say."""
    info = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if info is None:
        return 0
    info.restype = _MallInfo
    return int(info().fordblks)


def collect_garbage() -> None:
    """Free cycles, however old: the broker's collector looks at young objects only.

    Takes a quarter of a second for a million messages, in which nothing else runs.
    """
    gc.collect()


def open_files() -> int:
    """How many files and sockets the process has open; 0 where nobody can say."""
    try:
        return len(os.listdir("/proc/self/fd"))
    except OSError:
        return 0


def most_files() -> int:
    """How many it may have open."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def most_threads(root: Path = Path("/")) -> int:
    """Return the limit on threads of the process; 0 if it is unknown."""
    limit = resource.getrlimit(resource.RLIMIT_NPROC)[0]
    if limit != resource.RLIM_INFINITY:
        return limit
    text = _read(root / "proc/sys/kernel/threads-max").strip()
    return int(text) if text.isdigit() else 0


def context_switches() -> int:
    """Return the number of context switches of the process, voluntary and involuntary."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_nvcsw + used.ru_nivcsw


def most_connections() -> int:
    """How many of them may be connections, so that the broker can still open files; 0 is any number."""
    files = most_files()
    return 0 if files == resource.RLIM_INFINITY else max(files - RESERVE, files // 2)


def free_space(path: str) -> int:
    """Bytes that may still be written in a directory; 0 when its file system does not answer."""
    try:
        found = os.statvfs(path)
    except OSError:
        return 0
    return found.f_bavail * found.f_frsize
