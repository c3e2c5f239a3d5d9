"""The commands of a client that has logged in: the table of handlers, and sending receipts.

A handler is a function of the conversation and the frame. Not for CONNECT and DISCONNECT (see
``connection``).

Sources: STOMP 1.2, "Client Frames"; RabbitMQ, "STOMP Plugin", and its texts.
"""

from collections import deque
from collections.abc import Callable, Iterable
from functools import partial

from leveret.protocol.amqp.content_frames import pack_frames, pack_header
from leveret.protocol.amqp.large_body import LargeBody, is_worth_it
from leveret.protocol.amqp.message import Frames, Message, pack_route
from leveret.protocol.errors import AmqpError
from leveret.protocol.stomp.errors import StompError
from leveret.protocol.stomp.frames import V1_2, Frame
from leveret.protocol.stomp.values import parse_boolean, parse_number
from leveret.router.session.topology_changes import TopologyChanges
from leveret.router.session.unacked import unknown_tag
from leveret.router.stomp.consumers import consumer_arguments
from leveret.router.stomp.conversation import (
    Conversation,
    StompTransaction,
    Subscription,
    tag_of_destination,
    tag_of_id,
)
from leveret.router.stomp.destinations import TEMP_QUEUE, StompDestination, parse_destination
from leveret.router.stomp.message_writer import SEPARATOR
from leveret.router.stomp.properties import pack_properties
from leveret.router.stomp.queues import (
    bind_subscription,
    declare_queue,
    declare_subscription,
    is_durable,
    subscription_queue,
)
from leveret.router.turns.backlog import Slices

ACK_MODES = ("auto", "client", "client-individual")
PREFETCH_MAX = 65535
TRANSACTIONS_MAX = 16  # open at a time; their memory together is bounded by this many largest messages:
TRANSACTIONS_MESSAGES = 4
DECLARED_MAX = 4096  # queues that a client is known to have declared
TAG_MAX = 20  # digits of a delivery tag


def handle(conversation: Conversation, frame: Frame) -> Callable[[], None] | None:
    """Execute a frame, or add it to its transaction, and send its receipt if it requests one.

    If the session's work is ``unfinished`` afterwards, return a function that sends the receipt when the work
    has ended. Raises StompError for an invalid frame, and the errors of the command.
    """
    command = frame.command
    handler = HANDLERS.get(command)
    if handler is None:
        raise StompError("Bad command", f'Could not interpret command "{command}"\n')
    changes = TopologyChanges(conversation.session.broker.storage)
    if command in TRANSACTIONAL and "transaction" in frame.headers:
        _gather(conversation, frame)
        receipts = None
    else:
        receipts = handler(conversation, frame)
    if conversation.session.work.unfinished is not None:
        return partial(_answer, conversation, frame, changes, receipts)
    _answer(conversation, frame, changes, receipts)
    return None


def _answer(
    conversation: Conversation, frame: Frame, changes: TopologyChanges, receipts: bytearray | None
) -> None:
    """Send the receipt of a frame when ``changes`` are on disk. If the frame has committed a transaction, the
    receipts of the transaction (``receipts``) are sent first.
    """
    if receipts is not None or changes:
        conversation.hold_replies()
    if receipts:
        conversation.write_reply(bytes(receipts))
    wanted = frame.headers.get("receipt")
    if wanted is not None and frame.command != "SEND":  # that one waits for its confirm
        conversation.send_receipt(wanted)


# -- SEND ----------------------------------------------------------------------------------------------------


def send(conversation: Conversation, frame: Frame) -> None:
    """Publish a message; the queue of a /queue/ destination is declared first, as its headers say.

    Raises StompError for an invalid destination or property, and the errors of ``Session.publish`` and of the
    declaration. STOMP 1.2, "SEND".
    """
    headers = frame.headers
    if "message-id" in headers:
        raise StompError("Invalid header", "'message-id' is not allowed on 'SEND'.\n")
    destination = _destination(frame)
    if destination.kind == "queue":
        _ensure_queue(conversation, destination.routing_key, frame)
    properties = packed = pack_properties(headers)
    reply_to = headers.get("reply-to")
    if reply_to is not None and reply_to.startswith(TEMP_QUEUE):
        properties = pack_properties({**headers, "reply-to": _reply_queue(conversation, reply_to)})
    route = pack_route(destination.exchange, destination.routing_key)
    content: Frames | None = frame.content
    if content is None or properties != packed:
        content = pack_frames(0, properties, frame.body)
    conversation.publish(Message.from_frames(route, content), headers.get("receipt"))


def make_body_buffer(frame: Frame, size: int, arrived: int) -> LargeBody | None:
    """Return the buffer for the content frames of a large message; None if it needs none after ``arrived``
    bytes.
    """
    if frame.command != "SEND" or not is_worth_it(size, arrived):
        return None
    try:
        properties = pack_properties(frame.headers)
    except StompError:
        return None  # the command will be refused
    return LargeBody(0, pack_header(0, properties, size), size, size)


def _destination(frame: Frame) -> StompDestination:
    path = frame.headers.get("destination")
    if path is None:
        raise StompError("Missing destination", f"\"{frame.command}\" must include a 'destination' header\n")
    destination = parse_destination(path)
    if destination.kind == "temp_queue":
        raise StompError(
            "Invalid destination", f"'{path}' is not a valid destination for '{frame.command}'\n"
        )
    return destination


def _ensure_queue(conversation: Conversation, name: str, frame: Frame) -> None:
    """Declare a queue, unless this client has declared it before and it still exists."""
    declared = conversation.declared
    if name not in declared or name not in conversation.session.vhost.queues:
        declare_queue(conversation.topology, name, frame)
        if len(declared) >= DECLARED_MAX:
            declared.clear()
        declared.add(name)


def _reply_queue(conversation: Conversation, path: str) -> str:
    """Return the queue for replies that this client calls /temp-queue/...; the first use also subscribes to
    it.
    """
    name = conversation.reply_queues.get(path)
    if name is None:
        parse_destination(path)
        queue = conversation.topology.declare_queue(
            "", durable=False, exclusive=True, auto_delete=True, arguments={}
        )
        name = conversation.reply_queues[path] = queue.name
        conversation.session.set_prefetch(0, shared=False)
        conversation.session.consume(name, tag_of_id(path), no_ack=True)
    return name


# -- SUBSCRIBE and UNSUBSCRIBE -------------------------------------------------------------------------------


def subscribe(conversation: Conversation, frame: Frame) -> None:
    """Consume from the destination's queue, or from a new queue that is bound to the destination.

    Raises StompError for an invalid header or an id in use, and the errors of ``Session.consume`` and of the
    declaration. STOMP 1.2, "SUBSCRIBE"; the prefetch count is RabbitMQ's, 0 (no limit) by default.
    """
    headers = frame.headers
    destination = _destination(frame)
    tag = _consumer_tag(frame)
    if tag in conversation.subscriptions:
        raise StompError(
            "Duplicated subscription identifier", f"A subscription identified by '{tag}' already exists."
        )
    mode = headers.get("ack", "auto")
    if mode not in ACK_MODES:
        raise StompError("Invalid header", f"'ack' must be one of {', '.join(ACK_MODES)}, not '{mode}'\n")
    if "x-selector" in headers and not (destination.own_queue or _is_stream(conversation, frame)):
        raise StompError(
            "Invalid header",
            "'x-selector' is a condition of what comes into a subscription's own queue, as those to /topic/ "
            f"and /exchange/ have; '{destination.path}' is a queue with all that is in it\n",
        )
    prefetch = parse_number("prefetch-count", headers.get("prefetch-count", "0"), 0, PREFETCH_MAX)
    arguments = consumer_arguments(destination, headers)
    queue, made = destination.routing_key, False
    if destination.own_queue:
        queue, made = declare_subscription(conversation.topology, destination, frame)
    elif destination.kind == "queue":
        _ensure_queue(conversation, queue, frame)
    conversation.session.set_prefetch(prefetch, shared=False)
    conversation.subscriptions[tag] = Subscription(
        id=headers.get("id"),
        destination=destination.path,
        queue=queue,
        held=deque() if mode == "client" else None,
    )

    def consume() -> Slices:
        session, topology = conversation.session, conversation.topology
        try:
            yield from session.subscriptions.consume(queue, tag, no_ack=mode == "auto", arguments=arguments)
            # After the consumer, as in RabbitMQ: if both permissions are missing, the error names this one.
            if destination.own_queue:
                yield from bind_subscription(topology, queue, destination, frame)
        except AmqpError:
            conversation.subscriptions.pop(tag, None)
            session.cancel(tag)
            if made:
                topology.undo_declaration(queue)
            raise

    conversation.session.carry_out("subscribing", consume())


def _is_stream(conversation: Conversation, frame: Frame) -> bool:
    """Return True if the destination is a stream, or will be declared as one."""
    known = conversation.session.vhost.queues.get(_destination(frame).routing_key)
    kind = frame.headers.get("x-queue-type") if known is None else known.settings.queue_type
    return kind == "stream"


def unsubscribe(conversation: Conversation, frame: Frame) -> None:
    """End a subscription; its unacknowledged messages can still be settled.

    With ``durable:true`` the queue of the durable subscription to a topic is deleted; the header
    ``x-queue-name`` or the id determines its name. As in RabbitMQ, other queues are not deleted. Raises
    StompError if there is no such subscription. STOMP 1.2, "UNSUBSCRIBE".
    """
    durable = is_durable(frame.headers)
    tag = _consumer_tag(frame)
    subscription = conversation.subscriptions.pop(tag, None)
    if subscription is None:
        named = "id" if "id" in frame.headers else "destination"
        raise StompError(
            "No subscription found",
            "UNSUBSCRIBE must refer to an existing subscription.\n"
            f"Subscription to \"{named}='{frame.headers[named]}'\" not found.\n",
        )
    conversation.session.cancel(tag)
    destination = parse_destination(subscription.destination)
    if destination.kind == "topic" and durable:
        queue = subscription_queue(destination, frame.headers)
        conversation.topology.delete_queue(queue, if_unused=False, if_empty=False)


def _consumer_tag(frame: Frame) -> str:
    """Return the consumer tag for the header ``id``, or ``destination`` as in STOMP 1.0."""
    headers = frame.headers
    name = headers.get("id")
    if name is not None:
        if name.startswith(TEMP_QUEUE):
            raise StompError("Invalid id", f"{frame.command} 'id' may not start with {TEMP_QUEUE}\n")
        return tag_of_id(name)
    if is_durable(headers):
        raise StompError("Missing Header", "Header 'id' is required for durable subscriptions")
    if "destination" not in headers:
        raise StompError(
            "Missing destination or id", f"{frame.command} must include a 'destination' or 'id' header"
        )
    return tag_of_destination(headers["destination"])


# -- ACK and NACK --------------------------------------------------------------------------------------------


def ack(conversation: Conversation, frame: Frame) -> None:
    """Settle the messages that ``_deliveries`` finds. Raises as that does. STOMP 1.2, "ACK"."""
    conversation.session.ack_each(_deliveries(conversation, frame))


def nack(conversation: Conversation, frame: Frame) -> None:
    """Requeue messages, or with RabbitMQ's header ``requeue:false`` reject them.

    Raises as ``_deliveries``. STOMP 1.2, "NACK".
    """
    requeue = parse_boolean("requeue", frame.headers.get("requeue", "true"))
    conversation.session.nack_each(_deliveries(conversation, frame), requeue=requeue)


def _deliveries(conversation: Conversation, frame: Frame) -> Iterable[int]:
    """Return the delivery tags for an ACK or NACK: in the mode ``client`` also the earlier ones of the same
    subscription (STOMP 1.2, "ACK"). RabbitMQ settles the earlier ones of all subscriptions.

    Messages of a subscription that has ended can still be settled, one by one. Raises StompError, and
    PreconditionFailed for a message that is not held.
    """
    header = "id" if conversation.version == V1_2 else "message-id"
    value = frame.headers.get(header)
    if value is None:
        raise StompError("Missing header", f'"{frame.command}" must include the "{header}" header\n')
    consumer_tag, *rest = value.rsplit(SEPARATOR, 2)
    if len(rest) != 2 or not (rest[1].isascii() and rest[1].isdigit() and len(rest[1]) <= TAG_MAX):
        raise StompError("Invalid header", f'"{frame.command}" must include a valid "{header}" header\n')
    if rest[0] != conversation.session_id:
        raise StompError("Subscription not found", f'Message with id "{value}" has no subscription')
    subscription = conversation.subscriptions.get(consumer_tag)
    tag = int(rest[1])
    if subscription is None or subscription.held is None:
        return [tag]
    if not subscription.holds(tag):
        raise unknown_tag(tag)
    return subscription.take_through(tag)


# -- transactions --------------------------------------------------------------------------------------------


def begin(conversation: Conversation, frame: Frame) -> None:
    """Begin a transaction. Raises StompError if its name is in use, or too many are open.

    STOMP 1.2, "BEGIN"; RabbitMQ has no limit.
    """
    name, transactions = _transaction_name(frame), conversation.transactions
    if name in transactions:
        raise StompError("Bad transaction", f'There is a transaction "{name}" already\n')
    if len(transactions) >= TRANSACTIONS_MAX:
        raise StompError("Transaction limit exceeded", f"At most {TRANSACTIONS_MAX} transactions at a time\n")
    transactions[name] = StompTransaction()


def commit(conversation: Conversation, frame: Frame) -> bytearray:
    """Execute all frames of a transaction together; return the RECEIPT frames for its SEND frames.

    Raises StompError if there is no transaction of that name, and the errors of its frames; after an error no
    frame has an effect. STOMP 1.2, "COMMIT".
    """
    frames = _transaction(conversation, frame).frames
    del conversation.transactions[frame.headers["transaction"]]
    receipts = bytearray()
    conversation.session.do_atomically(_handle_each(conversation, frames, receipts))
    return receipts


def _handle_each(conversation: Conversation, frames: deque[Frame], receipts: bytearray) -> Slices:
    """Handle the frames of a transaction, one in each slice; encode the receipts that SEND frames request."""
    while frames:
        frame = frames.popleft()
        HANDLERS[frame.command](conversation, frame)
        if frame.command == "SEND" and "receipt" in frame.headers:
            receipts += conversation.receipt_frame(frame.headers["receipt"])
        yield


def abort(conversation: Conversation, frame: Frame) -> None:
    """Drop a transaction. Raises StompError if there is none of that name. STOMP 1.2, "ABORT"."""
    forgotten = _transaction(conversation, frame)
    del conversation.transactions[frame.headers["transaction"]]
    conversation.forget(forgotten)


def _transaction_name(frame: Frame) -> str:
    name = frame.headers.get("transaction")
    if name is None:
        raise StompError("Missing transaction", f"\"{frame.command}\" must include a 'transaction' header\n")
    return name


def _transaction(conversation: Conversation, frame: Frame) -> StompTransaction:
    """Return the open transaction that the frame names. Raises StompError."""
    name = _transaction_name(frame)
    transaction = conversation.transactions.get(name)
    if transaction is None:
        raise StompError("Bad transaction", f'Invalid transaction identifier: "{name}"\n')
    return transaction


def _gather(conversation: Conversation, frame: Frame) -> None:
    """Add a frame to its transaction."""
    _transaction(conversation, frame).add(frame)
    most = TRANSACTIONS_MESSAGES * conversation.session.broker.settings.amqp.max_message_size
    if sum(each.size for each in conversation.transactions.values()) > most:
        raise StompError(
            "Transaction too large",
            f"All open transactions of a connection may take up {most} bytes together: commit smaller ones\n",
        )


HANDLERS: dict[str, Callable[[Conversation, Frame], bytearray | None]] = {
    "SEND": send,
    "SUBSCRIBE": subscribe,
    "UNSUBSCRIBE": unsubscribe,
    "ACK": ack,
    "NACK": nack,
    "BEGIN": begin,
    "COMMIT": commit,
    "ABORT": abort,
}
TRANSACTIONAL = frozenset(("SEND", "ACK", "NACK"))
