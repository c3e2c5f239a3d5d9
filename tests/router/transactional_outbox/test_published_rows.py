"""The memory of published rows: what a restart restores, and what is forgotten."""

import pytest

from leveret.router.transactional_outbox import published_rows
from leveret.router.transactional_outbox.published_rows import PublishedRows
from leveret.router.values.notes import NoteKind
from tests.router.transactional_outbox.rows import OUTBOX, restored, row


class Notes(dict):
    """Notes by key; ``kept`` are the current ones."""

    put = dict.__setitem__
    forget = dict.__delitem__

    @property
    def kept(self):
        return dict(self)

    def barrier(self):
        return None


def identities(first, below):
    return [row(id=number).identity for number in range(first, below)]


def test_a_restart_restores_the_rows_of_this_outbox_alone():
    notes = Notes()
    PublishedRows(OUTBOX, notes).remember(identities(1, 4))
    PublishedRows(bytes(16), notes).remember(identities(7, 8))
    again = restored(OUTBOX, notes)
    assert [each in again for each in identities(1, 8)] == [True] * 3 + [False] * 4


def test_the_oldest_rows_are_forgotten_also_after_a_restart(monkeypatch):
    monkeypatch.setattr(published_rows, "KNOWN", 4)
    notes = Notes()
    first = PublishedRows(OUTBOX, notes)
    first.remember(identities(1, 3))
    first.remember(identities(3, 5))
    again = restored(OUTBOX, notes)
    again.remember(identities(5, 7))
    assert [each in again for each in identities(1, 7)] == [False] * 2 + [True] * 4
    assert len(again) == 4
    assert len(notes) == 2


def test_a_group_that_is_larger_than_the_memory_is_remembered_as_a_whole(monkeypatch):
    monkeypatch.setattr(published_rows, "KNOWN", 2)
    known = PublishedRows(OUTBOX, None)
    known.remember(identities(1, 6))
    assert len(known) == 5


def test_a_forgotten_row_is_forgotten_after_a_restart():
    notes = Notes()
    first = PublishedRows(OUTBOX, notes)
    first.remember(identities(1, 3))
    first.remember(identities(3, 4))
    for identity in identities(2, 4):
        first.forget(identity)
    first.forget(b"unknown")
    again = restored(OUTBOX, notes)
    for known in (first, again):
        assert [each in known for each in identities(1, 4)] == [True, False, False]
    assert len(notes) == 1


@pytest.mark.parametrize("key", [b"", bytes(7), bytes(9)])
def test_a_note_that_cannot_be_decoded_is_left_out(key):
    good, bad = NoteKind.OUTBOX.key(OUTBOX) + bytes(8), NoteKind.OUTBOX.key(OUTBOX) + key
    notes = Notes({good: identities(1, 2)[0], bad: b"x"})
    known = restored(OUTBOX, notes)
    assert len(known) == 1
    assert list(notes) == [good]


def test_rows_of_the_same_id_differ_by_their_message_id():
    known = PublishedRows(OUTBOX, None)
    known.remember([row(id=1).identity])
    assert row(id=1, message_id=row(id=2).message_id).identity not in known


def test_restoring_many_notes_takes_several_slices():
    notes = Notes()
    first = PublishedRows(OUTBOX, notes)
    for number in range(1, 1600):
        first.remember(identities(number, number + 1))
    again = PublishedRows(OUTBOX, notes)
    assert len(list(again.restore())) >= 5
    assert len(again) == 1599
