"""What the files of streams hold, chunk by chunk, and where one cannot be read.

Nothing of it is mended: what is behind a damaged chunk of a segment has no place to go to but its own.
"""

from pathlib import Path

from router.store.files import Files
from router.store.findings import Finding, Inspection, Totals
from router.store.journal import DamageError
from router.store.recovery import Recovered
from router.store.streams import read_chunks, read_segment_head, segment_path, stream_files
from router.stream.log import SEGMENT_HEAD


def inspect_streams(found: Inspection, files: Files, directory: Path, recovered: Recovered) -> None:
    """Read every chunk of every segment. Raises FormatError and OSError."""
    for stream, firsts in sorted(stream_files(files, directory).items()):
        if stream not in recovered.queues:
            for first in firsts:
                path = segment_path(directory, stream, first)
                found.warnings.append(Finding(path, 0, "of a stream that is gone; the broker will remove it"))
            continue
        totals = found.queues.setdefault(stream, Totals())
        for first, behind in zip(firsts, [*firsts[1:], 0], strict=True):
            end = _inspect_segment(found, files, directory, totals, stream, first, behind)
            # What the journal has as well was counted there.
            totals.messages -= sum(first <= each < end for each in recovered.queues[stream].entries)


def _inspect_segment(  # noqa: PLR0917 - the parts of one place
    found: Inspection, files: Files, directory: Path, totals: Totals, stream: int, first: int, behind: int
) -> int:
    """Return the offset behind its last message; ``behind`` is where the next segment begins, 0 for none."""
    path = segment_path(directory, stream, first)
    try:
        head = read_segment_head(files, directory, stream, first)
    except DamageError as error:
        found.damage.append(Finding(path, error.offset, error.what))
        return first
    if head is None:
        found.warnings.append(Finding(path, 0, "a segment that was made and not begun"))
        return first
    place, end = SEGMENT_HEAD, first
    descriptor = files.open(path)
    try:
        while place < head.size and (chunks := read_chunks(files, descriptor, place, head.size)):
            totals.messages += chunks[-1].end - chunks[0].first
            totals.size += sum(chunk.size for chunk in chunks)
            end, place = chunks[-1].end, place + chunks[-1].stop
    finally:
        files.close(descriptor)
    found.live[path] = place
    if behind and end != behind:
        found.damage.append(Finding(path, place, f"offsets {end} to {behind - 1} cannot be read"))
        found.remarks.append(f"{path.name} cannot be mended: readers that come to offset {end} are cancelled")
    elif place < head.size:
        found.warnings.append(Finding(path, place, "a write that was cut off; the journal has it"))
    return end
