"""Reading one page: its bytes, or what is wrong with them."""

import errno
from pathlib import Path

import pytest

from leveret.router.store.segments.pages import PageError, StoredMessage, pack_page, segment_path, unpack_page
from leveret.router.store.segments.reader import SegmentReader
from leveret.router.store.writer import ReadPage
from tests.router.store.failing import FailingFiles, Node

DATA = Path("/data")
MESSAGES = [
    StoredMessage(3, 0, 1, b"\x01e\x01k", b"first"),
    StoredMessage(5, 77, 0, b"\x01e\x01k", b"second"),
]
PAGE = bytes(pack_page(9, MESSAGES))
BEFORE, BEHIND = b"another page", b"and another"


@pytest.fixture(params=[True, False], ids=["kept", "transient"])
def kept(request):
    return request.param


@pytest.fixture
def files(kept):
    files = FailingFiles()
    files.seen[segment_path(DATA, 4, kept=kept)] = Node(BEFORE + PAGE + BEHIND)
    return files


def job(kept, **changes):
    fields = {"segment": 4, "offset": len(BEFORE), "length": len(PAGE), "queue_id": 9} | changes
    return ReadPage(kept, **fields)


def test_a_page_is_read_from_its_place(files, kept):
    data = SegmentReader(files, DATA).run(job(kept))
    assert unpack_page(data, 9) == MESSAGES
    assert not files.open_files, "its space is free once it is removed"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"offset": 0}, "there is no page"),
        ({"length": len(PAGE) + 1}, "the page has"),
        ({"queue_id": 8}, "the page is of queue 9 instead of 8"),
        ({"offset": 1000}, "the file ends before the page does"),
    ],
)
def test_what_is_not_the_page_that_was_asked_for_is_damage(files, kept, changes, told):
    with pytest.raises(PageError, match=told):
        SegmentReader(files, DATA).run(job(kept, **changes))
    assert not files.open_files


def test_a_flipped_bit_is_damage(files, kept):
    (node,) = files.seen.values()
    node.seen[len(BEFORE) + len(PAGE) - 1] ^= 1
    with pytest.raises(PageError, match="the checksum is wrong"):
        SegmentReader(files, DATA).run(job(kept))


def test_a_missing_file_is_distinguished_from_an_unreadable_one(files, kept):
    with pytest.raises(FileNotFoundError):
        SegmentReader(files, DATA).run(job(kept, segment=5))
    files.fail = range(files.operations + 2, files.operations + 3)
    with pytest.raises(OSError, match="Input/output error") as caught:
        SegmentReader(files, DATA).run(job(kept))
    assert caught.value.errno == errno.EIO
    assert not files.open_files
