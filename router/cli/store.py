"""``leveret store``: check, repair and dump the data directory of a stopped broker; snapshots of a running
one.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from leveret.protocol.json_text import dump_json
from leveret.router.cli.failure import Failure, WrongUsage
from leveret.router.cli.manage.common import managed

if TYPE_CHECKING:
    from leveret.router.cli.api import Api
    from leveret.router.store.lock import Lock
    from leveret.router.store.metadata.statements import QueueRow
    from leveret.router.store.offline.check import Report

SNAPSHOT_TIMEOUT = 3600.0  # seconds


class _Directory(click.Path):
    """The parameter type of an existing data directory."""

    def __init__(self) -> None:
        super().__init__(exists=True, file_okay=False, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if str(value).startswith(("postgresql://", "postgres://")):
            self.fail(
                "a PostgreSQL is no directory. Copy the store into one with 'leveret store copy URL DIR'",
                param,
                ctx,
            )
        return super().convert(value, param, ctx)


DIRECTORY = _Directory()


@click.group()
def store() -> None:
    """Check, repair, dump or back up a data directory.

    A snapshot is taken while the broker runs; the other commands need a directory that no broker uses.
    """


@store.command()
@click.argument("directory", metavar="DIR", type=DIRECTORY)
@click.option("--repair", is_flag=True, help="Set damaged parts aside and keep the rest.")
def check(directory: Path, repair: bool) -> None:
    """Read everything in the data directory DIR and report damage.

    Status 0 means no damage; 1 means damage, or a row of the metadata that a broker ignores at the start.
    Nothing is changed without --repair, which moves damaged parts to DIR/set-aside, so that the broker can
    start, removes such rows, and prints what may be lost.
    """
    from leveret.router.store.offline.check import check as look

    with _opened(directory) as lock:
        report = look(directory, lock.stopped or 0)
        found = report.inspection
        if repair and (found.damage or found.indexes or found.refused):
            _repair(directory, report, lock)
            report = look(directory, lock.stopped or 0)
            click.echo()
        _print(directory, report)
    if report.inspection.damage:
        if repair:
            raise Failure(f"{directory} is still damaged")
        raise Failure(f"{directory} is damaged; --repair sets the damaged part aside and keeps the rest")
    if report.inspection.refused:
        raise Failure(
            f"{directory} has rows that a broker ignores; --repair removes them, and the messages of "
            "such queues with them, which 'leveret store dump' prints"
        )


@store.command()
@click.argument("name", required=False)
@managed
def snapshot(api: "Api", name: str | None) -> None:
    """Take a snapshot of the data directory of a running broker, without stopping it.

    The snapshot contains every message that was confirmed before the command began. It is a data directory of
    its own, snapshots/NAME in that of the broker; the default of NAME is the current time. The user must be
    an administrator.
    """
    from datetime import UTC, datetime

    from leveret.router.cli.terminal import counted, printable

    api.timeout = SNAPSHOT_TIMEOUT
    taken = api.put("snapshots", name or datetime.now(UTC).strftime("%Y-%m-%dT%H-%M-%SZ"))
    linked, copied = (counted(taken[key], "file") for key in ("files_linked", "files_copied"))
    click.echo(printable(taken["path"]))
    click.echo(printable(f"{linked} linked, {copied} copied ({taken['bytes_copied']} bytes)"), err=True)


@store.command()
@click.argument("directory", metavar="DIR", type=DIRECTORY)
@click.option("--vhost", metavar="NAME", help="Only queues of this virtual host.")
@click.option("--queue", metavar="NAME", help="Only queues of this name.")
def dump(directory: Path, vhost: str | None, queue: str | None) -> None:
    """Print the messages in the data directory DIR, one JSON object a line.

    Queues and streams are printed in the order of their declaration, with their messages in order; messages
    of streams have offsets. A body is text, or base64 if it is not UTF-8: see "body_encoding". Messages that
    a broker could not write to its journal and has set aside are printed last, with "set_aside".
    """

    from leveret.router.store.journal.recovery import recover
    from leveret.router.store.offline.directory import ReadOnlyFiles, is_stream, read_metadata
    from leveret.router.store.offline.dump import describe, queue_messages, stream_messages
    from leveret.router.store.streams.files import stream_files
    from leveret.router.store.unpackable_files import read_aside

    files = ReadOnlyFiles()
    with _opened(directory) as lock:
        rows, _ = read_metadata(directory)
        wanted = [row for row in rows if _is_wanted(row, vhost, queue)]
        if not wanted and (queue, vhost) != (None, None):
            named = "queue" if queue is None else f"queue {queue!r}"
            where = "" if vhost is None else f" of virtual host {vhost!r}"
            raise Failure(f"there is no durable {named}{where} in {directory}")
        found = recover(files, directory, [row.id for row in wanted], stopped=lock.stopped or 0)
        streams = stream_files(files, directory)
        for row in wanted:
            state = found.queues[row.id]
            # After a crash it is unknown which messages were delivered: a broker marks all as redelivered.
            delivered = state.next_position if lock.stopped is None else state.delivered
            if is_stream(row):
                messages = stream_messages(files, directory, row.id, streams.get(row.id, []), state)
            else:
                messages = queue_messages(files, directory, state)
            for stored in messages:
                line = dump_json(describe(row, stored, delivered))
                sys.stdout.buffer.write(line.encode() + b"\n")
        for aside in read_aside(directory):
            if vhost in (None, aside.get("vhost")) and queue in (None, aside.get("queue")):
                sys.stdout.buffer.write(dump_json(aside).encode() + b"\n")


@store.command()
@click.argument("source", metavar="FROM")
@click.argument("target", metavar="TO")
@click.option("--schema", default="leveret", help="Schema in the PostgreSQL.", show_default=True)
@click.option(
    "--durability",
    type=click.Choice(["quorum", "local"]),
    default="quorum",
    help="What a commit in the PostgreSQL waits for, as cluster.durability.",
    show_default=True,
)
def copy(source: str, target: str, schema: str, durability: str) -> None:
    """Copy a whole store: from a data directory into a PostgreSQL, or back.

    FROM and TO are each a data directory or a URL that begins with postgresql://. No broker may use either,
    and TO must be new or empty. Everything is read again and compared; the content of FROM is not changed.
    """
    from leveret.router.cli.terminal import counted
    from leveret.router.server.postgresql_store import open_store_at
    from leveret.router.store.backend import StorageError
    from leveret.router.store.metadata.reading import MetadataError
    from leveret.router.store.offline.copying import copy_store

    try:
        origin = open_store_at(source, schema, durability, must_exist=True)
        try:
            place = open_store_at(target, schema, durability)
            done = False
            try:
                copied = copy_store(origin, place)
                done = True
            finally:
                place.metadata.close()
                place.close(clean=done and origin.stopped is not None, sequence=origin.stopped or 0)
        finally:
            origin.leave()
    except (StorageError, MetadataError, OSError) as error:
        raise Failure(str(error)) from None
    click.echo(
        f"copied and compared: {counted(copied.files, 'file')} ({copied.size:,} bytes),"
        f" {counted(copied.rows, 'row')} of the metadata"
    )


def _is_wanted(row: "QueueRow", vhost: str | None, queue: str | None) -> bool:
    return vhost in (None, row.vhost) and queue in (None, row.name)


@contextmanager
def _opened(directory: Path) -> Iterator["Lock"]:
    """Lock a data directory for the block, and turn its errors into Failure."""
    from leveret.router.store.journal.journal import DamageError, FormatError
    from leveret.router.store.lock import DataDirectoryError
    from leveret.router.store.metadata.reading import MetadataError
    from leveret.router.store.offline.directory import lock

    try:
        held = lock(directory)
    except DataDirectoryError as error:
        raise WrongUsage(str(error)) from None
    try:
        yield held
    except BrokenPipeError:
        raise  # the program that reads the output has closed it; click ends without an error
    except (DamageError, FormatError, MetadataError, OSError) as error:
        raise Failure(str(error)) from None
    finally:
        held.leave()


def _repair(directory: Path, report: "Report", lock: "Lock") -> None:
    """Carry out the proposed repair, and print the losses."""
    from datetime import UTC, datetime

    from leveret.router.cli.terminal import printable
    from leveret.router.store.offline.directory import is_stream
    from leveret.router.store.offline.repair import repair
    from leveret.router.stream.gaps import offsets

    found = report.inspection
    aside = repair(directory, found, datetime.now(UTC))
    if found.damage or found.indexes:
        lock.forget()
    for refused in found.refused:
        click.echo(printable(f"removed: {refused.what}"))
    for damage in found.damage:
        click.echo(printable(f"repaired: {damage.path}, offset {damage.offset}: {damage.what}"))
    for path in sorted(found.indexes):
        click.echo(f"repaired: {path.with_suffix('.index')}, written anew")
    names = {row.id: f"queue {row.name!r} of virtual host {row.vhost!r}" for row, _ in report.queues}
    streams = {row.id for row, _ in report.queues if is_stream(row)}
    for queue_id, positions in found.losses:
        name = names.get(queue_id, f"queue {queue_id}")
        if queue_id in streams:
            lost = ", ".join(map(offsets, positions))
            click.echo(f"lost: stream {name.removeprefix('queue ')}, {lost}")
            continue
        ranges = ", ".join(
            f"{first}" if count == 1 else f"{first} to {first + count - 1}" for first, count in positions
        )
        click.echo(f"may be lost: {name}, messages at positions {ranges}")
    for remark in found.remarks:
        click.echo(printable(f"note: {remark}"))
    if aside.exists():
        click.echo(f"the files as they were are in {aside}")


def _print(directory: Path, report: "Report") -> None:
    """Print tables of queues and files, then warnings and damage."""
    from leveret.router.cli.table import Column, lay_out, terminal_width
    from leveret.router.cli.terminal import printable

    queues = [
        {
            "virtual host": row.vhost,
            "queue": row.name,
            "id": row.id,
            "messages": totals.messages,
            "bytes": totals.size,
            "pages": totals.pages,
        }
        for row, totals in report.queues
    ]
    files = [
        {
            "file": str(each.path.relative_to(directory)),
            "kind": each.kind,
            "bytes": each.size,
            "live": each.live,
            "dead": each.size - each.live,
        }
        for each in report.files
    ]
    for rows, texts, numbers in (
        (queues, ("virtual host", "queue"), ("id", "messages", "bytes", "pages")),
        (files, ("file", "kind"), ("bytes", "live", "dead")),
    ):
        columns = [Column(name, name) for name in texts]
        columns += [Column(name, name, number=True) for name in numbers]
        click.echo("\n".join(lay_out(rows, columns, terminal_width()).lines))
        click.echo()
    found = report.inspection
    for label, findings in (
        ("warning", found.warnings),
        ("refused", found.refused),
        ("damage", found.damage),
    ):
        for finding in findings:
            click.echo(printable(f"{label}: {finding.path}, offset {finding.offset}: {finding.what}"))
    if not found.damage and not found.refused:
        click.echo(f"{directory} is undamaged")
