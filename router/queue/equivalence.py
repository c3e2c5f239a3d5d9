"""Whether a second declaration of a queue describes the one that is there.

Owns which properties and arguments count, and the refusals; how they are compared and told is the same for
everything that is declared.

Source: RabbitMQ, "Queues" (property equivalence; exclusive queues).
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from leveret.protocol.errors import ResourceLocked
from leveret.router.arguments.queue import QueueArguments
from leveret.router.arguments.table import COMPARED
from leveret.router.values.equivalence import check_arguments, check_properties


class Declared(Protocol):
    """What a second declaration is compared with."""

    @property
    def name(self) -> str: ...
    @property
    def vhost(self) -> str: ...
    @property
    def durable(self) -> bool: ...
    @property
    def auto_delete(self) -> bool: ...
    @property
    def owner(self) -> object | None: ...
    @property
    def arguments(self) -> Mapping[str, Any]: ...
    @property
    def settings(self) -> QueueArguments: ...


def check_queue_equivalence(
    queue: Declared, *, durable: bool, exclusive: bool, auto_delete: bool, arguments: Mapping[str, Any]
) -> None:
    """Raise PreconditionFailed, or ResourceLocked for ``exclusive``, unless this describes ``queue``.

    Only the arguments that the queue's type knows count, even with values that a new queue could not have.
    """
    what = f"queue '{queue.name}' in vhost '{queue.vhost}'"
    if exclusive != (queue.owner is not None):
        raise locked(what)
    current = {"durable": queue.durable, "auto_delete": queue.auto_delete}
    check_properties(what, current, {"durable": durable, "auto_delete": auto_delete})
    names: Sequence[str] = COMPARED[queue.settings.queue_type]
    if queue.settings.queue_type == arguments.get("x-queue-type", "classic"):
        names = [name for name in names if name != "x-queue-type"]  # "classic" says no more than nothing
    check_arguments(what, queue.arguments, arguments, names)


def locked(what: str) -> ResourceLocked:
    """The error for a queue of another connection; ``what`` is like ``queue 'q' in vhost '/'``."""
    return ResourceLocked(
        f"cannot obtain exclusive access to locked {what}. It could be originally declared on another "
        "connection or the exclusive property value does not match that of the original declaration."
    )
