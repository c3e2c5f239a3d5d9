from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leveret.router.store.journal.checkpoint import (
    LAST_MAX,
    MAGIC,
    NAME,
    NO_START,
    Checkpoint,
    PageState,
    QueueState,
    decode_parts,
    pack_checkpoint,
)
from leveret.router.store.journal.journal import DamageError, FormatError
from leveret.router.store.journal.records import RETURNS_MAX
from leveret.router.store.segments.pages import ENTRY_LEAST
from tests.router.store.checkpoints import read_checkpoint
from tests.router.store.failing import FailingFiles, Killed

DATA = Path("/data")
number = st.integers(0, 1 << 33)
positions = st.integers(0, LAST_MAX)
pairs = st.lists(st.tuples(positions, number), max_size=3)


@st.composite
def pages(draw):
    held = sorted(draw(st.sets(st.integers(0, 60) | positions, min_size=1, max_size=9)))
    dense = held[-1] - held[0] + 1 == len(held)
    return PageState(
        segment=draw(number),
        offset=draw(number),
        length=len(held) * ENTRY_LEAST + draw(number),
        first=held[0],
        last=held[-1],
        positions=b"" if dense else b"".join(each.to_bytes(8, "big") for each in held),
        size=draw(number),
        earliest=draw(number),
        priority=draw(st.integers(0, 255)),
        settled=draw(pairs),
        returns=draw(st.dictionaries(positions, st.integers(0, RETURNS_MAX), max_size=3)),
    )


queue = st.builds(QueueState, number, positions, st.just(0), st.lists(pages(), max_size=3))
queues = st.lists(queue, max_size=3, unique_by=lambda each: each.id)
checkpoint = st.builds(Checkpoint, number, st.integers(1, LAST_MAX), queues)

SOME = Checkpoint(3, 14, [QueueState(1, 9, 4, [PageState(1, 0, 199, 2, 5, b"", 50, 0, 1, [(3, 1)], {4: 2})])])


def stored(data):
    files = FailingFiles()
    files.replace(DATA / NAME, data)
    return files


@pytest.mark.slow
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


@pytest.mark.parametrize("payload", [["a", 1, []], [1], "text", [1, 0, []], [-1, 1, []], [1, 1, 5]])
def test_impossible_values_are_reported_and_not_used(payload):
    found, wrong = decode_parts(msgspec.msgpack.encode(payload))
    assert (found.journal, found.sequence, list(found.queues)) == (1, 1, [])
    assert list(wrong) == [NO_START]


PAGE = (1, 0, 199, 2, 5, b"", 50, 0, 1, [(3, 1)], {4: 2})
BAD_PAGES = {
    "longer than its bytes": (1, 0, 99, 2, 5, b"", 50, 0, 1, [], {}),
    "from behind to front": (1, 0, 199, 5, 2, b"", 50, 0, 1, [], {}),
    "of every position there is": (1, 0, 199, 0, LAST_MAX, b"", 50, 0, 1, [], {}),
    "half a position": (1, 0, 199, 2, 5, b"1234", 50, 0, 1, [], {}),
    "other positions": (1, 0, 199, 2, 5, bytes(16), 50, 0, 1, [], {}),
    "a text": "page",
    "beyond all files": (1 << 63, 0, 199, 2, 5, b"", 50, 0, 1, [], {}),
    "settled below zero": (1, 0, 199, 2, 5, b"", 50, 0, 1, [(-1, 4)], {}),
}


@pytest.mark.parametrize("page", BAD_PAGES.values(), ids=BAD_PAGES)
def test_a_page_that_cannot_be_costs_the_others_nothing(page):
    payload = msgspec.msgpack.encode([3, 14, [[1, 9, 4, [page, PAGE], {b"k": b"v"}], [2, 7, 0, [PAGE], {}]]])
    found, wrong = decode_parts(payload)
    assert list(wrong) == [1]
    assert (found.journal, found.sequence) == (3, 14)
    assert [(each.id, each.next_position, len(each.pages), each.notes) for each in found.queues] == [
        (1, 9, 1, {b"k": b"v"}),
        (2, 7, 1, {}),
    ]


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
