"""Dead-lettering: the message that a queue could not keep, told what happened to it and sent on.

Owns the headers (x-death and its kin), the new route and the detection of cycles. When a message is
dead-lettered is the queue's business; publishing is the broker's, from a work queue, so that a chain of dead
letters never recurses.

Source: RabbitMQ, "Dead Letter Exchanges".
"""

from typing import Any

from protocol.amqp.message import Message
from protocol.amqp.properties import splice_properties
from protocol.amqp.table import REMOVE, Long, Timestamp
from router.queue.host import Reason
from router.routing import copies

Death = dict[str, Any]

FIELDS = {
    "count": int,
    "reason": str,
    "queue": str,
    "time": Timestamp,
    "exchange": str,
    "routing-keys": list,
    "original-expiration": str,
}
NEEDED = {"count", "reason", "queue"}
COUNT_MAX = 2**63 - 1


def make_letter(
    message: Message, queue: str, reason: Reason, *, exchange: str, own_key: str | None, wall: int
) -> Message:
    """The message as it goes from ``queue`` to the exchange; ``wall`` in seconds since the epoch.

    The per-message TTL is taken off, so that it cannot expire again where it goes; what it was is kept in
    x-death. With a dead-letter routing key of the queue's own CC and BCC have done their work and go too.
    """
    headers = message.headers
    keys = [message.routing_key, *copies(headers, "CC")]
    changed: dict[str, Any] = {"x-death": _deaths(message, keys, queue, reason, wall)}
    if own_key is not None:
        changed["CC"] = REMOVE
    if "x-death" not in headers:
        changed["x-first-death-reason"] = reason
        changed["x-first-death-queue"] = queue
        changed["x-first-death-exchange"] = message.exchange
    changed["x-last-death-reason"] = reason
    changed["x-last-death-queue"] = queue
    changed["x-last-death-exchange"] = message.exchange
    properties = splice_properties(message.raw_properties, headers=changed, expiration=REMOVE)
    if own_key is not None:
        return message.rewritten(exchange, own_key, properties)
    return message.rewritten(exchange, message.routing_key, properties, message.blind_keys)


def _deaths(message: Message, keys: list[str], queue: str, reason: Reason, wall: int) -> list[Death]:
    """The x-death list with this death counted, the most recent first."""
    deaths = known_deaths(message)
    for index, death in enumerate(deaths):
        if death["queue"] == queue and death["reason"] == reason:
            again = {**death, "count": Long(min(death["count"] + 1, COUNT_MAX))}
            return [again, *deaths[:index], *deaths[index + 1 :]]
    first: Death = {
        "count": Long(1),
        "reason": reason,
        "queue": queue,
        "time": Timestamp(wall),
        "exchange": message.exchange,
        "routing-keys": keys,
    }
    expiration = message.properties.expiration
    if expiration is not None:
        first["original-expiration"] = expiration
    return [first, *deaths]


def known_deaths(message: Message) -> list[Death]:
    """What x-death tells so far. Publishers may have written it: what is not of its form is left out."""
    deaths = message.headers.get("x-death")
    if not isinstance(deaths, list):
        return []
    known = [_known(death) for death in deaths if isinstance(death, dict)]
    return [death for death in known if death.keys() >= NEEDED]


def _known(death: Death) -> Death:
    """The fields of a death that have the right type; counts in RabbitMQ's wire type, 64 bits."""
    known: Death = {name: death[name] for name, kind in FIELDS.items() if isinstance(death.get(name), kind)}
    if "count" in known:
        known["count"] = Long(known["count"])
    if "routing-keys" in known:
        known["routing-keys"] = [key for key in known["routing-keys"] if isinstance(key, str)]
    return known


def is_cycle(message: Message, queue_name: str) -> bool:
    """Whether a dead letter comes back to a queue it left before without anybody having rejected it in
    between.
    """
    deaths = known_deaths(message)
    for index, death in enumerate(deaths):
        if death["queue"] == queue_name:
            return all(other["reason"] != "rejected" for other in deaths[: index + 1])
    return False
