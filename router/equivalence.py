"""Whether a second declaration asks for what is there already, and what RabbitMQ says when it does not.

Owns the comparison and its texts for any declared thing, and the exchange's list of what is compared. What
is compared for a queue depends on its type and stands with the queues.

Source: RabbitMQ, "Queues" (property equivalence). The texts name AMQP types; decoding does not keep
the width of every integer, so ``signedint`` may stand where RabbitMQ says ``byte`` or ``short``.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from leveret.protocol.amqp.table import Long
from leveret.protocol.errors import PreconditionFailed
from leveret.router import deduplication
from leveret.router.exchange.base import Exchange
from leveret.router.values.field_values import canonical, term, type_name


def printed(value: Any) -> str:
    """A field value as these texts show it: like an Erlang term, but a string as it is."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value if isinstance(value, str) else term(value)


def check_properties(what: str, current: Mapping[str, Any], received: Mapping[str, Any]) -> None:
    """Compare what always has a value (type, durable, ...), in the order of ``current``.

    ``what`` is like ``queue 'q' in vhost '/'``. Raises PreconditionFailed for the first difference.
    """
    for name, value in current.items():
        if value != received[name]:
            raise _inequivalent(name, what, f"received '{printed(received[name])}'", f"'{printed(value)}'")


def check_arguments(
    what: str, current: Mapping[str, Any], received: Mapping[str, Any], names: Iterable[str]
) -> None:
    """Compare what may be absent, in the order of ``names``; arguments not named there do not count.

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
    """Integers are the same whatever their width."""
    return int(value) if isinstance(value, Long) else value


def _described(value: Any) -> str:
    return f"the value '{printed(value)}' of type '{type_name(value)}'"


def _inequivalent(name: str, what: str, received: str, current: str) -> PreconditionFailed:
    return PreconditionFailed(f"inequivalent arg '{name}' for {what}: {received} but current is {current}")


def check_exchange_equivalence(
    exchange: Exchange,
    vhost: str,
    *,
    kind: str,
    durable: bool,
    auto_delete: bool,
    internal: bool,
    arguments: Mapping[str, Any],
) -> None:
    """Raise PreconditionFailed unless a declaration with these properties describes ``exchange``.

    As in RabbitMQ, of its arguments ``alternate-exchange`` counts; those of the window, which are leveret's
    own, count as they do for queues.
    """
    what = f"exchange '{exchange.name}' in vhost '{vhost}'"
    current = {
        "type": exchange.type,
        "durable": exchange.durable,
        "auto_delete": exchange.auto_delete,
        "internal": exchange.internal,
    }
    received = {"type": kind, "durable": durable, "auto_delete": auto_delete, "internal": internal}
    check_properties(what, current, received)
    check_arguments(what, exchange.arguments, arguments, ("alternate-exchange", *deduplication.ARGUMENTS))
