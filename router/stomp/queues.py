"""What stands behind a destination: queues that are declared and bound because somebody sends or subscribes.

Owns which queue a destination means and what the headers say of it. Whether the user may declare and bind it
is the topology's.

Source: RabbitMQ, "STOMP Plugin", "Destinations", "Queue Properties".
"""

from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from secrets import token_urlsafe
from typing import Any

from protocol.stomp.frames import Frame
from protocol.stomp.values import parse_boolean, parse_number
from router.queue.arguments import ARGUMENTS
from router.session.topology import Topology
from router.stomp.consumers import CONSUMER_NAME, SINGLE
from router.stomp.destinations import Destination

DURABLE = ("durable", "persistent")  # the latter is an older name of the former
# Arguments of queues that are no headers of a frame, and why.
LEFT_OUT: dict[str, dict[str, str]] = {
    "SUBSCRIBE": {},
    "SEND": {
        "x-deduplication-header": "in a SEND it is the value that the message is known by",
    },
}


def declare_queue(topology: Topology, name: str, frame: Frame) -> None:
    """Declare the queue of a destination /queue/NAME as the headers say: durable by default, and if it is
    not, the connection's own, which goes with its last consumer.
    """
    headers = frame.headers
    names = ("durable",) if frame.command == "SEND" else DURABLE  # of SEND, the message may be persistent
    durable = _last_of(headers, names, default=True)
    topology.declare_queue(
        name,
        durable=durable,
        exclusive=_truth(headers, "exclusive", default=not durable),
        auto_delete=_truth(headers, "auto-delete", default=not durable),
        arguments=queue_arguments(frame),
    )


def declare_subscription(topology: Topology, destination: Destination, frame: Frame) -> tuple[str, bool]:
    """Declare a subscription's own queue; return its name, and whether it was made now.

    That of a durable subscription is found again by the same id. It goes with its last consumer, unless
    ``auto-delete`` is false.
    """
    headers = frame.headers
    if destination.kind == "topic":
        topology.check_topic(destination.exchange, destination.routing_key)
    wanted = subscription_queue(destination, headers)
    made = not topology.has_queue(wanted)
    queue = topology.declare_queue(
        wanted,
        durable=_last_of(headers, DURABLE, default=False),
        exclusive=_truth(headers, "exclusive", default=False),
        auto_delete=_truth(headers, "auto-delete", default=True),
        arguments=queue_arguments(frame),
    )
    return queue.name, made


def bind_subscription(topology: Topology, queue: str, destination: Destination, frame: Frame) -> None:
    """Bind a subscription's own queue to the destination's exchange, by its selector if it has one."""
    selector = frame.headers.get("x-selector")
    arguments = {} if selector is None else {"x-selector": selector}
    topology.bind_queue(queue, destination.exchange, destination.routing_key, arguments)


def is_durable(headers: Mapping[str, str]) -> bool:
    """Whether a subscription outlives its connection."""
    values = [_truth(headers, name, default=False) for name in DURABLE]
    return any(values)


def subscription_queue(destination: Destination, headers: Mapping[str, str]) -> str:
    """The name of a subscription's own queue, by the headers of SUBSCRIBE or UNSUBSCRIBE."""
    if headers.get("x-queue-name"):
        return headers["x-queue-name"]
    if not is_durable(headers):
        return f"stomp-subscription-{token_urlsafe(16)}"
    key = f"{destination.path}\n{headers['id']}".encode("utf-8", "surrogateescape")
    return f"stomp-subscription-{urlsafe_b64encode(sha256(key).digest()[:16]).decode().rstrip('=')}"


def _truth(headers: Mapping[str, str], name: str, *, default: bool) -> bool:
    """A header that is true or false. Raises StompError for a value that is neither."""
    return parse_boolean(name, headers[name]) if name in headers else default


def _last_of(headers: Mapping[str, str], names: Sequence[str], *, default: bool) -> bool:
    """The value of whichever of these headers comes last in the frame, as in RabbitMQ."""
    last = next((name for name in reversed(list(headers)) if name in names), None)
    return default if last is None else parse_boolean(last, headers[last])


def queue_arguments(frame: Frame) -> dict[str, Any]:
    """The arguments of a queue: every one that AMQP takes, from the header of its name.

    Raises StompError for a number that is none, and for what is neither true nor false.
    """
    headers, left_out = frame.headers, LEFT_OUT[frame.command]
    arguments: dict[str, Any] = {}
    for name, (kind, _) in ARGUMENTS.items():
        if name in headers and name not in left_out:
            arguments[name] = _PARSERS[kind](name, headers[name])
    if CONSUMER_NAME in headers:  # the header is about the consumer of that name then
        arguments.pop(SINGLE, None)
    return arguments


_PARSERS: dict[type, Callable[[str, str], Any]] = {
    str: lambda _, text: text.strip(" "),
    int: parse_number,
    bool: parse_boolean,
}
