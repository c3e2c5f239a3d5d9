from pathlib import Path
from zlib import crc32

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leveret.router.store.checkpoint import (
    MAGIC,
    NAME,
    Checkpoint,
    PageState,
    QueueState,
    pack_checkpoint,
    read_checkpoint,
)
from leveret.router.store.journal import DamageError, FormatError
from tests.router.store.failing import FailingFiles, Killed

DATA = Path("/data")
number = st.integers(0, 2**64 - 1)
pairs = st.lists(st.tuples(number, number), max_size=3)
page = st.builds(
    PageState,
    *[number] * 5,
    st.binary(max_size=16),
    number,
    number,
    number,
    pairs,
    st.dictionaries(number, number),
)
queue = st.builds(QueueState, number, number, number, st.lists(page, max_size=3))
checkpoint = st.builds(Checkpoint, number, number, st.lists(queue, max_size=3))

SOME = Checkpoint(3, 14, [QueueState(1, 9, 4, [PageState(1, 0, 99, 2, 5, b"", 50, 0, 1, [(3, 1)], {4: 2})])])


def stored(data):
    files = FailingFiles()
    files.replace(DATA / NAME, data)
    return files


@given(checkpoint)
@settings(deadline=None)
def test_a_checkpoint_survives(written):
    files = stored(pack_checkpoint(written))
    assert read_checkpoint(files, DATA) == written
    assert not files.open_files


def test_there_is_none_at_first():
    assert read_checkpoint(FailingFiles(), DATA) == Checkpoint(1, 1, ())


def test_every_flipped_bit_is_damage():
    good = pack_checkpoint(SOME)
    for bit in range(8 * len(good)):
        bad = bytearray(good)
        bad[bit // 8] ^= 1 << bit % 8
        with pytest.raises((DamageError, FormatError)):  # a digit of the magic may be another one then
            read_checkpoint(stored(bad), DATA)


def test_a_checkpoint_of_another_format_is_refused_and_not_read():
    newer = bytearray(pack_checkpoint(SOME))
    newer[len(MAGIC) - 1] += 1
    with pytest.raises(
        FormatError, match=r"/data/checkpoint has format LVRTCHK\d at offset 0.*knows LVRTCHK"
    ):
        read_checkpoint(stored(newer), DATA)


def test_every_cut_is_damage():
    good = pack_checkpoint(SOME)
    for length in range(len(good)):
        with pytest.raises(DamageError):
            read_checkpoint(stored(good[:length]), DATA)


def test_what_says_something_else_is_damage():
    payload = msgspec.msgpack.encode(["a", 1, []])
    with pytest.raises(DamageError, match="does not say"):
        read_checkpoint(stored(MAGIC + crc32(payload).to_bytes(4, "big") + payload), DATA)


def test_a_disk_that_cannot_be_read_is_no_missing_checkpoint():
    for operation in (2, 3, 4):
        files = FailingFiles(range(operation, operation + 1))
        files.replace(DATA / NAME, pack_checkpoint(SOME))
        with pytest.raises(OSError, match="Input/output error"):
            read_checkpoint(files, DATA)
        assert not files.open_files


def test_a_checkpoint_that_was_read_is_on_disk():
    files = FailingFiles(range(2, 3), left=True, kill=True)
    files.replace(DATA / NAME, pack_checkpoint(SOME))
    with pytest.raises(Killed):
        files.replace(DATA / NAME, pack_checkpoint(Checkpoint(4, 20)))
    after = files.restart_process()
    assert read_checkpoint(after, DATA).journal == 4
    assert all(read_checkpoint(after.cut_power(seed), DATA).journal == 4 for seed in range(20))


@pytest.mark.parametrize("left", [True, False])
def test_a_checkpoint_that_could_not_be_replaced_is_the_old_one_or_the_new(left):
    files = FailingFiles(range(2, 3), left=left)
    files.replace(DATA / NAME, pack_checkpoint(SOME))
    with pytest.raises(OSError, match="Input/output error"):
        files.replace(DATA / NAME, pack_checkpoint(Checkpoint(4, 20)))
    found = {read_checkpoint(files.cut_power(seed), DATA).journal for seed in range(20)}
    assert found == ({3, 4} if left else {3})
