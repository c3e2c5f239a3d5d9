"""The deduplication cache of a queue or an exchange: recent message ids, which are the values of a header.

An id is removed when its TTL is over, or when there are too many newer ones, but not when its message is
consumed.

Source: LavinMQ, "Message deduplication" (``x-message-deduplication`` and its arguments), which keeps the
cache in memory only.
"""

from collections import OrderedDict
from collections.abc import Mapping

from leveret.protocol.amqp.message import Message
from leveret.protocol.amqp.table import Timestamp
from leveret.router.deduplication.deduplicator import Deduplicator, Identity
from leveret.router.deduplication.notes import MessageId, pack_message_id, unpack_message_ids
from leveret.router.values.notes import Key, NoteKind

HEADER = "x-deduplication-header"  # of messages, unless the argument of this name names another
SIZE = 128  # message ids, by default
BYTES = 64 << 20  # of memory that a cache takes up at most, whatever its size
COST = 350  # bytes that an id takes up besides its own
KEY_MAX = (1 << 16) - 1  # bytes

_SIMPLE = (str, bytes, int)


class DeduplicationCache(Deduplicator):
    """Remembers ``size`` message ids, each for ``ttl`` ms (0: until there are too many).

    ``pending`` are the keys of messages that an exchange is passing on: it is not known yet whether their
    queues accept them.
    """

    __slots__ = ("_bytes", "_header", "_known", "_size", "_ttl", "pending")

    def __init__(self, header: str = HEADER, size: int = SIZE, ttl: int = 0) -> None:
        super().__init__()
        self._header = header
        self._size = size
        self._ttl = ttl
        self._bytes = 0
        self._known: OrderedDict[Key, MessageId] = OrderedDict()
        self.pending: set[Key] = set()

    def __len__(self) -> int:
        return len(self._known)

    def identify(self, message: Message) -> Identity | None:
        """Return the identity of a message; None without the header, and for a list or a table as
        its value.
        """
        value = message.header(self._header)
        if not isinstance(value, _SIMPLE) or isinstance(value, bool | Timestamp):
            return None
        kind = type(value).__name__[:1].encode()
        data = value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value
        key = NoteKind.MESSAGE_ID.key(kind + (data if isinstance(data, bytes) else b"%d" % data))
        return Identity(key) if len(key) <= KEY_MAX else None

    def is_known(self, identity: Identity, now: int) -> bool:
        found = self._known.get(identity.key)
        return found is not None and not 0 < found.until <= now

    def remember(self, identity: Identity, now: int) -> None:
        key = identity.key
        newest = next(reversed(self._known.values())).sequence if self._known else -1
        value = MessageId(now + self._ttl if self._ttl else 0, newest + 1)
        if key not in self._known:
            self._bytes += COST + len(key)
        self._known[key] = value
        self._known.move_to_end(key)
        if self.notes is not None:
            self.notes.put(key, pack_message_id(value))
        while len(self._known) > self._size or self._bytes > BYTES:
            self._forget(next(iter(self._known)))

    def forget(self, message: Message) -> None:
        """Remove the id of a message that was not stored, so that the message may be published again."""
        identity = self.identify(message)
        if identity is not None and identity.key in self._known:
            self._forget(identity.key)

    def _forget(self, key: Key) -> None:
        del self._known[key]
        self._bytes -= COST + len(key)
        if self.notes is not None:
            self.notes.forget(key)

    def recall(self, notes: Mapping[Key, bytes]) -> None:
        self._known = unpack_message_ids(notes)
        self._bytes = sum(COST + len(key) for key in self._known)
