"""The headers and the route of dead letters: x-death and related headers, cycles, the number of copies.

Responsible for the message that goes to a dead-letter exchange, the detection of cycles, the bound on the
copies that dead-lettering makes of one message, and the bound on its x-death. Queues decide when a message is
dead-lettered, and ``dead_letters`` publishes it.

Source: RabbitMQ, "Dead Letter Exchanges".
"""

from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple

from leveret.protocol.amqp.message import Message
from leveret.protocol.amqp.properties import splice_properties
from leveret.protocol.amqp.table import REMOVE, Excerpt, Long, Remove, Timestamp, Value
from leveret.router.exchange.routing import copies
from leveret.router.queue.host import Reason
from leveret.router.values.field_values import canonical, is_integer

Death = dict[str, Any]

COUNT_MAX = 2**63 - 1
# Entries of x-death that are read and kept, the most recent ones. Dead-lettering makes one for each queue and
# reason; a publisher can write 26,000 in a header frame. Rewriting those took 70 ms, 256 take 3 ms.
DEATHS_MAX = 256
# A publisher can also write 60,000 values in one entry. Beyond 8 KiB, the entries keep only the fields that
# the broker writes, without long lists of routing keys.
DEATHS = Excerpt(
    1 << 13,
    frozenset((b"count", b"reason", b"queue", b"time", b"exchange", b"routing-keys", b"original-expiration")),
)
COPIES = "x-death-copies"  # header: number of copies of the original message on this path
COPIES_MAX = 1000  # copies of one message; the first fan-out of a message has no limit, as for a publish
FEW_COPIES = 16  # most copies of a message that is dead-lettered for the first time without the header


def make_letter(
    message: Message, queue: str, reason: Reason, *, exchange: str, own_key: str | None, wall: int
) -> Message:
    """Return the message that goes from ``queue`` to the dead-letter exchange; ``wall`` in seconds since the
    epoch.

    The per-message TTL is removed, so that the message cannot expire again in another queue; x-death keeps
    its value. If the queue has a dead-letter routing key, CC and BCC are removed too.
    """
    keys = [message.routing_key, *copies(message.some_headers("CC"), "CC")]
    items = message.header_items("x-death", DEATHS_MAX, DEATHS)
    changed: dict[str, Any] = {"x-death": _deaths(message, items or [], keys, queue, reason, wall)}
    if own_key is not None:
        changed["CC"] = REMOVE
    if items is None:
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


def _deaths(  # noqa: PLR0917
    message: Message, items: list[Value], keys: list[str], queue: str, reason: Reason, wall: int
) -> list[Death]:
    """Return the x-death list including this death, the most recent first; ``items`` are its former ones."""
    deaths = _grouped(_tables(items))
    for index, death in enumerate(deaths):
        if _key(death) == (queue, reason):
            count = min(death["count"] + 1, COUNT_MAX) if is_integer(death.get("count")) else 1
            return [{**death, "count": Long(count)}, *deaths[:index], *deaths[index + 1 :]]
    first: Death = {
        "count": Long(1),
        "reason": reason,
        "queue": queue,
        "time": Timestamp(wall),
        "exchange": message.exchange,
        "routing-keys": keys,
    }
    expiration = message.traits.expiration
    if expiration is not None:
        first["original-expiration"] = expiration
    return [first, *deaths[: DEATHS_MAX - 1]]


def deaths_of(message: Message) -> list[Death]:
    """Return the first ``DEATHS_MAX`` entries of x-death, without entries that are not tables.

    A publisher may have written the header, so any field may be missing or of another type.
    """
    return _tables(message.header_items("x-death", DEATHS_MAX, DEATHS) or [])


def _tables(items: list[Value]) -> list[Death]:
    return [_counted(item) for item in items if isinstance(item, dict)]


def _counted(death: Death) -> Death:
    """Return an entry with its count as ``Long``: RabbitMQ's wire type, which decoding does not keep."""
    return {**death, "count": Long(death["count"])} if is_integer(death.get("count")) else death


def _key(death: Death) -> tuple[object, object]:
    """Return the key that identifies an entry: its queue and its reason, of whatever type."""
    return death.get("queue"), death.get("reason")


def _grouped(deaths: list[Death]) -> list[Death]:
    """Merge entries of the same queue and reason into the first of them, as RabbitMQ does.

    If the first has no count, it gets the number of merged entries. A single entry is left unchanged.
    """
    if len(deaths) < 2:
        return deaths
    groups: dict[Hashable, list[Death]] = {}
    for death in deaths:
        groups.setdefault(canonical(list(_key(death))), []).append(death)
    return [
        group[0] if "count" in group[0] else {**group[0], "count": Long(len(group))}
        for group in groups.values()
    ]


class LastDeath(NamedTuple):
    """The queue that dead-lettered a message last, and the exchange and keys that had routed it there."""

    queue: str
    exchange: str
    routing_keys: list[str]


def last_death(message: Message) -> LastDeath | None:
    """Return the first entry of x-death; None without one, or if it does not name a queue."""
    for death in deaths_of(message)[:1]:
        queue, exchange, keys = death.get("queue"), death.get("exchange"), death.get("routing-keys")
        if isinstance(queue, str):
            return LastDeath(
                queue,
                exchange if isinstance(exchange, str) else "",
                [key for key in keys if isinstance(key, str)] if isinstance(keys, list) else [],
            )
    return None


def is_cycle(deaths: Sequence[Death], queue_name: str) -> bool:
    """Return True if a dead letter with these deaths would return to a queue that it has left before, and no
    consumer has rejected it since.
    """
    for index, death in enumerate(deaths):
        if death.get("queue") == queue_name:
            return all(other.get("reason") != "rejected" for other in deaths[: index + 1])
    return False


def copies_so_far(message: Message, reason: Reason) -> int:
    """Return the number of copies of the original message on the path of this one; 1 if it did not multiply.

    A rejection by a consumer restarts the count at 1, as in cycle detection: the number of copies then grows
    no faster than consumers reject messages.
    """
    copies = message.header(COPIES)
    return copies if reason != "rejected" and is_integer(copies) and copies > 1 else 1


def count_copies(letter: Message, message: Message, reason: Reason, targets: int) -> Message | None:
    """Return the dead letter with its number of copies in a header, multiplied by the number of ``targets``.

    Returns None if the number exceeds ``COPIES_MAX`` and the message has multiplied before. Without this
    limit one message in n queues that all dead-letter into each other would have about n! copies.
    """
    before = copies_so_far(message, reason)
    copies = before * targets
    if targets > 1 and before > 1 and copies > COPIES_MAX:
        return None
    again = reason != "rejected" and message.header_items("x-death", 0, DEATHS) is not None
    change: Long | Remove
    if targets > FEW_COPIES or (targets > 1 and again):
        change = Long(copies)
    elif reason == "rejected" and COPIES in message.some_headers(COPIES):
        change = REMOVE
    else:
        return letter
    properties = splice_properties(letter.raw_properties, headers={COPIES: change})
    return letter.rewritten(letter.exchange, letter.routing_key, properties, letter.blind_keys)
