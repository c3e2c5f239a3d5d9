"""Directories that a real store wrote, damaged in every way: reported, never silently incomplete, and
repaired.

Whatever was done to a directory: either a reader finds all that was there, or there is an error that names
the file. And then a repair makes it sound, a broker starts on it, and what was readable is there.
"""

import os
import shutil
import sqlite3
from datetime import UTC, datetime
from random import Random

import pytest

from leveret.router.store.files import DiskFiles
from leveret.router.store.journal.checkpoint import MAGIC
from leveret.router.store.journal.journal import DamageError, FormatError, path_of
from leveret.router.store.journal.reading import Journal
from leveret.router.store.journal.recovery import recover
from leveret.router.store.lock import Lock
from leveret.router.store.metadata.reading import MetadataError
from leveret.router.store.offline.check import check
from leveret.router.store.offline.directory import lock
from leveret.router.store.offline.repair import repair
from tests.router.store.kept import Kept, contents

EVER = [*(f"message {number} " + "x" * 100 for number in range(24)), "more", "and more"]
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.fixture(scope="module", autouse=True)
def _without_syncs():
    """No power is cut here, and hundreds of directories are written."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("fsync", "fdatasync"):
            patch.setattr(os, name, lambda _descriptor: None)
        yield


def write(path, *, journal_size, retires=True):
    """Messages in pages and in the journal, some settled in each."""
    kept = Kept(path, journal_size=journal_size, retires=retires)
    for name in ("q", "other"):
        kept.node.queue(name, durable=True)
    for number in range(24):
        kept.publish(EVER[number])
        if number % 4 == 0:
            kept.publish(f"other {number}", queue="other", headers={"number": number, "BCC": ["nobody"]})
        if number % 5 == 4:
            kept.take(1)
    return kept


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """One with pages, one with nothing but a journal, the same after a crash, one with several files."""
    base = tmp_path_factory.mktemp("written")
    write(base / "paged", journal_size=1024).stop()
    write(base / "journal", journal_size=65536).stop()
    write(base / "crashed", journal_size=65536).crash()
    kept = write(base / "files", journal_size=1024, retires=False)
    kept.publish("more", "and more")
    kept.stop()
    return base


@pytest.fixture
def copy(written, tmp_path):
    def make(name):
        target = tmp_path / "data"
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(written / name, target)
        return target

    return make


def stopped(path):
    found = Lock(path)
    found.leave()
    return found.stopped or 0


def look(path):
    return check(path, stopped(path)).inspection


def mend(path):
    """What ``check --repair`` does."""
    held = lock(path)
    found = check(path, held.stopped or 0).inspection
    if found.damage:
        repair(path, found, NOW)
        held.forget()
    held.leave()
    return found


def must_be_sound(path):
    assert look(path).damage == []
    kept = Kept(path)
    kept.publish("after the repair")
    kept.stop()
    assert "after the repair" in contents(path)["q"].values()


def everything(path):
    """All bodies by queue."""
    return {queue: list(messages.values()) for queue, messages in contents(path).items()}


def flip(path, bit):
    data = bytearray(path.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)


def only_fewer(found, expected):
    """Nothing that was never there, and nothing out of order."""
    return all(
        [body for body in expected[queue] if body in set(bodies)] == bodies for queue, bodies in found.items()
    )


NAMES = ["paged", "journal", "crashed", "files"]


@pytest.mark.parametrize("name", NAMES)
def test_what_was_written_is_sound_and_looking_changes_nothing(copy, name):
    path = copy(name)
    before = {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}
    assert mend(path).damage == []
    assert {file: file.read_bytes() for file in path.rglob("*") if file.is_file()} == before
    must_be_sound(path)


def test_there_is_something_in_pages_and_in_the_journal(written):
    report = check(written / "paged", 0)
    assert sum(totals.pages for _, totals in report.queues) > 3
    totals = {row.name: totals.messages for row, totals in report.queues}
    assert totals == {name: len(bodies) for name, bodies in contents(written / "paged").items()}
    live = {each.kind for each in report.files if each.live}
    assert live >= {"metadata", "checkpoint", "segment"}


# -- torn ends --------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("zeros", [False, True], ids=["truncated", "zeroed"])
def test_a_journal_cut_off_in_its_last_batch_loses_that_one_and_says_so(copy, zeros):
    path = copy("crashed")
    file = path / "journal" / "0000000001.journal"
    *_, last = Journal(DiskFiles(), path / "journal", 1, 1)
    data = file.read_bytes()
    expected = everything(path)
    last_body = expected["q"][-1]
    end = last.offset + 32 + len(last.payload)
    for length in range(last.offset, end):
        file.write_bytes(data[:length] + (bytes(len(data) - length) if zeros else b""))
        found = everything(path)
        if data[length:end].strip(b"\0"):
            assert found["q"] in (expected["q"][:-1], [*expected["q"][:-1], last_body][: len(found["q"])])
        assert only_fewer(found, expected)
        inspection = look(path)
        assert inspection.damage == []
        if data[last.offset : length].strip(b"\0"):
            assert any(each.offset == last.offset for each in inspection.warnings)
    kept = Kept(path)
    assert kept.cut
    kept.crash()
    must_be_sound(path)


@pytest.mark.parametrize("name", ["journal", "files", "paged"])
@pytest.mark.parametrize("zeros", [False, True], ids=["truncated", "zeroed"])
def test_after_a_regular_stop_no_end_is_torn(copy, name, zeros):
    path = copy(name)
    *_, file = sorted((path / "journal").iterdir())
    data = file.read_bytes()
    end = len(data.rstrip(b"\0"))
    for length in Random(1).sample(range(end - 1), 12):
        path = copy(name)
        file.write_bytes(data[:length] + (bytes(len(data) - length) if zeros else b""))
        with pytest.raises(DamageError) as caught:
            Kept(path)
        assert str(caught.value.path) in str(caught.value)
        found = mend(path)
        assert found.damage
        assert (path / "set-aside").is_dir()
        must_be_sound(path)
        after = everything(path)
        # What was settled may be back, since acknowledgements are lost as well; nothing is new.
        assert set(after["q"]) <= {*EVER, "after the repair"}


# -- flipped bits -----------------------------------------------------------------------------------------


def bits(path, count):
    size = 8 * len(path.read_bytes().rstrip(b"\0"))
    return sorted(Random(str(path.name)).sample(range(size), min(count, size)))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["paged", "journal", "files"])
def test_a_flipped_bit_is_harmless_or_reported_and_repaired(copy, name):
    expected = everything(copy(name))
    files = [file.relative_to(copy(name)) for part in ("checkpoint", "journal/*", "segments/*")
             for file in sorted(copy(name).glob(part))]  # fmt: skip
    for file in files:
        for bit in bits(copy(name) / file, 24 if len(files) < 4 else 6):
            path = copy(name)
            flip(path / file, bit)
            try:
                found = look(path)
            except FormatError:
                assert bit // 8 < 8, "only a magic tells the format"
                with pytest.raises(FormatError, match=str(path / file)):
                    Kept(path)
                continue
            if not found.damage:
                assert everything(path) == expected, (file, bit)
                continue
            assert any(each.path == path / file for each in found.damage), (file, bit, found.damage)
            if file.parts[0] != "segments":
                with pytest.raises(DamageError, match="is damaged at offset") as caught:
                    Kept(path)
                assert str(path / file) in str(caught.value)
            mend(path)
            must_be_sound(path)
            after = everything(path)
            if file.parts[0] == "journal":
                lost = sum(map(len, expected.values())) + 1 - sum(map(len, after.values()))
                assert lost <= 1, "a batch holds one message"


# -- whole files ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["paged", "files"])
def test_a_missing_file_is_damage_and_mended(copy, name):
    base = copy(name)
    files = [file.relative_to(base) for part in ("checkpoint", "journal/*", "segments/*")
             for file in sorted(base.glob(part))]  # fmt: skip
    expected = everything(base)
    for file in files:
        path = copy(name)
        (path / file).unlink()
        found = look(path)
        assert found.damage, file
        if file.parts[0] != "segments":
            with pytest.raises(DamageError):
                Kept(path)
        mend(path)
        must_be_sound(path)
        after = everything(path)
        if file.name == "checkpoint":
            assert all(set(bodies) <= set(after[queue]) for queue, bodies in expected.items())
        else:
            assert sum(map(len, after.values())) > 1, "the other files are kept"


def test_a_damaged_page_keeps_what_can_be_read(copy):
    path = copy("paged")
    segment = next((path / "segments").iterdir())
    data = segment.read_bytes()
    expected = everything(path)["q"]
    page = recover(DiskFiles(), path, [1]).queues[1].pages[0]
    victim = contents(path)["q"][next(each for each in page.positions() if not page.is_settled(each))]
    at = data.index(victim.encode(), page.offset) - 20  # within its content header
    segment.write_bytes(data[:at] + b"\xff" * 8 + data[at + 8 :])
    found = mend(path)
    assert [(each.path, each.what.split(":")[0]) for each in found.damage] == [(segment, "page of queue 1")]
    (loss,) = found.losses
    assert (loss.queue_id, sum(count for _, count in loss.positions)) == (1, 1)
    must_be_sound(path)
    assert everything(path)["q"][:-1] == [body for body in expected if body != victim]


def test_a_lost_batch_in_the_midst_costs_what_it_held(copy):
    path = copy("journal")
    file = path / "journal" / "0000000001.journal"
    data = file.read_bytes()
    expected = everything(path)["q"]
    at = data.rindex(expected[3].encode())
    file.write_bytes(data[:at] + b"?" + data[at + 1 :])
    found = mend(path)
    position = next(key for key, body in contents(copy("journal"))["q"].items() if body == expected[3])
    path = copy("journal")
    file.write_bytes(data[:at] + b"?" + data[at + 1 :])
    mend(path)
    assert (1, [(position, 1)]) in found.losses
    must_be_sound(path)
    assert everything(path)["q"][:-1] == [body for body in expected if body != expected[3]]
    aside = path / "set-aside" / "20260102T030405.000000" / "journal" / file.name
    assert aside.read_bytes() == data[:at] + b"?" + data[at + 1 :]


def test_a_damaged_header_costs_nothing_when_its_batches_are_whole(copy):
    path = copy("files")
    expected = everything(path)
    for file in sorted((path / "journal").iterdir()):
        flip(file, 8 * 12)
    mend(path)
    assert everything(path) == expected
    must_be_sound(path)


def test_a_file_of_which_nothing_can_be_read_is_set_aside(copy):
    path = copy("files")
    file = path / "journal" / "0000000002.journal"
    size = file.stat().st_size
    file.write_bytes(Random(1).randbytes(size))
    found = mend(path)
    assert any("nothing can be read of 0000000002.journal" in each for each in found.remarks)
    must_be_sound(path)
    assert everything(path)["q"][-3:] == ["more", "and more", "after the repair"]


def test_a_damaged_checkpoint_is_rebuilt_from_the_pages(copy):
    path = copy("paged")
    expected = everything(path)
    (path / "checkpoint").write_bytes(MAGIC + b" and then nothing that makes sense")
    found = mend(path)
    assert any("may come back" in each for each in found.remarks)
    must_be_sound(path)
    after = everything(path)
    assert all(set(bodies) <= set(after[queue]) for queue, bodies in expected.items())


def test_segments_with_neither_checkpoint_nor_journal_are_damage_and_kept(copy):
    path = copy("paged")
    (path / "checkpoint").unlink()
    shutil.rmtree(path / "journal")
    held = Lock(path)
    held.forget()
    held.leave()
    with pytest.raises(DamageError, match=r"checkpoint is damaged at offset 0: the file is missing"):
        Kept(path)
    mend(path)
    must_be_sound(path)
    assert len(everything(path)["q"]) > 1


def test_a_repair_that_was_cut_off_can_be_begun_again(copy):
    path = copy("files")
    for number in (2, 3, 4):
        flip(path_of(path / "journal", number), 8 * 100)
    first, *_ = look(path).changes.items()
    first[0].write_bytes(first[1])
    assert len(mend(path).changes) == 2
    must_be_sound(path)


# -- everything at once -----------------------------------------------------------------------------------


def harm(path, random):
    """Do something to one of the files."""
    files = sorted(file for part in ("checkpoint", "journal/*", "segments/*") for file in path.glob(part))
    if not files:
        return
    file = random.choice(files)
    data = bytearray(file.read_bytes())
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


@pytest.mark.parametrize("seed", range(40))
def test_whatever_was_damaged_a_broker_and_a_check_agree_and_a_repair_mends_it(copy, seed):
    random = Random(seed)
    path = copy(random.choice(["paged", "journal", "crashed", "files"]))
    for _ in range(random.choice((1, 2, 3))):
        harm(path, random)
    before = look(path)
    try:
        readable = everything(path)
    except DamageError:
        assert before.damage
        readable = {}
    except FormatError:
        return
    mend(path)
    after = everything(path)
    assert all(set(bodies) <= set(after[queue]) for queue, bodies in readable.items())
    must_be_sound(path)


# -- what a crash may leave -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("leftover", "content"),
    [
        ("checkpoint.tmp", b"LVRTCHK1 half a"),
        ("journal/0000000007.journal.tmp", b"half a repair"),
        ("journal/0000000099.journal", bytes(4096)),
        ("journal/0000000099.journal", b"LVRTJRN2\0\0"),
        ("journal/0000000001.journal", b"what a removal left"),
        ("segments/0000000099.segment", b"half a page"),
        ("segments/0000000099.segment", b""),
    ],
)
def test_leftovers_are_warnings_and_no_damage(copy, leftover, content):
    path = copy("paged")
    expected = everything(path)
    (path / leftover).write_bytes(content)
    found = look(path)
    assert found.damage == []
    assert path / leftover in [each.path for each in found.warnings]
    assert everything(path) == expected
    must_be_sound(path)


# -- metadata ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [None, b"", b"no database at all, but long enough to be looked at" * 99])
def test_messages_without_metadata_are_not_dropped(copy, content):
    path = copy("paged")
    file = path / "metadata.sqlite"
    file.unlink()
    if content is not None:
        file.write_bytes(content)
    before = {each: each.read_bytes() for each in path.rglob("*") if each.is_file()}
    for act in (Kept, look):
        with pytest.raises(MetadataError, match=str(file)):
            act(path)
    assert {each: each.read_bytes() for each in path.rglob("*") if each.is_file()} == before


def test_a_damaged_index_of_the_metadata_is_rebuilt(copy):
    path = copy("paged")
    with sqlite3.connect(path / "metadata.sqlite") as connection:
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute(
            "UPDATE sqlite_schema SET rootpage = (SELECT rootpage FROM sqlite_schema WHERE name = 'vhosts')"
            " WHERE name = 'nothing'"
        )
        (page,) = connection.execute(
            "SELECT rootpage FROM sqlite_schema WHERE name = 'sqlite_autoindex_queues_1'"
        ).fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    connection.close()
    file = path / "metadata.sqlite"
    data = bytearray(file.read_bytes())
    start = (page - 1) * size
    data[start + 3 : start + 5] = bytes(2)  # an empty index
    file.write_bytes(data)
    found = mend(path)
    assert [each.path for each in found.damage][:1] == [file]
    must_be_sound(path)
