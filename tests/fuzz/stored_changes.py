"""Changes of stored structures: one field or some bytes of one structure, with its checksum made right again.

``CHANGES`` has them by name. Which messages may be missing afterwards is what each returns.
"""

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from random import Random
from struct import Struct, unpack_from
from zlib import crc32

import msgspec

from leveret.router.store.journal.checkpoint import MAGIC as CHECKPOINT
from leveret.router.store.journal.journal import FILE_HEADER
from leveret.router.store.journal.reading import batch_at, read_header
from leveret.router.store.segments.pages import PAGE, find_pages
from leveret.router.stream.chunk import chunks_of
from leveret.router.stream.log import SEGMENT_HEAD
from tests.fuzz.mutate import change_bytes
from tests.fuzz.stored_ground import EVERYTHING, Bodies, Ground, bodies_in

Change = Callable[[Ground, Path, int, int, int], Bodies | None]
CHANGES: dict[str, Change] = {}


def change(function: Change) -> Change:
    """A function that changes ``path``: field ``field`` of structure ``which``, by ``number``; all are taken
    modulo what there is. Returns the bodies that may be missing then.
    """
    CHANGES[function.__name__] = function
    return function


def _number(old: int, number: int, bits: int) -> int:
    """Another value of an integer: an absolute one, or from under 4 on one near the old one."""
    value = old + number - 2 if 0 <= number < 5 else number
    return value % (1 << bits)


def _bytes(old: bytes, number: int) -> bytes:
    """Other bytes."""
    random, data = Random(number), bytearray(old)
    for _ in range(random.randint(1, 3)):
        change_bytes(data, (old, b"\xff\x00"), random)
    return bytes(data)


def _journals(path: Path):
    for file in sorted((path / "journal").glob("*.journal")):
        data = file.read_bytes()
        header = read_header(file, int(file.stem), data)
        found, offset = [], FILE_HEADER
        while header and (batch := batch_at(file, data, offset, header.mark)) is not None:
            found.append(batch)
            offset = batch.end
        yield file, data, found


def _split_records(payload: bytes) -> list[bytes]:
    found, at = [], 0
    while at < len(payload):
        end = at + 4 + unpack_from(">I", payload, at)[0]
        found.append(payload[at:end])
        at = end
    return found


_FORMS = {  # of the fixed part of a record, by its type; a publish to one queue
    1: Struct(">IBIQQQH"),
    2: Struct(">IBQQI"),
    3: Struct(">IBQI"),
    4: Struct(">IBQH"),
}
_PAIR = Struct(">QI")


def _change_fields(form: Struct, data: bytes, which: int, number: int) -> bytes:
    """The bytes of a structure with another value in one of its integers."""
    values = list(form.unpack_from(data))
    codes = [code for code in form.format if code in "BHIQ"]
    index = which % len(values)
    if isinstance(values[index], bytes):
        values[index] = _bytes(values[index], number)[: len(values[index])].ljust(len(values[index]), b"x")
    else:
        numbers = [position for position, value in enumerate(values) if isinstance(value, int)]
        bits = Struct(">" + codes[numbers.index(index)]).size * 8
        values[index] = _number(values[index], number, bits)
    return form.pack(*values) + data[form.size :]


@change
def record(ground: Ground, path: Path, which: int, field: int, number: int) -> Bodies | None:
    """A field of a record of the journal."""
    choices = [
        (file, batch, index)
        for file, _, batches in _journals(path)
        for batch in batches
        for index, _ in enumerate(_split_records(batch.payload))
    ]
    file, batch, index = choices[which % len(choices)]
    records = _split_records(batch.payload)
    old = records[index]
    form = _FORMS[old[4]]
    fields = len(form.unpack_from(old))
    place = field % (fields + 2)
    kind = old[4]
    if place < fields:
        records[index] = _change_fields(form, old, place, number)
    elif kind in (2, 3) and len(old) > form.size and place == fields:
        records[index] = old[: form.size] + _change_fields(_PAIR, old[form.size :], field // 7, number)
    else:
        rest = _bytes(old[form.size :], number)
        new = old[: form.size] + rest
        records[index] = (len(new) - 4).to_bytes(4, "big") + new[4:]
    _rewrite_batch(file, batch, b"".join(records))
    if place == 0:  # where the next record begins is unknown then
        return frozenset(bodies_in(batch.payload))
    if kind == 1:
        return frozenset(bodies_in(old))
    return ground.bodies  # settlements and marks of other messages may be in it


@change
def payload(ground: Ground, path: Path, which: int, field: int, number: int) -> Bodies | None:
    """Any bytes of a batch."""
    choices = [(file, batch) for file, _, batches in _journals(path) for batch in batches]
    file, batch = choices[which % len(choices)]
    _rewrite_batch(file, batch, _bytes(batch.payload, number * 31 + field))
    return ground.bodies


def _rewrite_batch(file: Path, batch, payload: bytes) -> None:
    data = file.read_bytes()
    head = bytearray(data[batch.offset : batch.offset + 32])
    head[8:16] = len(payload).to_bytes(8, "big")
    new = bytes(head[:8]) + bytes(head[8:]) + payload
    new = new[:4] + crc32(new[8:]).to_bytes(4, "big") + new[8:]
    new += bytes(-len(new) % 8)
    file.write_bytes(data[: batch.offset] + new + data[batch.end :])


@change
def batch_header(ground: Ground, path: Path, which: int, field: int, number: int) -> Bodies | None:
    """The sequence of a batch, or what it says was synced."""
    choices = [(file, batch) for file, _, batches in _journals(path) for batch in batches]
    file, batch = choices[which % len(choices)]
    data = bytearray(file.read_bytes())
    at = batch.offset + 16 + 8 * (field % 2)
    old = int.from_bytes(data[at : at + 8], "big")
    data[at : at + 8] = _number(old, number, 64).to_bytes(8, "big")
    end = batch.offset + 32 + len(batch.payload)
    data[batch.offset + 4 : batch.offset + 8] = crc32(data[batch.offset + 8 : end]).to_bytes(4, "big")
    file.write_bytes(data)
    return frozenset()


@change
def journal_header(ground: Ground, path: Path, which: int, field: int, number: int) -> Bodies | None:
    """A field of the header of a journal file."""
    files = [file for file, _, _ in _journals(path)]
    file = files[which % len(files)]
    data = file.read_bytes()
    head = data[:36]
    place = field % 4
    if place == 3:
        head = head[:32] + _bytes(head[32:], number)[:4].ljust(4, b"m")
    else:
        at = 8 + 8 * place
        old = int.from_bytes(head[at : at + 8], "big")
        head = head[:at] + _number(old, number, 64).to_bytes(8, "big") + head[at + 8 :]
    file.write_bytes(head + crc32(head).to_bytes(4, "big") + data[40:])
    return frozenset()


def _leaves(value: object, place: tuple[int | bytes, ...] = ()) -> Iterator[tuple[int | bytes, ...]]:
    yield place
    if isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _leaves(inner, (*place, index))
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, (*place, key))


@change
def checkpoint(ground: Ground, path: Path, which: int, field: int, number: int) -> Bodies | None:
    """A value of the checkpoint, of the same type or of another."""
    file = path / "checkpoint"
    found = msgspec.msgpack.decode(file.read_bytes()[12:])
    places = list(_leaves(found))
    place = places[which % len(places)]
    holder = [found]
    key: int | bytes = 0
    inner = found
    for each in place:
        holder, key, inner = inner, each, inner[each]
    others = [None, [], {}, b"", "text", -1, 1.5, True, [[1, 2]], 1 << 63, [[0, 1 << 40]], b"1234567"]
    if field % 2 and isinstance(inner, int):
        new = _number(inner, number, 64)
    elif field % 2 and isinstance(inner, bytes):
        new = _bytes(inner, number)
    else:
        new = others[number % len(others)]
    holder[key] = new
    _write_checkpoint(file, msgspec.msgpack.encode(holder[0] if not place else found))
    return EVERYTHING


@change
def checkpoint_bytes(ground: Ground, path: Path, which: int, field: int, number: int) -> Bodies | None:
    """Any bytes of the checkpoint."""
    file = path / "checkpoint"
    _write_checkpoint(file, _bytes(file.read_bytes()[12:], number + which))
    return EVERYTHING


def _write_checkpoint(file: Path, data: bytes) -> None:
    file.write_bytes(CHECKPOINT + crc32(data).to_bytes(4, "big") + data)


def _pages(path: Path) -> list[tuple[Path, int, int]]:
    """The pages that the checkpoint names: the file, offset and length of each."""
    known = msgspec.msgpack.decode((path / "checkpoint").read_bytes()[12:])
    named = {(page[0], page[1]) for queue in known[2] for page in queue[3]}
    found = []
    for file in sorted((path / "segments").glob("*.segment")):
        for offset, length, _ in find_pages(file.read_bytes()):
            if (int(file.stem), offset) in named:
                found.append((file, offset, length))
    return found


_ENTRY = Struct(">QQIHI")


@change
def page(ground: Ground, path: Path, which: int, field: int, number: int) -> Bodies | None:
    """A field of a page, or of an entry of it."""
    pages = _pages(path)
    file, offset, length = pages[which % len(pages)]
    data = file.read_bytes()
    new, loose = change_page(data[offset : offset + length], which // len(pages), field, number)
    file.write_bytes(data[:offset] + new + data[offset + length :])
    return loose


def change_page(old: bytes, which: int, field: int, number: int) -> tuple[bytes, Bodies]:
    """The bytes of a page with another value in a field of it or of its entry ``which``, with its checksum
    and as long as before, and the bodies that may be missing then.
    """
    head, entries, at = old[:28], [], 28
    while at < len(old):
        _, _, _, route, frames = _ENTRY.unpack_from(old, at)
        end = at + _ENTRY.size + route + frames
        entries.append(old[at:end])
        at = end
    loose = frozenset(bodies_in(old))
    if field % 4 == 0:
        form = Struct(">QQI")
        head = head[:8] + _change_fields(form, head[8:], field // 4, number)
    else:
        index = which % len(entries)
        entry = entries[index]
        if field % 4 == 1:
            entries[index] = entry[: _ENTRY.size] + _bytes(entry[_ENTRY.size :], number)
        else:
            entries[index] = _change_fields(_ENTRY, entry, field // 4, number)
        if field % 4 != 1 and field // 4 % 5 < 3:
            loose = frozenset(bodies_in(entry))
    new = head + b"".join(entries)
    new = new.ljust(len(old), b"\0")[: len(old)]
    return PAGE + crc32(new[8:]).to_bytes(4, "big") + new[8:], loose


def _segments(path: Path) -> list[Path]:
    return sorted((path / "streams").glob("*.segment"))


@change
def segment_head(ground: Ground, path: Path, which: int, field: int, number: int) -> Bodies | None:
    """A field of the header of a stream's segment."""
    files = _segments(path)
    file = files[which % len(files)]
    data = file.read_bytes()
    head = data[:8] + _change_fields(Struct(">QQQ"), data[8:32], field, number)
    file.write_bytes(head + crc32(head).to_bytes(4, "big") + data[36:])
    return frozenset(bodies_in(data))


@change
def chunk(ground: Ground, path: Path, which: int, field: int, number: int) -> Bodies | None:
    """A field of a chunk, or of an entry of it."""
    choices = [
        (file, each) for file in _segments(path) for each in chunks_of(file.read_bytes()[SEGMENT_HEAD:])
    ]
    file, old = choices[which % len(choices)]
    data, raw = file.read_bytes(), old.raw
    head, rest = raw[:36], raw[36:]
    place = field % 3
    if place == 0:
        form = Struct(">IIQQI")
        head = head[:8] + _change_fields(form, head[8:], field // 3, number)
    elif place == 1:
        at = len(old.filter)
        for _ in range(1):
            pass
        rest = rest[:at] + _change_fields(Struct(">HII"), rest[at:], field // 3, number)
    else:
        rest = _bytes(rest, number)[: len(rest)].ljust(len(rest), b"\0")
    new = head + rest
    new = new[:4] + crc32(new[8:]).to_bytes(4, "big") + new[8:]
    start = SEGMENT_HEAD + old.start
    file.write_bytes(data[:start] + new + data[start + len(raw) :])
    return frozenset(bodies_in(data)) if place == 0 else frozenset(bodies_in(raw))


@change
def index(ground: Ground, path: Path, which: int, field: int, number: int) -> Bodies | None:
    """An entry of the index of a stream's segment."""
    files = [file.with_suffix(".index") for file in _segments(path)]
    files = [file for file in files if file.exists() and file.stat().st_size]
    if files:
        file = files[which % len(files)]
        data = file.read_bytes()
        at = which // len(files) % (len(data) // 24) * 24
        file.write_bytes(data[:at] + _change_fields(Struct(">QQQ"), data[at:], field, number))
    return frozenset()


@change
def row(ground: Ground, path: Path, which: int, field: int, number: int) -> Bodies | None:
    """Any column of any row, of any type."""
    with closing(sqlite3.connect(path / "metadata.sqlite")) as connection:
        tables = sorted(
            name
            for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")
            if not name.startswith("sqlite_")
        )
        cells = [
            (table, column[1], row)
            for table in tables
            for column in connection.execute(f"PRAGMA table_info({table})").fetchall()
            for row, _ in enumerate(connection.execute(f"SELECT * FROM {table}").fetchall())
        ]
        table, column, chosen = cells[which % len(cells)]
        rows = connection.execute(f"SELECT * FROM {table}")
        names = [each[0] for each in rows.description]
        key = rows.fetchall()[chosen]
        old = key[names.index(column)]
        others = [
            None,
            0,
            -1,
            1 << 62,
            1.5,
            "text",
            b"",
            b"\xff",
            b"[]",
            b"{}",
            b"null",
            b"\0\0\0\0",
            b"a" * 300,
        ]
        if column == "id":
            _change_id(connection, table, key[0], number)
            return ground.bodies
        new = _bytes(old, number) if field % 2 and isinstance(old, bytes) else others[number % len(others)]
        condition = " AND ".join(f"{name} IS ?" for name in names)
        with contextlib.suppress(sqlite3.IntegrityError):
            connection.execute(f"UPDATE OR IGNORE {table} SET {column} = ? WHERE {condition}", (new, *key))
        connection.commit()
    return ground.bodies if table in ("queues", "vhosts", "policies") else frozenset()


def _change_id(connection: sqlite3.Connection, table: str, old: int, number: int) -> None:
    """The id of a queue or a window becomes another one."""
    new = _number(old, number, 63)
    with contextlib.suppress(sqlite3.IntegrityError):
        connection.execute(f"UPDATE OR IGNORE {table} SET id = ? WHERE id = ?", (new, old))
    connection.commit()


@change
def lock(ground: Ground, path: Path, which: int, field: int, number: int) -> Bodies | None:
    """What the lock says of the last stop."""
    texts = (b"\nstopped 1\n", b"\nstopped " + b"9" * (number % 60) + b"\n", b"\xff\0", b"stopped x\n", b"")
    (path / "lock").write_bytes(texts[which % len(texts)])
    return frozenset()
