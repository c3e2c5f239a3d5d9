import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from leveret.router.store.journal.records import ranges
from leveret.router.store.segments.pages import (
    JOINED,
    PageError,
    PageParts,
    StoredMessage,
    StoredPage,
    pack_page,
    unpack_page,
    unpack_positions,
)

number = st.integers(0, 2**64 - 1)
entries = st.lists(
    st.builds(
        StoredMessage,
        number,
        number,
        st.integers(0, 2**32 - 1),
        st.binary(max_size=20),
        st.binary(max_size=60),
    ),
    max_size=8,
)
ascending = st.sets(st.integers(0, 60) | st.integers(2**63, 2**63 + 60), min_size=1).map(sorted)


def page(positions):
    return StoredPage(7, 1, 64, 1000, positions, size=500, earliest=0)


@given(entries, number)
@settings(deadline=None)
def test_messages_survive_packing(written, queue_id):
    assert unpack_page(bytes(pack_page(queue_id, written)), queue_id) == written


def test_the_bytes_are_those_of_the_documentation():
    data = bytes(pack_page(9, [StoredMessage(1, 2, 3, b"RR", b"FFF")]))
    assert data[:4] == b"PAG2"
    assert data[8:] == (
        bytes.fromhex("000000000000001f 0000000000000009 00000001")
        + bytes.fromhex("0000000000000001 0000000000000002 00000003 0002 00000003")
        + b"RRFFF"
    )


SOME = [StoredMessage(3, 0, 1, b"\x01e\x01k", b"first"), StoredMessage(5, 77, 0, b"\x01e\x01k", b"second")]


def test_every_flipped_bit_is_noticed():
    good = pack_page(9, SOME)
    for bit in range(8 * len(good)):
        bad = bytearray(good)
        bad[bit // 8] ^= 1 << bit % 8
        with pytest.raises(PageError):
            unpack_page(bytes(bad), 9)


def test_every_cut_is_noticed():
    good = bytes(pack_page(9, SOME))
    for length in range(len(good)):
        with pytest.raises(PageError):
            unpack_page(good[:length], 9)
        with pytest.raises(PageError):
            unpack_page(good[:length] + bytes(len(good) - length), 9)


def test_a_page_of_another_queue_is_refused():
    with pytest.raises(PageError, match="of queue 9 instead of 8"):
        unpack_page(bytes(pack_page(9, SOME)), 8)


@given(ascending)
@settings(deadline=None)
def test_positions_survive_packing(positions):
    kept = page(positions)
    assert list(kept.positions()) == positions
    assert list(unpack_positions(kept.first, kept.last, kept.packed_positions())) == positions
    assert (kept.packed_positions() == b"") == (len(ranges(positions)) == 1)


@given(ascending)
@settings(deadline=None)
def test_a_page_holds_its_positions_and_no_others(positions):
    kept = page(positions)
    around = {position + step for position in positions for step in (-1, 0, 1)}
    assert {position for position in around if kept.holds(position)} == set(positions)


class Settling(RuleBasedStateMachine):
    """A page beside the set that it stands for."""

    @initialize(positions=ascending)
    def begin(self, positions):
        self.page = page(positions)
        self.expected = set()

    @rule(data=st.data())
    def settle(self, data):
        position = data.draw(st.sampled_from(self.page.positions()))
        self.page.settle(position)
        self.expected.add(position)

    @rule(position=st.integers(0, 70))
    def settle_any(self, position):
        self.page.settle(position)
        if self.page.holds(position):
            self.expected.add(position)

    @rule()
    def come_back_from_a_checkpoint(self):
        old = self.page
        self.page = page(unpack_positions(old.first, old.last, old.packed_positions()))
        for first, count in old.settled():
            for position in range(first, first + count):
                self.page.settle(position)

    @invariant()
    def same(self):
        kept = self.page
        assert {position for position in kept.positions() if kept.is_settled(position)} == self.expected
        assert kept.live == kept.count - len(self.expected)
        assert kept.settled() == ranges(self.expected)


TestSettling = pytest.mark.slow(Settling.TestCase)
TestSettling.settings = settings(deadline=None)


def test_a_page_of_large_bodies_is_written_in_pieces_that_are_not_copied():
    frames = bytes(JOINED)
    messages = [StoredMessage(position, 0, 0, b"route", frames) for position in (1, 2)]
    parts = PageParts(9, messages)
    pieces = parts.pieces()
    assert sum(piece is frames for piece in pieces) == 2
    data = b"".join(pieces)
    assert len(data) == len(parts)
    assert data == bytes(pack_page(9, messages))
    assert unpack_page(data, 9) == messages


def test_a_page_without_messages_is_a_page():
    assert unpack_page(bytes(pack_page(9, [])), 9) == []
