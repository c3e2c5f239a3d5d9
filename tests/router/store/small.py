"""Sizes at which a few messages fill a page, and a place for files that is fast."""

from pathlib import Path
from unittest.mock import patch

from leveret.router.queue import fifo
from leveret.router.store.journal import truncation as retirement
from leveret.router.store.segments import allocation as segments
from leveret.router.store.segments import compaction, pager

_SHARED = Path("/dev/shm")
MEMORY = _SHARED if _SHARED.is_dir() else None  # files are fast there, and forgotten when the power is cut

SMALL = (  # so that a few messages make pages
    patch.object(fifo, "HEAD", 3),
    patch.object(fifo, "FEW", 2),
    patch.object(fifo, "PAGE_MESSAGES", 4),
    patch.object(retirement, "PAGE_MESSAGES", 4),
    patch.object(pager, "PAGE_MESSAGES", 8),
    patch.object(pager, "A_TURN", 2),
    patch.object(pager, "LIGHT", 0),
    patch.object(segments, "SEGMENT_BYTES", 800),
    patch.object(segments, "WORTH", 1),
    patch.object(compaction, "SPARSE", 0.6),
)
