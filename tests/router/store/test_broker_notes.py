"""The notes of the broker itself: what a restart restores, and what the store's own check says of them."""

import pytest

from leveret.router.store.offline.check import check
from leveret.router.values.notes import NoteKind
from tests.router.store.kept import Kept

KEY = NoteKind.OUTBOX.key(b"a")


def declared(path, **options):
    kept = Kept(path, **options)
    kept.node.queue(durable=True)
    return kept


def publish_with_note(kept, body, value):
    kept.client.publish(body, "q", delivery_mode=2)
    kept.store.broker_notes.put(KEY, value)
    kept.settle()


def test_a_note_is_restored_after_kill_9(quick_path):
    kept = declared(quick_path)
    publish_with_note(kept, "x", b"1")
    kept.crash()
    again = Kept(quick_path)
    assert again.store.broker_notes.kept == {KEY: b"1"}
    again.crash()


def test_a_removed_note_stays_removed(quick_path):
    kept = declared(quick_path)
    publish_with_note(kept, "x", b"1")
    kept.store.broker_notes.forget(KEY)
    kept.client.publish("y", "q", delivery_mode=2)
    kept.settle()
    kept.crash()
    again = Kept(quick_path)
    assert again.store.broker_notes.kept == {}
    again.crash()


@pytest.mark.parametrize("reads", [True, False], ids=["used", "unused"])
def test_notes_outlive_their_journal_files_whether_a_broker_uses_them_or_not(quick_path, reads):
    kept = declared(quick_path, journal_size=2000)
    publish_with_note(kept, "x", b"1")
    for _ in range(3):
        first = min(quick_path.glob("journal/*"))
        for number in range(30):
            kept.client.publish(f"{number:0200}", "q", delivery_mode=2)
            kept.settle()
        assert not first.exists()  # a checkpoint has taken its place
        kept.crash()
        kept = Kept(quick_path, journal_size=2000)
        if reads:
            assert kept.store.broker_notes.kept == {KEY: b"1"}
    assert kept.store.broker_notes.kept == {KEY: b"1"}
    kept.crash()


def test_check_finds_nothing_wrong_with_them(quick_path):
    kept = declared(quick_path)
    publish_with_note(kept, "x", b"1")
    kept.crash()
    report = check(quick_path, 0)
    assert not report.inspection.damage
    assert not report.inspection.warnings
