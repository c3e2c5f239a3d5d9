"""Buffers for the frames of large messages.

A new ``bytearray`` of 16 MiB takes 6 ms, because its memory is new to the process and is filled with zeros. A
private mapping takes time only where it is written, 0.4 ms for a MiB. (In huge pages it would be a tenth, but
Linux may take 20 ms to find one in memory that is fragmented.)
"""

import mmap
from typing import TypeAlias

# Bytes from which a buffer is a mapping. Smaller ones are often made of memory that the process has already.
MAPPED = 1 << 23


class MappedBuffer(mmap.mmap):
    """A mapping with those methods of ``bytes`` that frames need. It never equals bytes."""

    def startswith(self, prefix: bytes, start: int = 0) -> bool:
        return self[start : start + len(prefix)] == prefix


Buffer: TypeAlias = bytearray | MappedBuffer
Part: TypeAlias = bytes | Buffer | memoryview  # of the bytes that are sent to a connection


def make_buffer(size: int) -> Buffer:
    """Return a buffer of ``size`` bytes, all zero. Raises OSError if the system refuses a mapping."""
    if size < MAPPED:
        return bytearray(size)
    return MappedBuffer(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
