"""``leveret store``: look into a data directory whose broker does not run, and read its messages."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from router.cli.failure import Failure, WrongUsage

if TYPE_CHECKING:
    from router.store.lock import Lock
    from router.store.metadata import QueueRow

DIRECTORY = click.Path(exists=True, file_okay=False, path_type=Path)


@click.group()
def store() -> None:
    """Look into a data directory while no broker uses it."""


@store.command()
@click.argument("directory", metavar="DIR", type=DIRECTORY)
@click.option("--vhost", metavar="NAME", help="Only queues of this virtual host.")
@click.option("--queue", metavar="NAME", help="Only queues of this name.")
def dump(directory: Path, vhost: str | None, queue: str | None) -> None:
    """Print the messages in the data directory DIR, one JSON object a line.

    Queues come in the order they were declared, and the messages of each in the order they came. A body is
    text, or base64 if it is not UTF-8: see "body_encoding".
    """
    import json

    from router.store.dump import describe, queue_messages
    from router.store.offline import ReadOnlyFiles, read_metadata
    from router.store.recovery import recover

    files = ReadOnlyFiles()
    with _opened(directory) as lock:
        rows, _ = read_metadata(directory)
        wanted = [row for row in rows if _is_wanted(row, vhost, queue)]
        if queue is not None and not wanted:
            raise Failure(f"there is no durable queue {queue!r} in {directory}")
        found = recover(files, directory, [row.id for row in wanted], stopped=lock.stopped or 0)
        for row in wanted:
            state = found.queues[row.id]
            # After a crash nobody knows what was delivered, and everything comes as redelivered.
            delivered = state.next_position if lock.stopped is None else state.delivered
            for stored in queue_messages(files, directory, state):
                text = json.dumps(describe(row, stored, delivered), ensure_ascii=False)
                # Names may hold bytes that are no UTF-8; JSON spells those out.
                sys.stdout.buffer.write(text.encode("utf-8", "backslashreplace") + b"\n")


def _is_wanted(row: "QueueRow", vhost: str | None, queue: str | None) -> bool:
    return vhost in (None, row.vhost) and queue in (None, row.name)


@contextmanager
def _opened(directory: Path) -> Iterator["Lock"]:
    """The lock of a data directory, and what goes wrong with it in the command's own words."""
    from router.store.journal import DamageError, FormatError
    from router.store.lock import DataDirectoryError
    from router.store.metadata import MetadataError
    from router.store.offline import lock

    try:
        held = lock(directory)
    except DataDirectoryError as error:
        raise WrongUsage(str(error)) from None
    try:
        yield held
    except BrokenPipeError:
        raise  # whoever read it has seen enough; click ends quietly
    except (DamageError, FormatError, MetadataError, OSError) as error:
        raise Failure(str(error)) from None
    finally:
        held.leave()
