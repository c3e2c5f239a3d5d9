from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leveret.router.store.journal.records import (
    ID_MAX,
    POSITION_MAX,
    RETURNS_MAX,
    BadRecord,
    ProgressRecord,
    PublishRecord,
    RecordError,
    ReturnedRecord,
    RunRecord,
    pack_progress,
    pack_publish,
    pack_returned,
    pack_run,
    publishes_of,
    ranges,
    unpack,
    unpack_readable,
)
from leveret.router.stream.entries import ENTRY

number = st.integers(0, ID_MAX)
position = st.integers(0, POSITION_MAX)
count = st.integers(0, RETURNS_MAX)
publish = st.builds(
    PublishRecord,
    st.lists(st.tuples(number, position, number), max_size=3),
    st.binary(max_size=20),
    st.binary(max_size=50),
)
progress = st.builds(ProgressRecord, number, position, st.lists(st.tuples(position, count), max_size=3))
returned = st.builds(ReturnedRecord, number, st.lists(st.tuples(number, count), max_size=3))
run = st.builds(
    RunRecord,
    number,
    st.integers(0, POSITION_MAX - 3),
    st.lists(st.tuples(st.binary(max_size=20), st.binary(max_size=50)), max_size=3),
)
records = st.lists(publish | progress | returned | run, max_size=6)


def pack(record):
    match record:
        case PublishRecord():
            return b"".join(pack_publish(record.targets, record.route, record.frames))
        case ProgressRecord():
            return pack_progress(record.queue_id, record.delivered, record.settled)
        case ReturnedRecord():
            return pack_returned(record.queue_id, record.returns)
        case RunRecord():
            entries = [
                ENTRY.pack(len(route), 0, len(frames)) + route + frames for route, frames in record.messages
            ]
            return pack_run(record.queue_id, record.first, entries) + b"".join(entries)


@given(records)
@settings(deadline=None)
def test_records_survive_packing(written):
    assert list(unpack(b"".join(map(pack, written)))) == written


@pytest.mark.parametrize(
    "record",
    [
        PublishRecord([(1, POSITION_MAX + 1, 0)], b"", b""),
        PublishRecord([(1, 0, 0), (2, POSITION_MAX + 1, 0)], b"", b""),
        RunRecord(1, POSITION_MAX, [(b"", b"")]),
        ProgressRecord(1, POSITION_MAX + 1, []),
        ProgressRecord(1, 0, [(POSITION_MAX + 1, 1)]),
    ],
)
def test_a_position_that_leaves_no_room_for_others_is_an_error(record):
    good = pack(PublishRecord([(1, POSITION_MAX, 0)], b"", b""))
    with pytest.raises(RecordError, match="position"):
        list(unpack(good + pack(record) + good))
    found = list(unpack_readable(good + pack(record) + good))
    assert [isinstance(each, BadRecord) for _, _, each in found] == [False, True, False]


@pytest.mark.parametrize("targets", [0, 1, 2, 70_000])
def test_a_message_may_go_to_any_number_of_queues(targets):
    record = PublishRecord([(queue, 2, 3) for queue in range(targets)], b"\x01e\x01k", b"frames")
    assert list(unpack(pack(record))) == [record]


def test_the_bytes_are_those_of_the_documentation():
    assert pack(PublishRecord([(1, 2, 3)], b"RR", b"FFF")) == (
        bytes.fromhex("00000024 01 00000001 0000000000000001 0000000000000002 0000000000000003 0002")
        + b"RRFFF"
    )
    assert pack(ProgressRecord(1, 2, [(3, 4)])) == bytes.fromhex(
        "00000021 02 0000000000000001 0000000000000002 00000001 0000000000000003 00000004"
    )
    assert pack(ReturnedRecord(1, [(3, 4)])) == bytes.fromhex(
        "00000019 03 0000000000000001 00000001 0000000000000003 00000004"
    )


def test_a_run_is_the_publishes_of_its_messages():
    record = RunRecord(1, 7, [(b"RR", b"FFF"), (b"", b"")])
    assert pack(record) == (
        bytes.fromhex("0000002e 05 0000000000000001 0000000000000007 00000002")
        + bytes.fromhex("0002 00000000 00000003")
        + b"RRFFF"
        + bytes.fromhex("0000 00000000 00000000")
    )
    assert publishes_of(record) == [
        PublishRecord([(1, 7, 0)], b"RR", b"FFF"),
        PublishRecord([(1, 8, 0)], b"", b""),
    ]
    assert publishes_of(ProgressRecord(1, 2, [])) == ()


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_run_with_another_number_of_messages_is_unreadable(count):
    entries = [ENTRY.pack(1, 0, 2) + b"RFF"] * 2
    packed = bytearray(pack_run(1, 7, entries) + b"".join(entries))
    packed[24] = count
    with pytest.raises(RecordError, match="does not hold"):
        list(unpack(bytes(packed)))


@given(records.filter(bool), st.data())
@settings(deadline=None)
def test_a_cut_off_payload_is_an_error_or_whole_records(written, data):
    packed = b"".join(map(pack, written))
    cut = packed[: data.draw(st.integers(0, len(packed) - 1))]
    found = []
    try:
        found.extend(unpack(cut))
    except RecordError:
        pass
    else:
        assert b"".join(map(pack, found)) == cut
    assert found == written[: len(found)]


@given(st.binary(max_size=60))
@settings(deadline=None)
def test_what_is_no_record_is_refused(data):
    try:
        found = list(unpack(data))
    except RecordError:
        return
    assert b"".join(map(pack, found)) == data


@pytest.mark.parametrize(
    "data",
    [
        b"\x00",
        b"\x00\x00\x00\x00\x01",  # shorter than its type
        b"\x00\x00\x00\x01\x01",  # a publish of nothing
        b"\x00\x00\x00\x01\x09",  # no type of record
        b"\x00\x00\x00\x09\x01\xff\xff\xff\xff\x00\x00\x00\x00",  # more queues than there can be
        pack(ProgressRecord(1, 2, [(3, 4)]))[:-12] + bytes(13),
    ],
)
def test_a_record_that_contradicts_itself_is_refused(data):
    with pytest.raises(RecordError):
        list(unpack(data))


@pytest.mark.parametrize(
    ("positions", "found"),
    [
        ([], []),
        ([0], [(0, 1)]),
        ([7, 5, 6], [(5, 3)]),
        ([1, 1, 3], [(1, 1), (3, 1)]),
        ([9, 1, 2, 4], [(1, 2), (4, 1), (9, 1)]),
        ([2**64 - 1, 2**64 - 2], [(2**64 - 2, 2)]),
    ],
)
def test_positions_become_ranges(positions, found):
    assert ranges(positions) == found


@given(st.lists(st.integers(0, 40)))
@settings(deadline=None)
def test_ranges_hold_each_position_once(positions):
    found = ranges(positions)
    assert [first + index for first, size in found for index in range(size)] == sorted(set(positions))
    assert all(one[0] + one[1] < two[0] for one, two in pairwise(found))
