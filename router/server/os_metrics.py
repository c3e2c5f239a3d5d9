"""Measurements of the operating system: memory, disk, files and threads, limits and use by the process.

Also returns freed memory to the system. All functions may block for a moment: call them in a thread.
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
RESERVE = 128  # files that the broker itself may need at a time, mainly for its store


def memory_limit(root: Path = Path("/")) -> int:
    """Return the bytes of memory that the process may use: the machine's, or less by a limit of a control
    group.
    """
    return min([os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), *_group_limits(root)])


def _group_limits(root: Path) -> Iterator[int]:
    """Yield the limits of the process's control group and of all groups above it, in version 1 or 2 or both.

    A container may see its own group at the top of the tree, though its path is another one.
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
    """Return the bytes of memory that the process uses; 0 if unknown."""
    if fields := _read(STATM).split():
        return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")
    # getrusage has only the maximum so far, which would never clear an alarm.
    command = ["ps", "-o", "rss=", "-p", str(os.getpid())]
    try:
        asked = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return 0
    return int(asked.stdout.strip() or 0) * KIB


def give_memory_back() -> None:
    """Return to the system the freed memory that the C library keeps.

    glibc keeps freed memory between blocks that are in use: after a backlog of 400 MB in bodies of 20 kB was
    drained, 398 MB stayed resident, and an alarm would never have been cleared. Trimming took 30 ms then, and
    takes less than 1 ms if there is nothing to return. (CPython manages small objects, and returns their
    memory.)
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
    """Return the bytes of freed memory that the C library keeps; 0 if unknown."""
    info = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if info is None:
        return 0
    info.restype = _MallInfo
    return int(info().fordblks)


def collect_garbage() -> None:
    """Collect cycles of all generations: the broker's collector looks at young objects only.

    Takes a quarter of a second for a million messages, in which nothing else runs.
    """
    gc.collect()


def open_files() -> int:
    """Return the number of open files and sockets of the process; 0 if unknown.

    Listing them takes a millisecond or more for every thousand; since Linux 6.2 the size of the directory is
    their number.
    """
    try:
        return os.stat("/proc/self/fd").st_size or len(os.listdir("/proc/self/fd"))
    except OSError:
        return 0


def most_files() -> int:
    """Return the limit on open files."""
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
    """Return the limit on connections that leaves enough files for the broker itself; 0: no limit."""
    files = most_files()
    return 0 if files == resource.RLIM_INFINITY else max(files - RESERVE, files // 2)


def free_space(path: str) -> int:
    """Return the free bytes in the file system of a directory; 0 if it does not answer."""
    try:
        found = os.statvfs(path)
    except OSError:
        return 0
    return found.f_bavail * found.f_frsize
