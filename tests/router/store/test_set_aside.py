"""Messages, records and notes with a good checksum that cannot be read: a broker starts, and says so.

The journal and the metadata are changed as a faulty writer would have written them.
"""

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from leveret.protocol.amqp.content_frames import pack_frames
from leveret.protocol.amqp.message import Message, pack_route
from leveret.protocol.amqp.properties import Properties
from leveret.router.cli import main
from leveret.router.store.files import DiskFiles
from leveret.router.store.journal.journal import FILE_HEADER, pack_batch
from leveret.router.store.journal.reading import batch_at, read_header
from leveret.router.store.journal.records import NoteRecord, pack_note, pack_publish, unpack
from leveret.router.store.segments.pages import pack_page, unpack_page
from leveret.router.store.set_aside import PLACE, read_message
from leveret.router.store.writer import ReadPage
from leveret.router.vhost.metadata import make_metadata
from tests.router.store.kept import Kept

DEEP = b"\x00" * 4
for _ in range(200):
    inner = b"\x01dF" + DEEP
    DEEP = len(inner).to_bytes(4, "big") + inner
GOOD = pack_frames(0, b"\x00\x00", b"body")
SPLIT = pack_frames(0, b"\x00\x00", b"four") + pack_frames(0, b"\x00\x00", b"five")[22:]
SPLIT = SPLIT[:18] + b"\x08" + SPLIT[19:]  # one message of eight bytes in two body frames
BAD = {
    "headers too deep": pack_frames(0, b"\x20\x00" + DEEP, b"body"),
    "properties cut off": pack_frames(0, b"\x80\x00\x09text", b"body"),
    "no frames": b"",
    "half a header": pack_frames(0, b"\x00\x00", b"body")[:9],
    "body too short": pack_frames(0, b"\x00\x00", b"body")[:-2] + b"\xce",
    "no frame end": pack_frames(0, b"\x00\x00", b"body")[:-1] + b"\x00",
    "header of another class": GOOD[:8] + b"\x3d" + GOOD[9:],
    "header of another class, two body frames": SPLIT[:8] + b"\x3d" + SPLIT[9:],
    "header of another channel": GOOD[:2] + b"\x07" + GOOD[3:],
    "header of another channel, two body frames": SPLIT[:2] + b"\x07" + SPLIT[3:],
    "second body frame of another channel": SPLIT[:36] + b"\x07" + SPLIT[37:],
}


@pytest.mark.parametrize("frames", BAD.values(), ids=BAD)
def test_malformed_messages_are_recognized(frames):
    assert read_message(pack_route("", "q"), frames) is None
    good = Message.build("", "q", Properties(type="t"), b"body")
    assert read_message(good.route, good.frames).body == b"body"
    assert read_message(good.route, SPLIT).body == b"fourfive"
    for route in (b"", good.route + b"x", b"\x05ab"):
        assert read_message(route, good.frames) is None


def batches(path: Path):
    """The journal files of a directory, each with its header and its batches."""
    for file in sorted((path / "journal").glob("*.journal")):
        data = file.read_bytes()
        header = read_header(file, int(file.stem), data)
        found, offset = [], FILE_HEADER
        while (batch := batch_at(file, data, offset, header.mark)) is not None:
            found.append(batch)
            offset = batch.end
        yield file, data, header, found


def rewrite(path: Path, change) -> int:
    """Give every batch of the journal another payload, with its checksum; return how many have changed."""
    changed = 0
    for file, data, header, found in batches(path):
        new = bytearray(data[:FILE_HEADER])
        for batch in found:
            payload = change(batch.payload)
            changed += payload != batch.payload
            new += pack_batch(header.mark, (payload,), batch.sequence, batch.synced)
        file.write_bytes(new)
    return changed


def spoil(path: Path, body: bytes, frames: bytes) -> None:
    """Put other frames in place of those of a message in the journal."""

    def change(payload):
        parts = []
        for record in unpack(payload):
            if body in getattr(record, "frames", b""):
                parts += pack_publish(record.targets, record.route, frames)
        return b"".join(parts) or payload

    assert rewrite(path, change) == 1


def start(path: Path):
    """A broker on a directory, and the errors it logged."""
    with capture_logs() as logged:
        kept = Kept(path)
    return kept, [each for each in logged if each["log_level"] == "error"]


def run(*args):
    return CliRunner().invoke(main, ["store", *map(str, args)], prog_name="leveret")


@pytest.mark.parametrize("frames", BAD.values(), ids=BAD)
def test_an_unreadable_message_of_a_queue_is_set_aside_and_the_others_come_back(quick_path, frames):
    kept = Kept(quick_path, retires=False)
    kept.node.queue("q", durable=True)
    kept.publish("one", "spoiled", "three")
    kept.stop()
    spoil(quick_path, b"spoiled", frames)
    checked = run("check", quick_path)
    assert checked.exit_code == 0, checked.output
    assert "the message at position 1 of queue 1 cannot be read; a broker sets it aside" in checked.stdout
    dumped = [json.loads(line) for line in run("dump", quick_path).stdout.splitlines()]
    assert [each.get("body") for each in dumped] == ["one", None, "three"]
    assert dumped[1]["unreadable"] is True
    kept, (error,) = start(quick_path)
    assert (error["event"], error["queue"], error["position"]) == ("message set aside", "q", 1)
    assert Path(error["file"]).read_bytes() == pack_route("", "q") + frames
    assert Path(error["file"]).parent == quick_path / PLACE
    assert kept.node.contents() == ["one", "three"]
    kept.publish("four")
    kept.stop()
    kept, _ = start(quick_path)
    assert [kept.get()[1].message.body for _ in range(3)] == [b"one", b"three", b"four"]
    kept.stop()


def test_an_unreadable_message_of_a_stream_is_set_aside_and_the_others_keep_their_offsets(quick_path):
    kept = Kept(quick_path, retires=False)
    kept.node.queue("s", durable=True, queue_type="stream")
    kept.publish("one", "spoiled", "three", queue="s")
    kept.crash()
    for segment in (quick_path / "streams").iterdir():
        segment.unlink()
    spoil(quick_path, b"spoiled", BAD["headers too deep"])
    kept, errors = start(quick_path)
    assert [each["event"] for each in errors] == ["message set aside", "offsets are missing"]
    assert kept.node.vhost.queues["s"].next == 3
    kept.stop()


def test_an_unreadable_message_of_a_page_is_left_out_and_stays_there(quick_path, small):
    kept = Kept(quick_path)
    kept.node.queue("q", durable=True)
    kept.publish(*(f"message {number}" for number in range(40)))
    kept.stop()
    kept = Kept(quick_path)
    spoiled = None
    for log in kept.store.logs.values():
        for page in log.pages:
            file = quick_path / "segments" / f"{page.segment:010d}.segment"
            data = file.read_bytes()
            stored = kept.reader.run(_read_job(page))
            entries = unpack_page(stored, page.queue_id)
            spoiled = entries[1].position
            frames = entries[1].frames
            entries[1] = entries[1]._replace(frames=frames[:-1] + b"\0")
            packed = pack_page(page.queue_id, entries)
            assert len(packed) == page.length
            file.write_bytes(data[: page.offset] + packed + data[page.offset + page.length :])
            break
    kept.stop()
    assert spoiled is not None
    checked = run("check", quick_path)
    assert f"the entry at position {spoiled} is no message" in checked.stdout
    kept, _ = start(quick_path)
    with capture_logs() as logged:
        bodies = [taken[1].message.body.decode() for taken in iter(kept.get, None)]
    assert bodies == [f"message {number}" for number in range(40) if number != spoiled]
    assert [(each["event"], each["position"]) for each in logged] == [("message left out", spoiled)]
    kept.stop()


def _read_job(page):
    return ReadPage(page.kept, page.segment, page.offset, page.length, page.queue_id)


def test_records_behind_an_unreadable_one_are_set_aside(quick_path):
    kept = Kept(quick_path, retires=False)
    kept.node.queue("q", durable=True)
    kept.publish("one", "two", "three")
    kept.stop()
    rest = b"\0\0\0\x05\x09what"
    assert rewrite(quick_path, lambda payload: payload + rest if b"two" in payload else payload) == 1
    checked = run("check", quick_path)
    assert checked.exit_code == 1
    assert "damage: " in checked.stdout
    kept, (error,) = start(quick_path)
    assert error["event"] == "unreadable records set aside"
    assert "record type 9" in error["error"]
    assert Path(error["file"]).read_bytes() == rest
    assert kept.node.contents() == ["one", "two", "three"]
    kept.stop()


def test_an_unreadable_note_is_left_out_and_the_others_are_restored(quick_path):
    kept = Kept(quick_path, retires=False)
    kept.node.queue("q", durable=True, message_deduplication=True)
    for name in ("a", "b"):
        kept.publish("m", headers={"x-deduplication-header": name})
    kept.stop()

    def change(payload):
        found = [
            record
            for record in unpack(payload)
            if isinstance(record, NoteRecord) and record.key.endswith(b"a")
        ]
        return payload + b"".join(pack_note(each.queue_id, each.key, b"odd") for each in found)

    assert rewrite(quick_path, change) == 1
    kept, (error,) = start(quick_path)
    assert (error["event"], error["queue"]) == ("note left out", "q")
    for name in ("a", "b"):
        kept.publish("m", headers={"x-deduplication-header": name})
    assert len(kept.node.vhost.queues["q"].ready) == 3
    kept.stop()


# -- a fuzzer -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    """A directory with something of everything, whose journal is still there."""
    path = tmp_path_factory.mktemp("full")
    kept = Kept(path, retires=False, journal_size=1 << 16)
    admin, vhost = kept.administration, kept.node.vhost
    admin.put_vhost("/", make_metadata(description="d"))
    admin.put_user("u", limits={"max-channels": 5}, tags=("monitoring",))
    admin.set_permission("u", "/", configure=".*", write=".*", read=".*")
    admin.set_topic_permission("u", "/", "amq.topic", write="^u", read="^u")
    admin.set_policy("/", "p", "^q", {"max-length": 10, "message-ttl": 100_000})
    admin.set_vhost_limits("/", {"max-queues": 10})
    admin.parameters.set_global("g", {"a": [1]})
    exchange = vhost.declare_exchange(
        "x", "headers", durable=True, arguments={"x-message-deduplication": True}
    )
    vhost.bind(exchange, kept.node.queue("q", durable=True, message_deduplication=True), "k", {"a": 1})
    kept.node.queue("s", durable=True, queue_type="stream")
    kept.node.queue("p", durable=True, max_priority=3)
    for number in range(6):
        headers = {"x-deduplication-header": number, "n": [{"a": 1.5}]}
        for queue in ("q", "s", "p"):
            kept.publish(f"m{number}", queue=queue, headers=headers, priority=number % 4, expiration="100000")
    kept.take(2)
    kept.take(2, queue="p")
    kept.crash()
    return path


def boots(path: Path) -> None:
    """A broker starts, serves, stops and starts again; the offline commands get past everything as well."""
    for command in ("dump", "check"):  # of a stream a dump ends in words where an offset is missing
        result = run(command, path)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.output
        assert result.exit_code in (0, 1), result.output
    for _ in range(2):
        with capture_logs():
            kept = Kept(path)
        for vhost in kept.node.broker.vhosts.values():
            for queue in list(vhost.queues.values()):
                assert queue.name
        kept.node.queue("fresh", durable=True)
        kept.publish("m", queue="fresh")
        kept.take(1, queue="fresh")
        kept.stop()


mutations = st.lists(
    st.tuples(st.integers(0, 1 << 30), st.sampled_from(["flip", "set", "cut", "add"]), st.integers(0, 255)),
    min_size=1,
    max_size=4,
)


def mutate(data: bytes, changes) -> bytes:
    found = bytearray(data)
    for place, how, value in changes:
        at = place % (len(found) + 1)
        if how == "add":
            found.insert(at, value)
        elif at < len(found):
            if how == "cut":
                del found[at]
            else:
                found[at] = found[at] ^ (1 << value % 8) if how == "flip" else value
    return bytes(found)


FUZZ = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.mark.slow
@given(st.integers(0, 1 << 30), mutations)
@FUZZ
def test_a_broker_starts_whatever_a_row_holds(full, quick_path, which, changes):
    """Any column of any row becomes any bytes."""
    path = quick_path / "copy"
    shutil.rmtree(path, ignore_errors=True)
    shutil.copytree(full, path)
    with closing(sqlite3.connect(path / "metadata.sqlite")) as connection:
        tables = [
            name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")
        ]
        cells = [
            (table, row, column[1], values)
            for table in sorted(tables)
            if not table.startswith("sqlite_")
            for column in connection.execute(f"PRAGMA table_info({table})").fetchall()
            for row, values in enumerate(connection.execute(f"SELECT {column[1]} FROM {table}").fetchall())
            if isinstance(values[0], bytes)
        ]
        table, row, column, (value,) = cells[which % len(cells)]
        rows = connection.execute(f"SELECT * FROM {table}")
        names = [each[0] for each in rows.description]
        key = rows.fetchall()[row]
        condition = " AND ".join(f"{name} IS ?" for name in names)
        connection.execute(
            f"UPDATE OR IGNORE {table} SET {column} = ? WHERE {condition}", (mutate(value, changes), *key)
        )
        connection.commit()
    boots(path)


@pytest.mark.slow
@given(st.integers(0, 1 << 30), mutations)
@FUZZ
def test_a_broker_starts_whatever_a_record_holds(full, quick_path, which, changes):
    """The payload of a batch becomes other bytes with a good checksum.

    Ids of queues stay: one that is higher than any that was given means that the metadata is older than the
    journal, and then a start refuses to drop the messages of all those queues.
    """
    path = quick_path / "copy"
    shutil.rmtree(path, ignore_errors=True)
    shutil.copytree(full, path)
    count = iter(range(1 << 30))
    total = sum(len(found) for *_, found in batches(path))
    rewrite(
        path,
        lambda payload: (
            _with_known_ids(mutate(payload, changes)) if next(count) == which % total else payload
        ),
    )
    boots(path)


def _with_known_ids(payload: bytes) -> bytes:
    """A payload, or nothing if a record of it is of a queue that never was."""
    try:
        for record in unpack(payload):
            ids = [each[0] for each in record.targets] if hasattr(record, "targets") else [record.queue_id]
            if any(number > 4 for number in ids):
                return b""
    except ValueError:
        pass
    return payload


def test_the_directory_of_the_fuzzer_is_sound(full, quick_path):
    shutil.copytree(full, quick_path / "copy")
    kept, errors = start(quick_path / "copy")
    assert errors == []
    assert DiskFiles().list(quick_path / "copy" / "journal")
    kept.stop()
