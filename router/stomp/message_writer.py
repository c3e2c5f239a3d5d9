"""The MESSAGE frames of one client: writing deliveries, and the order of frames that take long to write.

A message may have 128 KiB of headers, each of which becomes a line of text. Frames that a turn has no time
for are written in later turns; until then the client gets no further deliveries, and its receipts wait.

Sources: STOMP 1.2, "MESSAGE"; RabbitMQ for message ids.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, TypeAlias

from leveret.protocol.amqp.message import Message
from leveret.protocol.stomp.frames import END, V1_2, encode_headers
from leveret.router.broker.broker import Broker
from leveret.router.queue.consumers import Receiver
from leveret.router.queue.entry import Entry
from leveret.router.session.reply_gate import Gate
from leveret.router.session.transport import Outbox
from leveret.router.stomp.header_lines import KNOWN_BYTES, LONG, header_lines, lines_in_slices
from leveret.router.turns.backlog import Slices

SEPARATOR = "@@"  # between the parts of a message id: consumer tag, session, delivery tag
# The common parts of a subscription's frames (see ``_wire``), and the tags that it holds
Wire: TypeAlias = tuple[bytes, bytes, deque[range] | None]
FEW = 16  # frames with few headers between two checks of the turn's time budget


class HoldingSubscription(Protocol):
    """Interface of a subscription, as far as its frames depend on it."""

    @property
    def held(self) -> deque[range] | None:
        """Return the delivery tags that a later ACK settles too; None if it settles one message."""


def id_of_tag(tag: str) -> str | None:
    """Return the id in a consumer tag; None for a subscription without an id."""
    return tag[2:] if tag.startswith("T_") else None


class MessageWriter:
    """Writes the frames of one client to its outbox, or behind its replies that wait for the disk.

    ``drained`` is called when waiting frames are written and deliveries may go on, ``crash`` after an
    exception in a later turn.
    """

    def __init__(
        self,
        broker: Broker,
        outbox: Outbox,
        replies: Gate,
        subscriptions: Mapping[str, HoldingSubscription],
        *,
        version: str,
        session_id: str,
        drained: Callable[[], None],
        crash: Callable[[Exception], None],
    ) -> None:
        self._broker = broker
        self._outbox = outbox
        self._replies = replies
        self._subscriptions = subscriptions  # by consumer tag
        self._version = version
        self._session_id = session_id
        self._drained = drained
        self._crash = crash
        self._waiting: deque[tuple[Wire, bool, int, Entry] | bytes] = deque()  # deliveries, and replies
        self._writing = False  # a work of later turns writes them
        self._closed = False

    @property
    def waiting(self) -> bool:
        """Return True if frames are written in later turns."""
        return self._writing

    def write_reply(self, data: bytes) -> None:
        """Write a reply, after the deliveries that wait."""
        if self._writing:
            self._waiting.append(data)
        else:
            self._replies.write(data)

    def write(self, receiver: Receiver, first_tag: int, entries: Sequence[Entry]) -> None:
        """Write the MESSAGE frames of deliveries, some of them in later turns if they take long."""
        if receiver.wire is None:
            receiver.wire = self._wire(receiver)
        head, ack, held = receiver.wire
        if held is not None:
            held.append(range(first_tag, first_tag + len(entries)))
        if self._writing:
            self._write_later(receiver, first_tag, entries)
            return
        version, budget, counted = self._version, self._broker.budget, receiver.counted
        parts: list[bytes] = []
        for index, entry in enumerate(entries):
            message = entry.message
            size = len(message.raw_properties)
            if (size > KNOWN_BYTES or index % FEW == FEW - 1) and (size > LONG or budget.spent()):
                self._send(parts)
                self._write_later(receiver, first_tag + index, entries[index:])
                return
            _add_start(parts, head, ack, first_tag + index, entry, counted)
            parts.append(header_lines(message, version))
            _add_body(parts, message)
        self._send(parts)

    def drop_deliveries(self) -> None:
        """Drop the deliveries that wait, whose messages are requeued with the session's, and write the
        replies that wait.
        """
        waiting = self._waiting
        self.close()
        for each in waiting:
            if isinstance(each, bytes):
                self._replies.write(each)

    def close(self) -> None:
        """Drop all that waits."""
        self._closed = True
        self._writing = False
        self._waiting = deque()

    def _send(self, parts: list[bytes]) -> None:
        if parts:
            (self._replies if self._replies.waiting else self._outbox).extend(parts)

    def _write_later(self, receiver: Receiver, first_tag: int, entries: Sequence[Entry]) -> None:
        wire, counted = receiver.wire, receiver.counted
        self._waiting += [(wire, counted, tag, entry) for tag, entry in enumerate(entries, first_tag)]
        if not self._writing:
            self._writing = True
            self._broker.backlog.start("writing messages with many headers", self._write_waiting())

    def _write_waiting(self) -> Slices:
        """Write the frames that wait, in slices; an exception ends this client's connection only."""
        yield  # the turn of the deliveries has no time for them
        try:
            while not self._closed and self._waiting:
                first = self._waiting[0]
                if isinstance(first, bytes):
                    self._replies.write(first)
                else:
                    yield from self._write_in_slices(*first)
                if not self._closed:
                    self._waiting.popleft()
                yield
            self._writing = False
            if not self._closed:
                self._drained()
        except Exception as error:
            self._crash(error)

    def _write_in_slices(self, wire: Wire, counted: bool, tag: int, entry: Entry) -> Slices:
        """Write one MESSAGE frame, unless the session is closed meanwhile."""
        lines = yield from lines_in_slices(entry.message, self._version)
        head, ack, _ = wire
        parts: list[bytes] = []
        _add_start(parts, head, ack, tag, entry, counted)
        parts.append(lines)
        _add_body(parts, entry.message)
        if not self._closed:
            self._send(parts)

    def _wire(self, receiver: Receiver) -> Wire:
        """Return the common parts of a subscription's frames, and the held tags.

        The parts are the lines up to the delivery tag in ``message-id``, and the ``ack`` line up to its tag.
        """
        subscription = self._subscriptions.get(receiver.tag)  # None: a reply queue
        held = None if subscription is None else subscription.held
        message_id = f"{receiver.tag}{SEPARATOR}{self._session_id}{SEPARATOR}"
        headers = {"message-id": message_id}
        if (subscribed := id_of_tag(receiver.tag)) is not None:
            headers = {"subscription": subscribed} | headers
        head = b"MESSAGE\n" + encode_headers(headers, self._version)[:-1]
        if receiver.no_ack or self._version != V1_2:
            return head, b"", held
        return head, encode_headers({"ack": message_id}, self._version)[:-1], held


def _add_start(  # noqa: PLR0917 - called once a message
    parts: list[bytes], head: bytes, ack: bytes, tag: int, entry: Entry, counted: bool
) -> None:
    """Add the lines that depend on the delivery."""
    number = b"%d\n" % tag
    parts += (head, number, b"redelivered:true\n" if entry.returns else b"redelivered:false\n")
    if ack:
        parts += (ack, number)
    if counted and entry.returns:
        parts.append(b"x-delivery-count:%d\n" % entry.returns)


def _add_body(parts: list[bytes], message: Message) -> None:
    """Add the end of the headers, the body, and the end of the frame."""
    if message.size:
        parts += (b"content-length:%d\n\n" % message.size, message.body, END)
    else:
        parts += (b"\n", END)
