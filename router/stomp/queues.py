"""What stands behind a destination: queues that are declared and bound because somebody sends or subscribes.

Owns which queue a destination means and what the headers say of it. Whether the user may declare and bind it
is the topology's.

Source: RabbitMQ, "STOMP Plugin", "Destinations", "Queue Properties".
"""

from base64 import urlsafe_b64encode
from collections.abc import Mapping
from hashlib import sha256
from secrets import token_urlsafe
from typing import Any

from router.session.topology import Topology
from router.stomp.destinations import Destination
from router.stomp.properties import number

NUMBERS = (
    "x-expires",
    "x-message-ttl",
    "x-max-length",
    "x-max-length-bytes",
    "x-max-priority",
    "x-delivery-limit",
    "x-consumer-timeout",
    "x-quorum-initial-group-size",
    "x-stream-max-segment-size-bytes",
    "x-stream-filter-size-bytes",
)
TEXTS = (
    "x-dead-letter-exchange",
    "x-dead-letter-routing-key",
    "x-dead-letter-strategy",
    "x-overflow",
    "x-queue-type",
    "x-queue-mode",
    "x-max-age",
)
BOOLEANS = ("x-single-active-consumer",)


def declare_queue(topology: Topology, name: str, headers: Mapping[str, str]) -> None:
    """Declare the queue of a destination /queue/NAME as the headers say: durable by default, and if it is
    not, the connection's own, which goes with its last consumer.
    """
    durable = _is(headers, "durable", default=True)
    topology.declare_queue(
        name,
        durable=durable,
        exclusive=_is(headers, "exclusive", default=not durable),
        auto_delete=_is(headers, "auto-delete", default=not durable),
        arguments=queue_arguments(headers),
    )


def declare_subscription(topology: Topology, destination: Destination, headers: Mapping[str, str]) -> str:
    """Declare a subscription's own queue and bind it to the destination's exchange; return its name.

    It goes with the subscription, unless that is durable: then the same id finds it again.
    """
    topology.find_exchange(destination.exchange)
    durable = is_durable(headers)
    name = topology.declare_queue(
        headers.get("x-queue-name") or _subscription_name(destination, headers, durable),
        durable=durable,
        exclusive=_is(headers, "exclusive", default=not durable),
        auto_delete=_is(headers, "auto-delete", default=not durable),
        arguments=queue_arguments(headers),
    ).name
    selector = headers.get("x-selector")
    arguments = {} if selector is None else {"x-selector": selector}
    topology.bind_queue(name, destination.exchange, destination.routing_key, arguments)
    return name


def is_durable(headers: Mapping[str, str]) -> bool:
    """Whether a subscription outlives its connection; ``persistent`` is an older name for it."""
    return headers.get("durable") == "true" or headers.get("persistent") == "true"


def _subscription_name(destination: Destination, headers: Mapping[str, str], durable: bool) -> str:
    if not durable:
        return f"stomp-subscription-{token_urlsafe(16)}"
    key = f"{destination.path}\n{headers['id']}".encode("utf-8", "surrogateescape")
    return f"stomp-subscription-{urlsafe_b64encode(sha256(key).digest()[:16]).decode().rstrip('=')}"


def _is(headers: Mapping[str, str], name: str, *, default: bool) -> bool:
    """A header that is true or false; anything else says nothing."""
    return {"true": True, "false": False}.get(headers.get(name, ""), default)


def queue_arguments(headers: Mapping[str, str]) -> dict[str, Any]:
    """The arguments of a queue. Raises StompError for a number that is none."""
    arguments: dict[str, Any] = {name: headers[name] for name in TEXTS if name in headers}
    for name in NUMBERS:
        if name in headers:
            arguments[name] = number(name, headers[name])
    for name in BOOLEANS:
        if name in headers:
            arguments[name] = headers[name] == "true"
    return arguments
