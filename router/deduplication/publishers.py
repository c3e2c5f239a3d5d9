"""The publishers of a stream that number their messages, so that a message sent twice is stored once.

The numbers of one publisher only grow: a message with a number that is not greater than the last one stored
is a duplicate.
"""

from collections import OrderedDict
from collections.abc import Mapping

import structlog

from leveret.protocol.amqp.message import Message
from leveret.router.deduplication.deduplicator import Deduplicator, Identity
from leveret.router.deduplication.notes import Publisher, pack_publisher, unpack_publishers
from leveret.router.values.field_values import is_integer
from leveret.router.values.notes import Key, NoteKind

NAME, NUMBER = "x-publisher-name", "x-publishing-id"  # headers of a message
COMMON = b"x-publish"  # in both names
NAME_MAX = 255  # bytes of a name, as of a consumer's
KNOWN = 10_000  # publishers that are remembered; then the one silent for longest is forgotten
USABLE = f"{NAME} is a text of at most {NAME_MAX} bytes, and {NUMBER} an integer of 64 bits"


class Publishers(Deduplicator):
    """The numbered publishers of the stream ``stream`` in the virtual host ``vhost``."""

    __slots__ = ("_known", "_stream", "_vhost", "_warned")

    def __init__(self, vhost: str, stream: str) -> None:
        super().__init__()
        self._vhost = vhost
        self._stream = stream
        self._warned = False
        self._known: OrderedDict[Key, Publisher] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def identify(self, message: Message) -> Identity | None:
        """Return a message's publisher and number; None if it has no such headers, or unusable ones, which
        are logged once.
        """
        if not message.mentions(COMMON):
            return None
        name, number = message.header(NAME), message.header(NUMBER)
        if name is None and number is None:
            return None
        if isinstance(name, str) and is_integer(number) and -(1 << 63) <= number < 1 << 63:
            encoded = name.encode("utf-8", "surrogateescape")
            if len(encoded) <= NAME_MAX:
                return Identity(NoteKind.PUBLISHER.key(encoded), number)
        self._warn()
        return None

    def _warn(self) -> None:
        if not self._warned:
            self._warned = True
            structlog.get_logger().warning(
                "messages with an unusable publishing id are stored each time they are published",
                vhost=self._vhost,
                stream=self._stream,
                usable=USABLE,
            )

    def is_known(self, identity: Identity, now: int) -> bool:
        last = self._known.get(identity.key)
        return last is not None and identity.number <= last.number

    def remember(self, identity: Identity, now: int) -> None:
        key, number = identity
        newest = next(reversed(self._known.values())).sequence if self._known else -1
        value = self._known[key] = Publisher(newest + 1, number)
        self._known.move_to_end(key)
        if self.notes is not None:
            self.notes.put(key, pack_publisher(value))
        if len(self._known) > KNOWN:
            forgotten, _ = self._known.popitem(last=False)
            if self.notes is not None:
                self.notes.forget(forgotten)

    def recall(self, notes: Mapping[Key, bytes]) -> None:
        self._known = unpack_publishers(notes)
