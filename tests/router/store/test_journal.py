from dataclasses import dataclass
from pathlib import Path
from struct import pack_into
from zlib import crc32

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leveret.router.store.journal.journal import (
    FILE_HEADER,
    DamageError,
    FormatError,
    Header,
    JournalFile,
    numbers,
    pack_batch,
    pack_header,
    path_of,
)
from leveret.router.store.journal.reading import Journal
from tests.router.store.failing import FailingFiles, Node

DIRECTORY = Path("/data/journal")
MARK = b"\x01MRK"
SIZE = 1024


def payload(sequence):
    return b"batch %d " % sequence * (sequence % 4)


@dataclass
class Image:
    """A journal file's bytes, and where in them each batch begins and ends."""

    data: bytearray
    places: dict[int, tuple[int, int]]


def image(number=1, sequences=range(1, 6), *, first=None, synced=None, mark=MARK, size=SIZE):
    """A file with these batches, each of which was synced before the next was written."""
    first = sequences[0] if first is None else first
    data = bytearray(pack_header(number, Header(first, first - 1 if synced is None else synced, mark)))
    places = {}
    for sequence in sequences:
        batch = pack_batch(mark, [payload(sequence)], sequence, sequence - 1)
        places[sequence] = len(data), len(data) + len(batch)
        data += batch
    return Image(data + bytes(max(0, size - len(data))), places)


def directory(*images):
    """Files of these bytes, the first with number 1; None leaves a number out."""
    files = FailingFiles()
    for number, data in enumerate(images, 1):
        if data is not None:
            files.seen[path_of(DIRECTORY, number)] = Node(getattr(data, "data", data))
    return files


def read(files, number=1, sequence=1):
    journal = Journal(files, DIRECTORY, number, sequence)
    found = [(batch.sequence, batch.payload) for batch in journal]
    assert not files.open_files
    return journal, found


def told(sequences):
    return [(sequence, payload(sequence)) for sequence in sequences]


def flip(data, bit):
    data[bit // 8] ^= 1 << bit % 8


# -- one file ---------------------------------------------------------------------------------------------


def test_the_bytes_are_those_of_the_documentation():
    head = b"LVRTJRN2" + bytes(7) + b"\x05" + bytes(7) + b"\x09" + bytes(7) + b"\x08" + MARK
    assert pack_header(5, Header(9, 8, MARK)) == head + crc32(head).to_bytes(4, "big")
    rest = bytes(7) + b"\x05" + bytes(7) + b"\x09" + bytes(7) + b"\x08" + b"hello"
    assert pack_batch(MARK, [b"hel", b"lo"], 9, 8) == MARK + crc32(rest).to_bytes(4, "big") + rest + bytes(3)


def test_batches_are_read_as_they_were_written():
    journal, found = read(directory(image()))
    assert found == told(range(1, 6))
    assert (journal.sequence, journal.numbers, journal.cut) == (6, [1], [])


def test_a_batch_may_be_larger_than_a_file_is_made():
    assert read(directory(image(size=0)))[1] == told(range(1, 6))


@given(st.lists(st.lists(st.binary(max_size=40), max_size=4), min_size=1, max_size=8), st.integers(0, 300))
@settings(deadline=None)
def test_a_journal_file_brings_back_what_was_appended(written, size):
    files = FailingFiles()
    file = JournalFile(files, DIRECTORY, number=1, first=1, synced=0, size=size)
    for sequence, parts in enumerate(written, 1):
        file.append(parts, sequence, sync=sequence % 2 == 0)
    file.finish()
    assert not files.open_files
    expected = [(sequence, b"".join(parts)) for sequence, parts in enumerate(written, 1)]
    assert read(files.cut_power(0))[1] == expected


def test_a_file_cut_off_anywhere_brings_back_whole_batches():
    whole = image(size=0)
    for length in range(FILE_HEADER, len(whole.data)):
        journal, found = read(directory(whole.data[:length]))
        # What is cut off of a batch may be its padding.
        ends = [end - -len(payload(sequence)) % 8 for sequence, (_, end) in whole.places.items()]
        assert found == told(range(1, 1 + sum(end <= length for end in ends)))
        assert journal.sequence == len(found) + 1


@pytest.mark.parametrize("length", range(FILE_HEADER))
def test_a_file_that_was_made_and_not_begun_is_left_out(length):
    whole = image().data
    journal, found = read(directory(whole[:length] + bytes(SIZE)))
    assert found == []
    assert journal.sequence == 1
    assert len(journal.cut) == 1


@pytest.mark.parametrize("length", range(FILE_HEADER))
def test_a_header_that_is_missing_before_batches_is_damage(length):
    whole = image().data
    with pytest.raises(DamageError) as caught:
        read(directory(whole[:length] + bytes(FILE_HEADER - length) + whole[FILE_HEADER:]))
    assert (caught.value.path, caught.value.offset) == (path_of(DIRECTORY, 1), 0)


@pytest.mark.parametrize(
    "header", [pack_header(2, Header(9, 0, b"none")), bytes(FILE_HEADER - 4) + b"\x12\x34\x56\x78"]
)
def test_another_header_is_damage(header):
    with pytest.raises(DamageError):
        read(directory(header + bytes(SIZE) + b"x"))


@pytest.mark.parametrize(
    "header",
    [
        pack_header(2, Header(1, 0, MARK)),
        pack_header(1, Header(3, 0, MARK)),
        pack_header(1, Header(0, 0, MARK)),
        pack_header(1, Header(1, 7, MARK)),
        pack_header(1, Header(2**64 - 1, 2**64 - 1, MARK)),
        pack_header(1, Header(1, 0, b"some")),
    ],
)
def test_a_header_gives_way_to_the_batches_that_contradict_it(header):
    journal, found = read(directory(header + image().data[FILE_HEADER:]))
    assert found == told(range(1, 6))
    assert len(journal.corrected) == 1
    assert journal.cut == []


def test_a_batch_between_its_neighbours_is_the_one_that_comes_next():
    whole = image()
    start, end = whole.places[3]
    data = bytearray(whole.data)
    batch = pack_batch(MARK, (data[start + 32 : end],), 1 << 63, 0)
    data[start : start + len(batch)] = batch
    journal, found = read(directory(data))
    assert [sequence for sequence, _ in found] == [1, 2, 3, 4, 5]
    assert len(journal.corrected) == 1


def other_format(*, whole):
    """A file of the next format; ``whole`` says that its header has the form of ours."""
    data = image().data
    data[7] += 1
    crc = crc32(data[:36]) if whole else 0x12345678
    data[36:40] = crc.to_bytes(4, "big")
    return data


@pytest.mark.parametrize("whole", [True, False])
def test_a_journal_of_another_format_is_refused_and_not_read(whole):
    with pytest.raises(
        FormatError, match=r"0000000001.journal has format LVRTJRN\d at offset 0.*Use the vers"
    ):
        read(directory(other_format(whole=whole)))


def test_a_digit_of_the_magic_that_was_changed_on_the_disk_is_damage():
    data = image().data
    data[7] += 1
    with pytest.raises(DamageError):
        read(directory(data))


def test_batches_that_a_regular_stop_vouches_for_must_be_there():
    journal, _ = read(directory(image()))
    journal.must_reach(5)
    with pytest.raises(DamageError, match="batch 6 is gone, which was on disk when the broker stopped"):
        journal.must_reach(6)


def test_every_flipped_bit_is_harmless_or_a_torn_end_or_damage():
    whole = image()
    last = whole.places[5][0]
    for bit in range(8 * whole.places[5][1]):
        changed = Image(bytearray(whole.data), whole.places)
        flip(changed.data, bit)
        try:
            _, found = read(directory(changed))
        except DamageError:
            assert bit // 8 < last, "no crash may be called damage"
        else:
            assert found in (told(range(1, 6)), told(range(1, 5)))
            if found == told(range(1, 5)):
                assert bit // 8 >= last


@given(
    st.lists(st.tuples(st.integers(0, 8 * SIZE - 1), st.integers(0, 8 * 40)), min_size=1, max_size=3),
)
@settings(max_examples=300, deadline=None)
def test_no_damage_makes_a_batch_that_was_not_written(spots):
    whole = image()
    for start, bits in spots:
        for bit in range(start, min(start + bits, 8 * SIZE)):
            flip(whole.data, bit)
    try:
        _, found = read(directory(whole))
    except DamageError:
        return
    assert found == told(range(1, len(found) + 1))


@pytest.mark.parametrize("lost", range(1, 5))
def test_a_batch_that_a_later_one_covers_is_damage_where_it_stood(lost):
    whole = image()
    start, end = whole.places[lost]
    whole.data[start:end] = bytes(end - start)
    with pytest.raises(DamageError) as caught:
        read(directory(whole))
    assert (caught.value.path, caught.value.offset) == (path_of(DIRECTORY, 1), start)
    assert str(path_of(DIRECTORY, 1)) in str(caught.value)


def test_batches_that_were_never_synced_may_be_missing():
    data = bytearray(pack_header(1, Header(1, 0, MARK)))
    start = 0
    for sequence in range(1, 5):
        if sequence == 3:
            start = len(data)
        data += pack_batch(MARK, [b"xyz"], sequence, 0)
    data[start : start + 40] = bytes(40)
    journal, found = read(directory(data))
    assert [sequence for sequence, _ in found] == [1, 2]
    assert len(journal.cut) == 1


@pytest.mark.parametrize("zeros", [True, False], ids=["lost", "as garbage"])
def test_a_message_that_carries_a_journal_is_no_batch_of_this_one(zeros):
    other = image(mark=b"\x01OTH").data
    data = bytearray(pack_header(1, Header(1, 0, MARK)))
    data += pack_batch(MARK, [bytes(other)], 1, 0)
    size = 16 if zeros else 4
    data[FILE_HEADER : FILE_HEADER + size] = bytes(size)
    assert read(directory(data))[1] == []


def test_what_stood_on_the_disk_before_is_no_batch():
    stale = image(sequences=range(1, 9), mark=b"\x01OLD").data
    fresh = image(sequences=range(1, 3))
    end = fresh.places[2][1]
    fresh.data[end:] = stale[end : len(fresh.data)]
    journal, found = read(directory(fresh))
    assert found == told([1, 2])
    assert len(journal.cut) == 1


# -- several files ----------------------------------------------------------------------------------------


def test_files_are_read_in_the_order_of_their_numbers():
    journal, found = read(
        directory(image(1, range(1, 4)), image(2, range(4, 6)), None, image(4, range(6, 8)))
    )
    assert found == told(range(1, 8))
    assert (journal.sequence, journal.numbers, journal.cut) == (8, [1, 2, 4], [])


def test_other_files_are_none_of_the_journal():
    files = directory(image())
    files.seen[DIRECTORY / "0000000002.tmp"] = files.seen[DIRECTORY / "x.journal"] = Node(b"x")
    assert numbers(files, DIRECTORY) == [1]


@pytest.mark.parametrize("torn", [True, False])
def test_a_file_begins_again_with_the_batch_that_failed(torn):
    one = image(1, range(1, 4))
    if torn:
        flip(one.data, 8 * one.places[3][0])
    journal, found = read(directory(one, image(2, range(3, 6))))
    assert found == told([1, 2, 3, 4, 5] if torn else [1, 2, 3, 3, 4, 5])
    assert journal.sequence == 6
    assert len(journal.cut) == torn


def test_the_end_of_a_file_that_the_next_one_covers_is_damage():
    one = image(1, range(1, 4))
    start = one.places[3][0]
    flip(one.data, 8 * start)
    with pytest.raises(DamageError) as caught:
        read(directory(one, image(2, range(4, 6))))
    assert (caught.value.path, caught.value.offset) == (path_of(DIRECTORY, 1), start)


def test_the_next_file_covers_though_it_holds_nothing_yet():
    one = image(1, range(1, 4))
    flip(one.data, 8 * one.places[3][0])
    with pytest.raises(DamageError):
        read(directory(one, image(2, range(0), first=4)))


def test_batches_before_a_file_that_were_not_synced_may_be_missing():
    journal, found = read(directory(image(1, range(1, 3)), image(2, range(5, 7), synced=1)))
    assert found == told([1, 2, 5, 6])
    assert journal.sequence == 7
    assert len(journal.cut) == 1


def test_a_file_in_the_middle_that_is_missing_is_damage():
    with pytest.raises(DamageError):
        read(directory(image(1, range(1, 4)), None, image(3, range(6, 8))))


def test_reading_begins_with_the_file_that_the_checkpoint_names():
    files = directory(image(1, range(1, 4)), image(2, range(3, 6)))
    journal, found = read(files, number=2, sequence=4)
    assert found == told([3, 4, 5])
    assert (journal.sequence, journal.numbers) == (6, [2])


@pytest.mark.parametrize("files", [directory(), directory(None, None, image(3, range(6, 8)))])
def test_the_file_that_the_checkpoint_names_must_be_there(files):
    with pytest.raises(DamageError) as caught:
        read(files, number=2, sequence=4)
    assert caught.value.path == path_of(DIRECTORY, 2)


def test_the_file_that_the_checkpoint_names_must_have_been_begun():
    with pytest.raises(DamageError):
        read(directory(None, bytes(SIZE)), number=2, sequence=4)


def test_a_journal_without_its_checkpoint_is_damage():
    with pytest.raises(DamageError):
        read(directory(None, image(2, range(4, 6))))


def test_what_was_read_is_on_disk():
    files = FailingFiles()
    file = JournalFile(files, DIRECTORY, number=1, first=1, synced=0, size=SIZE)
    file.append([b"abc"], 1, sync=False)
    survived = files.restart_process()
    assert read(survived)[1] == [(1, b"abc")]
    assert all(read(survived.cut_power(seed))[1] == [(1, b"abc")] for seed in range(20))


# -- writing ----------------------------------------------------------------------------------------------


def test_synced_covers_exactly_the_batches_on_disk():
    files = FailingFiles()
    file = JournalFile(files, DIRECTORY, number=1, first=8, synced=5, size=SIZE)
    for sequence, sync in ((8, False), (9, True), (10, False), (11, False)):
        file.append([b"x"], sequence, sync=sync)
    journal = Journal(files, DIRECTORY, 1, 8)
    assert [batch.synced for batch in journal] == [5, 5, 9, 9]
    assert file.synced == 9
    file.finish()
    assert file.synced == 11


def test_a_sealed_journal_covers_its_last_batch():
    files = FailingFiles()
    file = JournalFile(files, DIRECTORY, number=1, first=1, synced=0, size=SIZE)
    file.append([b"x" * 8], 1, sync=True)
    file.finish(seal=True)
    data = files.seen[path_of(DIRECTORY, 1)].seen
    assert read(directory(data))[1] == [(1, b"x" * 8), (2, b"")]
    flip(data, 8 * FILE_HEADER)
    with pytest.raises(DamageError):
        read(directory(data))


@pytest.mark.parametrize("left", [True, False])
@pytest.mark.parametrize("operation", [1, 2, 3])
def test_a_file_that_cannot_be_begun_leaves_nothing_open(operation, left):
    files = FailingFiles(range(operation, operation + 1), left=left)
    with pytest.raises(OSError, match="Input/output error"):
        JournalFile(files, DIRECTORY, number=1, first=1, synced=0, size=SIZE)
    assert not files.open_files
    assert all(read(files.cut_power(seed))[1] == [] for seed in range(20))


def test_a_failed_write_closes_the_file():
    files = FailingFiles(range(6, 7))
    file = JournalFile(files, DIRECTORY, number=1, first=1, synced=0, size=SIZE)
    file.append([b"x"], 1, sync=True)
    with pytest.raises(OSError, match="Input/output error"):
        file.append([b"y"], 2, sync=True)
    assert not files.open_files
    assert file.synced == 1
    assert [each[0] for each in read(files.cut_power(1))[1]][:1] == [1]


def test_files_in_which_not_one_batch_could_be_written_do_not_pile_up():
    for operation in (4, 5):
        files = FailingFiles(range(operation, operation + 1))
        file = JournalFile(files, DIRECTORY, number=1, first=1, synced=0, size=SIZE)
        with pytest.raises(OSError, match="Input/output error"):
            file.append([b"x"], 1, sync=True)
        assert not files.seen


def test_every_file_has_a_mark_of_its_own():
    files = FailingFiles()
    for number in range(1, 9):
        JournalFile(files, DIRECTORY, number=number, first=1, synced=0, size=0).finish()
    assert len({bytes(node.seen[32:36]) for node in files.seen.values()}) == 8


def test_a_length_that_reaches_behind_the_file_is_a_torn_end():
    whole = image(sequences=[1])
    pack_into(">Q", whole.data, FILE_HEADER + 8, 2**63)
    assert read(directory(whole))[1] == []
