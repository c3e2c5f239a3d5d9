"""Wait for data on sockets and terminals, also in a process that has more than 1,024 open files."""

import select
from collections.abc import Iterable
from typing import Protocol, TypeVar


class HasDescriptor(Protocol):
    def fileno(self) -> int: ...


Source = TypeVar("Source", bound=int | HasDescriptor)


def readable(sources: Iterable[Source], seconds: float) -> list[Source]:
    """Return the sources that have data within ``seconds``, or have ended."""
    poll = select.poll()
    found = {source if isinstance(source, int) else source.fileno(): source for source in sources}
    for descriptor in found:
        poll.register(descriptor, select.POLLIN)
    return [found[descriptor] for descriptor, _ in poll.poll(max(0.0, seconds) * 1000)]
