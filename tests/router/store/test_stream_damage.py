"""Streams that a real store wrote, damaged: reported and repaired, with the exact lost offsets."""

import json
import shutil
from datetime import UTC, datetime
from random import Random

import pytest
from click.testing import CliRunner
from structlog.testing import capture_logs

from leveret.router.cli import main
from leveret.router.store.files import DiskFiles
from leveret.router.store.journal.recovery import recover
from leveret.router.store.lock import Lock
from leveret.router.store.offline.check import check
from leveret.router.store.offline.directory import ReadOnlyFiles, lock
from leveret.router.store.offline.repair import repair
from leveret.router.store.streams.files import stream_files
from leveret.router.stream.chunk import HEAD_SIZE, chunks_of
from leveret.router.stream.log import SEGMENT_HEAD
from tests.router.store.kept import Kept
from tests.router.store.small import SMALL_STREAMS, patched
from tests.router.store.streams import declare, numbers, publish, read, whole

pytestmark = pytest.mark.usefixtures("small_streams")

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
COUNT = 120


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A stream of several segments and a queue beside it: one whose journal holds only the end of the stream,
    one whose journal holds all of it, and one of both after a crash.
    """
    base = tmp_path_factory.mktemp("streams")
    with patched(*SMALL_STREAMS):
        for name, size in (("short", 1000), ("long", 1 << 20), ("crashed", 4000)):
            kept = Kept(base / name, journal_size=size, retires=True)
            declare(kept, stream_max_segment_size_bytes=2000)
            kept.node.queue("q", durable=True)
            for first in range(0, COUNT, 4):
                publish(kept, *numbers(first, first + 3))
                with_value = {"x-stream-filter-value": "odd", "t": "text"}
                publish(kept, str(first + 3), headers=with_value)
                kept.publish(f"beside {first}")
            if name == "long":
                kept.store.logs[1].flush(COUNT)
            kept.settle()
            if name == "crashed":
                kept.crash()
            else:
                kept.stop()
    return base


@pytest.fixture
def copy(written, tmp_path):
    def make(name="short"):
        target = tmp_path / "data"
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(written / name, target)
        return target

    return make


def leveret(*args):
    return CliRunner().invoke(main, ["store", *map(str, args)], prog_name="leveret")


def segments(path):
    return sorted((path / "streams").glob("*.segment"))


def chunks(path):
    """The chunks of a segment that is whole, each with its place."""
    return [(SEGMENT_HEAD + each.start, each) for each in chunks_of(path.read_bytes()[SEGMENT_HEAD:])]


def change(path, at, data):
    found = path.read_bytes()
    path.write_bytes(found[:at] + data + found[at + len(data) :])


def look(path):
    held = Lock(path)
    held.leave()
    return check(path, held.stopped or 0).inspection


def mend(path):
    """What ``check --repair`` does."""
    held = lock(path)
    found = check(path, held.stopped or 0).inspection
    if found.damage or found.indexes:
        repair(path, found, NOW)
        held.forget()
    held.leave()
    return found


def lost(found):
    """The offsets that a repair says are lost."""
    return {
        offset
        for queue_id, positions in found.losses
        for first, count in positions
        if queue_id == 1
        for offset in range(first, first + count)
    }


def named(victim):
    """Return the offsets of a chunk in the form of reports."""
    last = victim.end - 1
    return f"offset {last}" if victim.first == last else f"offsets {victim.first} to {last}"


def without(gone):
    return [(offset, body) for offset, body in whole(0, COUNT) if offset not in gone]


def must_hold(path, expected):
    """All that is left is there, offsets go on behind it, and nothing is said of the rest any more."""
    with capture_logs() as logged:
        must_be_read(path, expected)
    assert [each for each in logged if each["log_level"] in ("warning", "error")] == []


def must_be_read(path, expected):
    assert look(path).damage == []
    kept = Kept(path, journal_size=1000)
    assert read(kept) == expected
    for _ in range(3):  # readers of one message at a time, from anywhere
        start = Random(len(expected)).randrange(COUNT)
        behind = [each for each in expected if each[0] >= start]
        assert read(kept, start, prefetch=1)[:1] == behind[:1]
    publish(kept, *numbers(COUNT, COUNT + 30))
    kept.stop()
    again = Kept(path)
    assert read(again) == expected + whole(COUNT, COUNT + 30)
    again.stop()
    assert look(path).damage == []
    dumped = [(line["offset"], line["body"]) for line in dump(path)]
    assert dumped == expected + whole(COUNT, COUNT + 30)


def dump(path):
    result = leveret("dump", path, "--queue", "s")
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


# -- what is sound ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["short", "long", "crashed"])
def test_what_was_written_is_sound_and_looking_changes_nothing(copy, name):
    path = copy(name)
    assert len(segments(path)) > 2
    before = {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}
    found = mend(path)
    assert (found.damage, found.losses) == ([], [])
    report = check(path, 0)
    totals = {row.name: totals for row, totals in report.queues}
    assert totals["s"].messages == COUNT
    assert totals["s"].size == sum(len(body) for _, body in whole(0, COUNT))
    assert [json.loads(line)["body"] for line in leveret("dump", path).stdout.splitlines()] == [
        *numbers(0, COUNT),
        *(f"beside {first}" for first in range(0, COUNT, 4)),
    ]
    assert {file: file.read_bytes() for file in path.rglob("*") if file.is_file()} == before
    must_hold(path, whole(0, COUNT))


def test_a_dump_shows_what_was_published_with_offset_and_time(copy):
    path = copy()
    for line in dump(path)[3], dump(path)[-1]:  # of a segment, and of the journal
        offset = line["offset"]
        assert line == {
            "vhost": "/",
            "queue": "s",
            "offset": offset,
            "timestamp": line["timestamp"],
            "exchange": "",
            "routing_key": "s",
            "properties": {
                "headers": {"x-stream-filter-value": "odd", "t": "text"},
                "delivery_mode": 2,
            },
            "body_encoding": "utf-8",
            "body": str(offset),
        }
        assert isinstance(line["timestamp"], int)


# -- chunks -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["mark", "crc", "length", "first", "time", "entries"])
@pytest.mark.parametrize("number", [0, 3, -1])
def test_a_damaged_chunk_costs_its_messages_and_no_others(copy, part, number):
    path = copy()
    segment = segments(path)[1]
    place, victim = chunks(segment)[number]
    at = {"mark": 0, "crc": 4, "length": 8, "first": 16, "time": 30, "entries": HEAD_SIZE + 5}[part]
    change(segment, place + at, bytes([segment.read_bytes()[place + at] ^ 0x81]))
    gone = set(range(victim.first, victim.end))
    (damage,) = look(path).damage
    assert (damage.path, damage.offset) == (segment, place)
    assert damage.what == f"{named(victim)} cannot be read"
    before = segment.read_bytes()
    result = leveret("check", path, "--repair")
    assert result.exit_code == 0, result.output
    assert f"repaired: {segment}, offset {place}: {damage.what}\n" in result.stdout
    assert f"lost: stream 's' of virtual host '/', {named(victim)}\n" in result.stdout
    assert "queue 's'" not in result.stdout
    (aside,) = (path / "set-aside").iterdir()
    assert (aside / "streams" / segment.name).read_bytes() == before
    must_hold(path, without(gone))


def test_a_damaged_chunk_that_the_journal_has_costs_nothing(copy):
    path = copy("long")
    segment = segments(path)[1]
    place, victim = chunks(segment)[2]
    change(segment, place + HEAD_SIZE, b"????")
    found = mend(path)
    assert [(each.path, each.offset) for each in found.damage] == [(segment, place)]
    assert found.losses == []
    assert f"{segment.name}: {named(victim)}, from the journal" in found.remarks
    must_hold(path, whole(0, COUNT))
    kept = Kept(path)
    odd = read(kept, **{"x-stream-filter": "odd"})
    assert [offset for offset, _ in odd] == list(range(3, COUNT, 4)), "its filter came back, too"
    kept.stop()


def test_damage_in_the_newest_segment_before_its_end_is_no_torn_write(copy):
    path = copy()
    segment = segments(path)[-1]
    place, victim = chunks(segment)[0]
    change(segment, place + HEAD_SIZE, b"????")
    found = mend(path)
    assert [(each.path, each.offset) for each in found.damage][:1] == [(segment, place)]
    assert set(range(victim.first, victim.end)) == lost(found)
    must_hold(path, without(lost(found)))


def test_bytes_between_chunks_cost_nothing(copy):
    path = copy()
    segment = segments(path)[0]
    place, _ = chunks(segment)[2]
    data = segment.read_bytes()
    segment.write_bytes(data[:place] + b"between" + data[place:])
    found = mend(path)
    assert [(each.path, each.offset) for each in found.damage] == [(segment, place)]
    assert found.losses == []
    must_hold(path, whole(0, COUNT))


@pytest.mark.parametrize("cut", [1, 20, 300])
def test_an_end_that_the_journal_has_is_no_damage(copy, cut):
    path = copy("long")
    segment = segments(path)[-1]
    segment.write_bytes(segment.read_bytes()[:-cut])
    found = look(path)
    assert found.damage == []
    must_hold(path, whole(0, COUNT))


# -- segments ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [0, 1, -1])
@pytest.mark.parametrize("harm", ["flipped", "zeroed"])
def test_a_damaged_header_costs_nothing(copy, number, harm):
    path = copy()
    segment = segments(path)[number]
    good = segment.read_bytes()[:SEGMENT_HEAD]
    change(segment, 0, bytes(SEGMENT_HEAD) if harm == "zeroed" else good[:20] + b"?")
    found = mend(path)
    assert [(each.path, each.offset, each.what) for each in found.damage][:1] == [
        (segment, 0, "the header of the segment is damaged")
    ]
    assert found.losses == []
    assert segment.read_bytes()[:SEGMENT_HEAD] == good
    must_hold(path, whole(0, COUNT))


@pytest.mark.parametrize("number", [1, 2])
def test_a_missing_segment_costs_what_it_held(copy, number):
    path = copy()
    segment = segments(path)[number]
    gone = {offset for _, each in chunks(segment) for offset in range(each.first, each.end)}
    segment.unlink()
    found = mend(path)
    assert found.damage
    assert lost(found) == gone
    assert segment.with_suffix(".index") in [each.path for each in found.warnings]
    must_hold(path, without(gone))


def test_offsets_missing_beside_a_known_gap_are_reported_and_the_gap_is_not(copy):
    path = copy()
    one, other = segments(path)[1:3]
    known, new = (
        range(found[0].first, found[-1].end)
        for found in ([each for _, each in chunks(segment)] for segment in (one, other))
    )
    one.unlink()
    mend(path)
    other.unlink()
    kept = Kept(path)
    with capture_logs() as logged:
        assert read(kept) == without({*known, *new})
    (told,) = [each for each in logged if each["event"] == "readers skip missing offsets"]
    assert told["error"] == f"in no segment file: offsets {new[0]} to {new[-1]}"
    assert told["log_level"] == "error"
    kept.crash()


def test_when_the_newest_segment_is_missing_what_the_journal_has_is_kept(copy):
    path = copy()
    segment = segments(path)[-1]
    journal = set(recover(DiskFiles(), path, [1]).queues[1].entries)
    held = {offset for _, each in chunks(segment) for offset in range(each.first, each.end)}
    segment.unlink()
    found = mend(path)
    assert lost(found) == held - journal
    must_hold(path, without(held - journal))


def test_missing_segments_are_reported_even_if_all_are_missing(copy):
    path = copy()
    for each in (path / "streams").iterdir():
        each.unlink()
    journal = set(recover(DiskFiles(), path, [1]).queues[1].entries)
    found = mend(path)
    assert found.damage[0].path == path / "streams"
    assert lost(found) == set(range(COUNT)) - journal
    must_hold(path, without(lost(found)))


def test_a_segment_under_the_name_of_another_is_set_aside(copy):
    path = copy()
    one, other = segments(path)[1:3]
    gone = {offset for _, each in chunks(one) for offset in range(each.first, each.end)}
    shutil.copy(other, one)
    found = mend(path)
    assert "the file is the segment of stream 1 from offset" in found.damage[0].what
    assert not one.exists()
    assert lost(found) == gone
    must_hold(path, without(gone))


def test_offsets_that_come_twice_are_kept_once(copy):
    path = copy()
    segment = segments(path)[0]
    place, victim = chunks(segment)[1]
    data = segment.read_bytes()
    segment.write_bytes(data[: place + victim.size] + data[place:])
    found = mend(path)
    assert found.damage
    assert found.losses == []
    must_hold(path, whole(0, COUNT))


# -- indexes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("harm", ["gone", "empty", "nonsense", "another"])
def test_an_index_that_does_not_fit_is_a_warning_and_rebuilt(copy, harm):
    path = copy()
    segment, another = segments(path)[:2]
    index = segment.with_suffix(".index")
    good = index.read_bytes()
    if harm == "gone":
        index.unlink()
    else:
        other = another.with_suffix(".index").read_bytes()
        index.write_bytes({"empty": b"", "nonsense": b"x" * 48, "another": other}[harm])
    found = look(path)
    assert found.damage == []
    assert index in [each.path for each in found.warnings]
    result = leveret("check", path, "--repair")
    assert result.exit_code == 0, result.output
    assert f"repaired: {index}, written anew\n" in result.stdout
    assert index.read_bytes().startswith(good)
    assert look(path).warnings == []
    must_hold(path, whole(0, COUNT))


# -- dumping what is damaged ------------------------------------------------------------------------------


def test_dumping_a_damaged_stream_ends_with_the_file_and_offset(copy):
    path = copy()
    segment = segments(path)[1]
    place, victim = chunks(segment)[2]
    change(segment, place + HEAD_SIZE, b"????")
    result = leveret("dump", path)
    assert result.exit_code == 1
    assert [json.loads(line)["offset"] for line in result.stdout.splitlines()] == list(range(victim.first))
    told = f"leveret: {segment} is damaged at offset {place}: offset {victim.first} cannot be read."
    assert result.stderr[: len(told)] == told


def test_dumping_a_stream_without_one_of_its_segments_says_so(copy):
    path = copy()
    segment = segments(path)[1]
    segment.unlink()
    result = leveret("dump", path)
    assert result.exit_code == 1
    assert "cannot be read" in result.stderr


# -- everything at once -----------------------------------------------------------------------------------


def harm(path, random):
    """Do something to one of the files of the stream, or to the journal."""
    parts = ("streams/*.segment", "streams/*.segment", "streams/*.index", "journal/*")
    files = sorted(path.glob(random.choice(parts))) or segments(path)
    if not files:
        return
    file = random.choice(files)
    data = file.read_bytes()
    at = random.randrange(len(data.rstrip(b"\0")) or 1)
    behind = at + random.choice((1, 8, 64, 500))
    match random.randrange(5):
        case 0:
            file.unlink()
        case 1:
            file.write_bytes(data[:at])
        case 2:
            file.write_bytes(data[:at] + bytes(len(data[at:behind])) + data[behind:])
        case 3:
            file.write_bytes(data[:at] + random.randbytes(len(data[at:behind])) + data[behind:])
        case 4:
            file.write_bytes(data[:at] + data[behind:] + data[at:behind])


@pytest.mark.parametrize("seed", range(60))
def test_whatever_was_damaged_is_mended_and_what_is_lost_is_said(copy, seed):
    random = Random(seed)
    path = copy(random.choice(["short", "long", "crashed"]))
    before = set(stream_files(ReadOnlyFiles(), path)[1])
    for _ in range(random.choice((1, 2, 3, 4))):
        harm(path, random)
    first = min(stream_files(ReadOnlyFiles(), path).get(1, [0]))
    found = mend(path)
    gone = lost(found)
    if first not in before or first != 0:
        gone |= set(range(first))  # as far as anybody can tell, that was given up
    assert look(path).damage == []
    kept = Kept(path, journal_size=1000)
    there = read(kept)
    end = kept.node.vhost.queues["s"].next
    assert all(str(offset) == body for offset, body in there)
    assert {offset for offset, _ in there} == set(range(end)) - gone
    publish(kept, str(end))
    assert read(kept)[-1] == (end, str(end))
    kept.stop()
    assert look(path).damage == []


def test_a_repair_of_a_stream_that_was_cut_off_can_be_begun_again(copy):
    path = copy()
    for segment in segments(path)[:2]:
        place, _ = chunks(segment)[1]
        change(segment, place + HEAD_SIZE, b"????")
    gone = lost(look(path))
    found = look(path)
    name = next(iter(found.excerpts))
    found.excerpts = {name: found.excerpts[name]}
    found.changes = {}
    repair(path, found, NOW)
    again = mend(path)
    assert lost(again) == gone
    must_hold(path, without(gone))
