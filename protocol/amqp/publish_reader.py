"""Parser of publishes that arrive whole: method, header and one body frame, one after the other.

Responsible for the path on which a broker spends most of its time: consecutive publishes of one channel, in
one call. ``reader`` handles everything else, and every fault; both return the same messages.

Each message is compared with the previous ones, so that less of it has to be parsed. The route is kept if the
method frame is the same, and the traits if the properties are. A content is *recognized*, on whatever route,
if it begins with the same bytes as an earlier one up to the body, or has the same shape (see ``shape``): then
nothing before the body is parsed. A message takes 0.3 us if it begins like the last one, 0.6 us if it has the
same shape, and 2.5 us if only the route is the same; another route takes 0.6 us more.
"""

from struct import Struct

from leveret.protocol.amqp.command import Command, Publishes
from leveret.protocol.amqp.constants import FRAME_BODY, FRAME_END, FRAME_HEADER, FRAME_METHOD
from leveret.protocol.amqp.content_frames import BASIC, FLAGS_OFFSET
from leveret.protocol.amqp.incomplete_content import HEAD
from leveret.protocol.amqp.message import Message, ParsedMessage
from leveret.protocol.amqp.shape import FIXED, PropertyScanner, mask_of
from leveret.protocol.amqp.traits import NO_TRAITS

PUBLISH = b"\x00\x3c\x00\x28"
PUBLISH_ID = int.from_bytes(PUBLISH)
METHOD = Struct(">BHIIHB")  # head of the frame, class and method, ticket, length of the exchange's name
HEADER = Struct(">BHIIQ")  # head of the frame, class and weight, size of the body
HEADER_ID = BASIC << 16
BODY_HEAD = Struct(">BBHI")  # the octet before the frame, and its head
SMALLEST_METHOD, SMALLEST_HEADER = 17, 22  # bytes of a frame with empty names, and without properties
NEVER = 1 << 62  # longer than any read
LARGEST = 2048  # most bytes kept of a connection's last content: those before the body, or the properties
# Learning a shape takes 4 us, which is what two recognized messages save. So a shape is learned only after
# FEWEST consecutive messages of one length. If fewer than WORTH messages had the shape that was learned last,
# the next one is learned after twice as many as before, up to MOST. Lengths that never repeat cost two
# comparisons.
FEWEST, MOST, WORTH = 3, 4096, 4


class PublishReader:
    """A parser of the publishes of one connection. ``together`` as in ``CommandReader``.

    ``_begin`` has the bytes of a recognized content before its body, ``_whole`` is the length of such a
    content in bytes, ``NEVER`` while none can be recognized.
    """

    def __init__(self, *, together: bool) -> None:
        self._together = together
        self._method, self._route, self._bits = b"\0", b"", 0  # the last method frame: no frame begins with 0
        self._raw, self._traits = b"", NO_TRAITS  # the last properties that were scanned
        self._scanner = PropertyScanner()
        self._header_size = self._size = 0  # of the last content that was parsed
        self._repeated = 0  # parsed contents in a row that had these sizes too
        self._begin = b""
        # The shape of recognized contents: the bits of ``_begin`` that must be equal, and their values. All
        # bytes must be equal while the mask is 0.
        self._mask = self._common = 0
        self._whole, self._known_size, self._known_traits = NEVER, 0, NO_TRAITS
        self._patience = FEWEST  # repetitions after which a shape is learned
        self._used = WORTH  # messages that were recognized since a shape was learned

    def whole(self, rest: bytes) -> int:
        """Return the length of the publish that ``rest`` begins, or 0 if it begins unlike the last one."""
        skip = len(self._method)
        alike = self._begin and rest.startswith(self._method) and rest.startswith(self._begin, skip)
        return skip + self._whole if alike else 0

    def read(  # noqa: PLR0912, PLR0915, PLR0917 - a loop without calls
        self,
        data: bytes,
        position: int,
        channel: int,
        limit: int,
        body_max: int,
        commands: list[tuple[int, Command]],
    ) -> int:
        """Append the publishes of a channel from ``position`` on, and return the offset after them.

        ``limit`` is the largest payload of a frame, ``body_max`` the largest body, in bytes. Consecutive
        publishes with the same route and bits that are handled alike are one command. The loop ends at the
        first bytes that are not such a publish.
        """
        header, body_head, from_bytes = HEADER.unpack_from, BODY_HEAD.unpack_from, int.from_bytes
        together, scan = self._together, self._scanner.scan
        length, largest = len(data), min(limit, body_max)
        method, route, bits = self._method, self._route, self._bits
        begin, whole, mask, common = self._begin, self._whole, self._mask, self._common
        known_size, known_traits, used = self._known_size, self._known_traits, self._used
        skip, ahead = len(method), len(begin)
        handling: object = None  # of the last command
        messages: list[Message] = []  # of the last command
        total = 0  # bytes of their bodies
        while True:
            # The method frame, unless it is the same as the last one.
            if not data.startswith(method, position):
                if length - position < SMALLEST_METHOD:
                    break
                kind, number, size, what, _, name = METHOD.unpack_from(data, position)
                last = position + HEAD + size
                middle = position + 14 + name  # the length of the routing key
                if (
                    kind != FRAME_METHOD
                    or number != channel
                    or what != PUBLISH_ID
                    or size > limit
                    or not middle < last < length
                    or data[last] != FRAME_END
                ):
                    break
                flags = middle + 1 + data[middle]
                if flags + 1 != last:
                    break
                method, route, bits = data[position : last + 1], data[position + 13 : flags], data[flags] & 3
                skip, handling = len(method), None
            at = position + skip
            body, end = at + ahead, at + whole
            if (
                end <= length
                and data[end - 1] == FRAME_END
                and (from_bytes(data[at:body]) & mask == common if mask else data.startswith(begin, at))
            ):
                size, traits, alike = known_size, known_traits, not mask
                used += 1
            else:
                alike = False
                # The header frame up to ``between``, and the body frame.
                if length - at < SMALLEST_HEADER:
                    break
                kind, number, header_size, what, size = header(data, at)
                between = at + HEAD + header_size
                end = between + 9 + size
                if (
                    kind != FRAME_HEADER
                    or number != channel
                    or what != HEADER_ID
                    or not 14 <= header_size <= limit
                    or not 0 < size <= largest
                    or end > length
                    or body_head(data, between) != (FRAME_END, FRAME_BODY, channel, size)
                    or data[end - 1] != FRAME_END
                ):
                    break
                properties = data[at + FLAGS_OFFSET : between]
                if properties == self._raw:
                    traits = self._traits
                else:
                    found = scan(properties)
                    if found is None:
                        break
                    self._raw = properties
                    self._traits = traits = found
                if header_size != self._header_size or size != self._size:
                    self._header_size, self._size, self._repeated = header_size, size, 0
                else:
                    self._repeated += 1
                    if self._repeated == 1 or self._repeated >= self._patience:
                        self._used = used
                        self._recognize(data[at : between + 8], end - at, properties)
                        begin, whole, mask, common = self._begin, self._whole, self._mask, self._common
                        known_size, known_traits, used = self._known_size, self._known_traits, self._used
                        ahead = len(begin)
            # The message, in the last command or in one of its own.
            message = ParsedMessage(route, bits, channel, size, data[at:end], traits)
            position = end
            if traits.handling is not handling:
                if len(messages) > 1:
                    commands[-1] = channel, Publishes(messages, total)
                commands.append((channel, message))
                messages, total = [message], size
                handling = traits.handling if together else None
                continue
            messages.append(message)
            total += size
            if alike:  # without ids, of one length: 0.25 us each in this loop, 0.37 us in the outer one
                same = method + begin
                while data.startswith(same, position):
                    at = position + skip
                    end = at + whole
                    if end > length or data[end - 1] != FRAME_END:
                        break
                    messages.append(ParsedMessage(route, bits, channel, size, data[at:end], traits))
                    total += size
                    position = end
        if len(messages) > 1:
            commands[-1] = channel, Publishes(messages, total)
        self._method, self._route, self._bits, self._used = method, route, bits, used
        if len(self._raw) > LARGEST:
            self._raw = b""
        return position

    def _recognize(self, begin: bytes, whole: int, raw: bytes) -> None:
        """Recognize contents like the last one: by its first bytes at once, by its shape after ``_patience``
        repetitions.

        ``begin`` has its bytes before the body, ``whole`` is its length, ``raw`` are the properties.
        """
        if len(begin) > LARGEST:
            return
        self._begin, self._whole, self._mask, self._common = begin, whole, 0, 0
        self._known_size, self._known_traits = self._size, self._traits
        if self._repeated > 1:
            self._mask, self._common = self._learn(begin, raw)

    def _learn(self, begin: bytes, raw: bytes) -> tuple[int, int]:
        """Return a mask of the bits of ``begin`` that decide its shape, and the values of these bits."""
        self._patience = FEWEST if self._used >= WORTH else min(2 * self._patience, MOST)
        self._used = self._repeated = 0
        after = 1 + HEAD  # bytes after the properties: the end of their frame, and the head of the next one
        before = len(begin) - len(raw) - after
        mask = int.from_bytes(FIXED * before + mask_of(raw) + FIXED * after)
        return mask, int.from_bytes(begin) & mask
