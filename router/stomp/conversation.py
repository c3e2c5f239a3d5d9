"""The state of a logged-in client: session, subscriptions, transactions, and receipts.

The client's frames are handled in ``commands``, MESSAGE frames are written by ``message_writer``.

Sources: STOMP 1.2, "RECEIPT"; RabbitMQ for the texts.
"""

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Protocol

from leveret.protocol.amqp.message import Message
from leveret.protocol.errors import AmqpError, InternalError, ResourceError
from leveret.protocol.stomp.frames import Frame, encode_frame
from leveret.router.queue.consumers import Consumer, Receiver
from leveret.router.queue.entry import Entry
from leveret.router.session.reply_gate import Gate
from leveret.router.session.session import Session
from leveret.router.session.topology import Topology
from leveret.router.session.transport import Outbox
from leveret.router.stomp.message_writer import MessageWriter
from leveret.router.turns.backlog import Slices

START = attrgetter("start")
DROPPED = 256  # frames whose memory is freed in a slice
FRAME_COST = 320  # bytes that a frame in memory takes up besides its headers and its body
HEADER_COST = 112  # bytes that a header in memory takes up besides its characters


def tag_of_id(id_: str) -> str:
    """Return the consumer tag of a subscription with this id. It is visible in message ids, as RabbitMQ's."""
    return f"T_{id_}"


def tag_of_destination(destination: str) -> str:
    """Return the consumer tag of a subscription without an id."""
    return f"Q_{destination}"


class ConversationOwner(Protocol):
    """The connection, as far as a conversation needs it."""

    @property
    def outbox(self) -> Outbox: ...
    @property
    def replies(self) -> Gate: ...
    def refuse(self, error: AmqpError) -> None:
        """Send the error and end the connection."""

    def crash(self, error: Exception) -> None:
        """End the connection after an exception in the broker while it served this client."""

    def messages_written(self) -> None:
        """Let deliveries go on after frames have been written in later turns."""

    def tell_error(self, message: str, detail: str, **headers: str) -> None:
        """Send an ERROR frame that does not end the connection."""


@dataclass(frozen=True, slots=True)
class Subscription:
    """A subscription: its id (None if the client gave only a destination), and the name of its queue.

    ``held`` has the delivery tags of unsettled messages, in order, if an ACK settles all messages before it
    too; otherwise it is None.
    """

    id: str | None
    destination: str
    queue: str
    held: deque[range] | None

    def holds(self, tag: int) -> bool:
        """Return True if this tag is in ``held``."""
        held = self.held or deque()
        place = bisect_right(held, tag, key=START)
        return place > 0 and tag in held[place - 1]

    def take_through(self, tag: int) -> Iterator[int]:
        """Remove all tags up to and including this one, which must be held, and yield them."""
        while self.held:
            first = self.held.popleft()
            if tag in first:
                if tag + 1 < first.stop:
                    self.held.appendleft(range(tag + 1, first.stop))
                yield from range(first.start, tag + 1)
                return
            yield from first

    @property
    def description(self) -> str:
        return f"destination='{self.destination}'" if self.id is None else f"id='{self.id}'"


@dataclass(slots=True)
class StompTransaction:
    """The frames that wait for a COMMIT; ``size`` is about how many bytes of memory they take up."""

    frames: deque[Frame] = field(default_factory=deque)
    size: int = 0

    def add(self, frame: Frame) -> None:
        self.frames.append(frame)
        self.size += FRAME_COST + len(frame.body)
        for name, value in frame.headers.items():
            self.size += HEADER_COST + len(name) + len(value)


class Conversation:
    """The conversation of one client. ``session_id`` is the part of message ids that names its connection."""

    def __init__(
        self,
        owner: ConversationOwner,
        session_of: Callable[["Conversation"], Session],
        version: str,
        session_id: str,
    ) -> None:
        self.version = version
        self.session_id = session_id
        self.session = session_of(self)
        session = self.session
        self.topology = Topology(session.vhost, session.user, session.owner)
        self.subscriptions: dict[str, Subscription] = {}  # by consumer tag
        self.transactions: dict[str, StompTransaction] = {}  # open ones, by name
        self.declared: set[str] = set()  # names of queues that this client has declared
        self.reply_queues: dict[str, str] = {}  # by /temp-queue/ destination
        self._owner = owner
        self._outbox = owner.outbox
        self._replies = owner.replies
        # Publishes to be confirmed: the number, the receipt, and the RECEIPT frame. The frames are made
        # beforehand, because a commit may confirm very many publishes at once.
        self._receipts: deque[tuple[int, str, bytes]] = deque()
        self._messages = MessageWriter(
            session.broker,
            owner.outbox,
            owner.replies,
            self.subscriptions,
            version=version,
            session_id=session_id,
            drained=owner.messages_written,
            crash=owner.crash,
        )

    def hold_replies(self) -> None:
        """Hold later replies until the changes of this turn are on disk."""
        self._replies.hold()

    def forget(self, transaction: StompTransaction) -> None:
        """Free the memory of an aborted transaction, in later turns if it is large."""
        broker = self.session.broker
        broker.backlog.start("dropping a transaction", _drop(transaction.frames))

    def end_deliveries(self) -> None:
        """Write no further MESSAGE frames, and the replies that wait for earlier ones."""
        self._messages.drop_deliveries()

    def close(self) -> None:
        """Abort the open transactions and close the session."""
        self._messages.close()
        for transaction in self.transactions.values():
            self.forget(transaction)
        self.transactions.clear()
        self.session.close()

    def receipt_frame(self, receipt: str) -> bytes:
        """Return the RECEIPT frame for the value of a header ``receipt``."""
        return encode_frame(Frame("RECEIPT", {"receipt-id": receipt}), self.version)

    def send_receipt(self, receipt: str) -> None:
        self.write_reply(self.receipt_frame(receipt))

    def write_reply(self, data: bytes) -> None:
        """Write one or more frames, after earlier replies and deliveries."""
        self._messages.write_reply(data)

    def publish(self, message: Message, receipt: str | None) -> None:
        """Publish a message; its receipt is sent when it is confirmed, or with its transaction's commit."""
        session = self.session
        if receipt is None or session.mode.transaction is not None:
            session.publish(message)
            return
        session.select_confirms()
        assert session.mode.confirms is not None
        number = session.mode.confirms.published + 1
        session.publish(message)
        self._receipts.append((number, receipt, self.receipt_frame(receipt)))

    def waiting(self) -> bool:
        """Return True if a receipt waits for a confirm."""
        return bool(self._receipts)

    def forget_receipts(self) -> None:
        """Drop the receipts of publishes that are not confirmed yet."""
        self._receipts.clear()

    def send_receipts(self) -> bool:
        """Send the receipts of confirmed publishes. Return True if other publishes are not confirmed yet."""
        receipts = self._receipts
        for number, _, accepted in self.session.verdicts():
            frames: list[bytes] = []
            while receipts and receipts[0][0] <= number:
                _, receipt, frame = receipts.popleft()
                if not accepted:
                    self._refuse_publish(receipt)
                    return False
                frames.append(frame)
            if frames:
                self.write_reply(b"".join(frames))
        return bool(self._receipts)

    def _refuse_publish(self, receipt: str) -> None:
        """End the connection because a publish was not accepted."""
        confirms = self.session.mode.confirms
        if confirms is not None and confirms.unstored:
            error: AmqpError = InternalError(f"the message of '{receipt}' could not be stored")
        else:
            error = ResourceError(f"a queue is full and refused the message of '{receipt}'")
        self._owner.refuse(error)

    # -- SessionSink -----------------------------------------------------------------------------------------

    def writable(self) -> bool:
        """Return True if the client reads its messages, few replies wait for the disk, and no frames wait to
        be written.
        """
        room = self._replies.room
        return self._outbox.writable() and self._replies.size <= room and not self._messages.waiting

    def overfull(self) -> bool:
        return self._outbox.overfull()

    def write_deliveries(self, receiver: Receiver, first_tag: int, entries: Sequence[Entry]) -> None:
        """Write MESSAGE frames."""
        self._messages.write(receiver, first_tag, entries)

    def owes_confirms(self, batch: int) -> None:
        """Do nothing: ``send_receipts`` looks for confirms at each call."""

    def returned(self, message: Message, code: int, text: str) -> None:
        """Never called: STOMP publishes are not mandatory."""

    def cancelled(self, consumer: Consumer) -> None:
        """Send an ERROR frame. As in RabbitMQ, the connection stays open."""
        subscription = self.subscriptions.pop(consumer.tag, None)
        if subscription is None:
            return  # a reply queue
        self._owner.tell_error(
            "Server cancelled subscription",
            "The server has canceled a subscription.\n"
            f'No more messages will be delivered for "{subscription.description}".\n',
            **({} if subscription.id is None else {"subscription": subscription.id}),
        )

    def fail(self, error: AmqpError) -> None:
        self._owner.refuse(error)

    def crash(self, error: Exception) -> None:
        self._owner.crash(error)


def _drop(frames: deque[Frame]) -> Slices:
    while frames:
        for _ in range(min(DROPPED, len(frames))):
            frames.popleft()
        yield
