"""Comparison of a repeated declaration with the existing object, and RabbitMQ's texts for a difference.

Responsible for comparing properties and arguments of any declared object. Not for the choice of the arguments
that count (see ``exchange.equivalence`` and ``queue.equivalence``).

Source: RabbitMQ, "Queues" (property equivalence). The texts name AMQP types; decoding does not keep the width
of every integer, so ``signedint`` may stand where RabbitMQ says ``byte`` or ``short``.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from leveret.protocol.amqp.table import Long
from leveret.protocol.errors import PreconditionFailed
from leveret.router.values.field_values import canonical, term, type_name


def printed(value: Any) -> str:
    """Return a field value as these texts show it: like an Erlang term, except that a string is unquoted."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value if isinstance(value, str) else term(value)


def check_properties(what: str, current: Mapping[str, Any], received: Mapping[str, Any]) -> None:
    """Compare properties that always have a value (type, durable, ...), in the order of ``current``.

    ``what`` is like ``queue 'q' in vhost '/'``. Raises PreconditionFailed for the first difference.
    """
    for name, value in current.items():
        if value != received[name]:
            raise _inequivalent(name, what, f"received '{printed(received[name])}'", f"'{printed(value)}'")


def check_arguments(
    what: str, current: Mapping[str, Any], received: Mapping[str, Any], names: Iterable[str]
) -> None:
    """Compare arguments that may be absent, in the order of ``names``; other arguments do not count.

    Raises PreconditionFailed for the first difference.
    """
    for name in names:
        if name in current and name in received:
            if canonical(_narrow(current[name])) != canonical(_narrow(received[name])):
                raise _inequivalent(
                    name, what, f"received '{printed(received[name])}'", f"'{printed(current[name])}'"
                )
        elif name in received:
            raise _inequivalent(name, what, f"received {_described(received[name])}", "none")
        elif name in current:
            raise _inequivalent(name, what, "received none", _described(current[name]))


def _narrow(value: Any) -> Any:
    """Return an integer without its width: integers of any width are equal."""
    return int(value) if isinstance(value, Long) else value


def _described(value: Any) -> str:
    return f"the value '{printed(value)}' of type '{type_name(value)}'"


def _inequivalent(name: str, what: str, received: str, current: str) -> PreconditionFailed:
    return PreconditionFailed(f"inequivalent arg '{name}' for {what}: {received} but current is {current}")
