"""Notes of deduplication: what they restore, and which of them are refused."""

from struct import error as StructError

import pytest

from leveret.protocol.amqp.message import Message
from leveret.protocol.amqp.properties import Properties
from leveret.router.deduplication.cache import DeduplicationCache
from leveret.router.deduplication.deduplicator import Duplicate
from leveret.router.deduplication.notes import (
    SEQUENCE_MAX,
    MessageId,
    Publisher,
    pack_message_id,
    pack_publisher,
)
from leveret.router.deduplication.publishers import Publishers


class Kept(dict):
    """The current notes, by key."""

    put = dict.__setitem__
    forget = dict.__delitem__

    def barrier(self):
        return None


def by_cache(name):
    return {"x-deduplication-header": name}


def by_publishers(name):
    return {"x-publisher-name": name, "x-publishing-id": 1}


KINDS = pytest.mark.parametrize(
    ("make", "headers", "limit"),
    [
        pytest.param(lambda: DeduplicationCache(size=3), by_cache, None, id="cache"),
        pytest.param(lambda: Publishers("/", "s"), by_publishers, "publishers.KNOWN", id="publishers"),
    ],
)


def message(headers):
    return Message.build("", "", Properties(headers=headers), b"")


def remembers(deduplicator, headers):
    admission = deduplicator.admit(message(headers), 0)
    if isinstance(admission, Duplicate):
        return True
    deduplicator.remember(admission, 0)
    return False


@KINDS
def test_after_a_restart_the_oldest_is_forgotten_first(make, headers, limit, monkeypatch):
    if limit:
        monkeypatch.setattr(f"leveret.router.deduplication.{limit}", 3)
    first, again = make(), make()
    first.notes = again.notes = notes = Kept()
    for name in "abcd":
        assert not remembers(first, headers(name))
    again.recall(dict(reversed(notes.items())))
    assert len(again) == len(notes) == 3
    assert not remembers(again, headers("e"))
    assert [remembers(again, headers(name)) for name in "cde"] == [True, True, True]
    assert not remembers(again, headers("b"))


@KINDS
@pytest.mark.parametrize("value", [b"", b"short", bytes(17), None])
def test_a_note_that_cannot_be_decoded_is_refused(make, headers, limit, value):
    deduplicator = make()
    identity = deduplicator.identify(message(headers("a")))
    if value is None:
        is_cache = isinstance(deduplicator, DeduplicationCache)
        number = SEQUENCE_MAX + 1
        value = pack_message_id(MessageId(0, number)) if is_cache else pack_publisher(Publisher(number, 1))
    with pytest.raises((ValueError, StructError)):
        deduplicator.recall({identity.key: value})
