"""Sizes at which a few messages fill a page or a chunk, and a directory for files that is fast."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from leveret.router.queue import page_out
from leveret.router.store.journal import truncation as retirement
from leveret.router.store.segments import allocation as segments
from leveret.router.store.segments import compaction, pager
from leveret.router.store.streams import files as streams
from leveret.router.store.streams import log as stream_log
from leveret.router.stream import chunk, tail

_SHARED = Path("/dev/shm")
MEMORY = _SHARED if _SHARED.is_dir() else None  # files are fast there, and forgotten when the power is cut

SMALL = (  # a few messages make pages
    patch.object(page_out, "HEAD", 3),
    patch.object(page_out, "FEW", 2),
    patch.object(page_out, "PAGE_MESSAGES", 4),
    patch.object(retirement, "PAGE_MESSAGES", 4),
    patch.object(pager, "PAGE_MESSAGES", 8),
    patch.object(pager, "LIGHT", 0),
    patch.object(segments, "SEGMENT_BYTES", 800),
    patch.object(segments, "WORTH", 1),
    patch.object(compaction, "SPARSE", 0.6),
)

THIN_SLICES = (  # long work of the store does as little as possible in a slice
    patch.object(retirement, "LOGS", 1),
    patch.object(retirement, "PAGES", 1),
    patch.object(segments, "PAGES", 1),
)

SMALL_STREAMS = (  # a few messages make a chunk, a piece or a write
    patch.object(stream_log, "FLUSH", 300),
    patch.object(stream_log, "MOST", 600),
    patch.object(streams, "PIECE", 400),
    patch.object(streams, "INDEX_EVERY", 300),
    patch.object(tail, "TAIL", 0),
    patch.object(tail, "IDLE_TAIL", 0),
    patch.object(chunk, "CHUNK_BYTES", 250),
)


@contextmanager
def patched(*patches: Any) -> Iterator[None]:
    """Have all of these patches in effect."""
    with ExitStack() as stack:
        for each in patches:
            stack.enter_context(each)
        yield
