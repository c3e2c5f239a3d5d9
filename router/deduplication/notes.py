"""The values of the notes that persist deduplication.

Each value contains a sequence number of its owner, so that after a restart too the oldest one is removed
first.
"""

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from struct import Struct
from typing import NamedTuple

from leveret.router.values.notes import Key, NoteKind

SEQUENCE_MAX = 1 << 62

_MESSAGE_ID = Struct(">QQ")  # expiry, sequence
_PUBLISHER = Struct(">Qq")  # sequence, publishing id


class MessageId(NamedTuple):
    """A remembered message id: when it expires (ms since the epoch; 0: never), and its sequence number."""

    until: int
    sequence: int


class Publisher(NamedTuple):
    """A remembered publisher: the sequence number of its last message, and that message's publishing id."""

    sequence: int
    number: int


def pack_message_id(value: MessageId) -> bytes:
    return _MESSAGE_ID.pack(*value)


def pack_publisher(value: Publisher) -> bytes:
    return _PUBLISHER.pack(*value)


def unpack_message_ids(notes: Mapping[Key, bytes]) -> OrderedDict[Key, MessageId]:
    """Return the remembered message ids, the oldest first. Raises ValueError and struct.error."""
    found = [
        (key, MessageId(*_MESSAGE_ID.unpack(value)))
        for key, value in NoteKind.MESSAGE_ID.select(notes).items()
    ]
    _check_sequences(value.sequence for _, value in found)
    return OrderedDict(sorted(found, key=lambda each: each[1].sequence))


def unpack_publishers(notes: Mapping[Key, bytes]) -> OrderedDict[Key, Publisher]:
    """Return the remembered publishers, the one silent for longest first. Raises ValueError and
    struct.error.
    """
    found = [
        (key, Publisher(*_PUBLISHER.unpack(value))) for key, value in NoteKind.PUBLISHER.select(notes).items()
    ]
    _check_sequences(value.sequence for _, value in found)
    return OrderedDict(sorted(found, key=lambda each: each[1].sequence))


def _check_sequences(sequences: Iterable[int]) -> None:
    """Raise ValueError for a sequence number so large that the next ones could not be encoded."""
    if max(sequences, default=0) > SEQUENCE_MAX:
        raise ValueError(f"a note has a sequence number over {SEQUENCE_MAX}")
