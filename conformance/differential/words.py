"""Short words for what scenarios send all the time."""

from typing import Any

from conformance.differential.play import publish
from leveret.protocol.amqp import methods as m

__all__ = ["bind", "e2e", "exchange", "gets", "publish", "queue", "texts", "unbind"]


def dashed(arguments: dict[str, Any]) -> dict[str, Any]:
    """Argument names with dashes, as they are on the wire."""
    return {name.replace("_", "-"): value for name, value in arguments.items()}


def queue(
    name: str = "q",
    *,
    passive: bool = False,
    durable: bool = False,
    exclusive: bool = False,
    auto_delete: bool = False,
    nowait: bool = False,
    **arguments: Any,
) -> m.QueueDeclare:
    """A queue.declare; what is left over are its arguments."""
    return m.QueueDeclare(name, passive, durable, exclusive, auto_delete, nowait, dashed(arguments))


def exchange(
    name: str = "x",
    kind: str = "direct",
    *,
    passive: bool = False,
    durable: bool = False,
    auto_delete: bool = False,
    internal: bool = False,
    nowait: bool = False,
    **arguments: Any,
) -> m.ExchangeDeclare:
    """An exchange.declare; what is left over are its arguments."""
    return m.ExchangeDeclare(name, kind, passive, durable, auto_delete, internal, nowait, dashed(arguments))


def bind(name: str = "q", to: str = "x", key: str = "", **arguments: Any) -> m.QueueBind:
    """A queue.bind."""
    return m.QueueBind(name, to, key, False, dashed(arguments))


def unbind(name: str = "q", to: str = "x", key: str = "", **arguments: Any) -> m.QueueUnbind:
    """A queue.unbind."""
    return m.QueueUnbind(name, to, key, dashed(arguments))


def e2e(destination: str, source: str, key: str = "", **arguments: Any) -> m.ExchangeBind:
    """An exchange.bind."""
    return m.ExchangeBind(destination, source, key, False, dashed(arguments))


def gets(*names: str, count: int = 1) -> list[m.BasicGet]:
    """Take ``count`` messages from each of these queues, settled at once."""
    return [m.BasicGet(name, True) for name in names for _ in range(count)]


def texts(key: str, *bodies: Any, **options: Any) -> list[Any]:
    """Publishes to a queue with these bodies."""
    return [publish(key, str(body), **options) for body in bodies]
