"""Comparison of a repeated queue.declare with the queue that exists.

Responsible for the properties and arguments that count, and for exclusive queues. The module
``values.equivalence`` compares properties and arguments of queues and exchanges alike.

Source: RabbitMQ, "Queues" (property equivalence; exclusive queues).
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from leveret.protocol.errors import ResourceLocked
from leveret.router.arguments.queue import QueueArguments
from leveret.router.arguments.table import COMPARED
from leveret.router.values.equivalence import check_arguments, check_properties


class Declared(Protocol):
    """The queue that a repeated declaration is compared with."""

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
    """Raise PreconditionFailed, or ResourceLocked for ``exclusive``, if a declaration differs from ``queue``.

    Only arguments that the queue's type has are compared. A value need not be valid for a new queue.
    """
    what = f"queue '{queue.name}' in vhost '{queue.vhost}'"
    if exclusive != (queue.owner is not None):
        raise locked(what)
    current = {"durable": queue.durable, "auto_delete": queue.auto_delete}
    check_properties(what, current, {"durable": durable, "auto_delete": auto_delete})
    names: Sequence[str] = COMPARED[queue.settings.queue_type]
    if queue.settings.queue_type == arguments.get("x-queue-type", "classic"):
        names = [name for name in names if name != "x-queue-type"]  # "classic" equals no argument
    check_arguments(what, queue.arguments, arguments, names)


def locked(what: str) -> ResourceLocked:
    """Return the error for a queue of another connection; ``what`` is like ``queue 'q' in vhost '/'``."""
    return ResourceLocked(
        f"cannot obtain exclusive access to locked {what}. It could be originally declared on another "
        "connection or the exclusive property value does not match that of the original declaration."
    )
