"""Queues of STOMP destinations, which SEND and SUBSCRIBE declare and bind.

Responsible for the name of the queue, and for its properties and arguments from the headers. Permissions are
checked by ``Topology``.

Source: RabbitMQ, "STOMP Plugin", "Destinations", "Queue Properties".
"""

from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from secrets import token_urlsafe
from typing import Any

from leveret.protocol.stomp.frames import Frame
from leveret.protocol.stomp.values import parse_boolean, parse_number
from leveret.router.arguments.table import QUEUE_ARGUMENTS
from leveret.router.session.topology import Topology
from leveret.router.stomp.consumers import CONSUMER_NAME, SINGLE
from leveret.router.stomp.destinations import StompDestination
from leveret.router.turns.backlog import Slicing

DURABLE = ("durable", "persistent")  # the second is RabbitMQ's older name of the first


def declare_queue(topology: Topology, name: str, frame: Frame) -> None:
    """Declare the queue of a destination /queue/NAME with the properties in the headers.

    It is durable by default; otherwise it is by default exclusive and auto-delete.
    """
    headers = frame.headers
    names = ("durable",) if frame.command == "SEND" else DURABLE  # a SEND's persistent is about the message
    durable = _last_of(headers, names, default=True)
    topology.declare_queue(
        name,
        durable=durable,
        exclusive=_boolean(headers, "exclusive", default=not durable),
        auto_delete=_boolean(headers, "auto-delete", default=not durable),
        arguments=queue_arguments(frame),
    )


def declare_subscription(topology: Topology, destination: StompDestination, frame: Frame) -> tuple[str, bool]:
    """Declare a subscription's own queue; return its name, and True if it is new.

    The name of a durable subscription's queue follows from the subscription's id. The queue is auto-delete
    unless the header ``auto-delete`` is false.
    """
    headers = frame.headers
    if destination.kind == "topic":
        topology.check_topic(destination.exchange, destination.routing_key)
    wanted = subscription_queue(destination, headers)
    made = not topology.has_queue(wanted)
    queue = topology.declare_queue(
        wanted,
        durable=_last_of(headers, DURABLE, default=False),
        exclusive=_boolean(headers, "exclusive", default=False),
        auto_delete=_boolean(headers, "auto-delete", default=True),
        arguments=queue_arguments(frame),
    )
    return queue.name, made


def bind_subscription(
    topology: Topology, queue: str, destination: StompDestination, frame: Frame
) -> Slicing[None]:
    """Bind a subscription's own queue to the destination's exchange, by its selector if it has one.

    Works in slices, since a selector may take long to compile.
    """
    selector = frame.headers.get("x-selector")
    arguments = {} if selector is None else {"x-selector": selector}
    yield from topology.bind_queue_in_slices(queue, destination.exchange, destination.routing_key, arguments)


def is_durable(headers: Mapping[str, str]) -> bool:
    """Return True for a durable subscription, which outlives its connection."""
    values = [_boolean(headers, name, default=False) for name in DURABLE]
    return any(values)


def subscription_queue(destination: StompDestination, headers: Mapping[str, str]) -> str:
    """Return the name of a subscription's own queue for the headers of SUBSCRIBE or UNSUBSCRIBE."""
    if headers.get("x-queue-name"):
        return headers["x-queue-name"]
    if not is_durable(headers):
        return f"stomp-subscription-{token_urlsafe(16)}"
    key = f"{destination.path}\n{headers['id']}".encode("utf-8", "surrogateescape")
    return f"stomp-subscription-{urlsafe_b64encode(sha256(key).digest()[:16]).decode().rstrip('=')}"


def _boolean(headers: Mapping[str, str], name: str, *, default: bool) -> bool:
    """Return a boolean header. Raises StompError for another value."""
    return parse_boolean(name, headers[name]) if name in headers else default


def _last_of(headers: Mapping[str, str], names: Sequence[str], *, default: bool) -> bool:
    """Return the boolean value of the last of these headers in the frame, as RabbitMQ does."""
    last = next((name for name in reversed(list(headers)) if name in names), None)
    return default if last is None else parse_boolean(last, headers[last])


def queue_arguments(frame: Frame) -> dict[str, Any]:
    """Return the arguments of a queue: each argument of AMQP from the header of the same name.

    Raises StompError for an invalid number or boolean.
    """
    headers, is_send = frame.headers, frame.command == "SEND"
    arguments: dict[str, Any] = {}
    for name, row in QUEUE_ARGUMENTS.items():
        if name in headers and not (is_send and row.not_in_send):
            arguments[name] = _PARSERS[row.kind](name, headers[name])
    if CONSUMER_NAME in headers:  # with a name, the header is about the consumer
        arguments.pop(SINGLE, None)
    return arguments


_PARSERS: dict[type, Callable[[str, str], Any]] = {
    str: lambda _, text: text.strip(" "),
    int: parse_number,
    bool: parse_boolean,
}
