"""Declaring, binding and deleting on behalf of a user: names, permissions, then the virtual host.

Owns which permission each operation needs and which names are reserved; what the operation does is the virtual host's.

Source: RabbitMQ, "Access Control", the table of operations and permissions.
"""

from collections.abc import Mapping
from typing import Any

from protocol.errors import AccessRefused, CommandInvalid, PreconditionFailed
from router.auth import Kind, Operation, User
from router.exchange import EXCHANGE_TYPES
from router.exchange.base import Exchange
from router.queue.queue import Queue
from router.vhost import VHost

Arguments = Mapping[str, Any]


class Topology:
    """What ``user`` may change in ``vhost``; ``owner`` is the connection, to which exclusive queues belong."""

    def __init__(self, vhost: VHost, user: User, owner: object) -> None:
        self._vhost = vhost
        self._user = user
        self._owner = owner

    def _check(self, operation: Operation, kind: Kind, name: str) -> None:
        self._user.check(self._vhost.name, operation, kind, name)

    # -- exchanges --------------------------------------------------------------------------------------------

    def find_exchange(self, name: str) -> Exchange:
        """A passive declare."""
        return self._vhost.exchange(name)

    def declare_exchange(
        self, name: str, kind: str, *, durable: bool, auto_delete: bool, internal: bool, arguments: Arguments
    ) -> Exchange:
        """Declare an exchange. Raises CommandInvalid for a type that does not exist."""
        if kind not in EXCHANGE_TYPES:
            raise CommandInvalid(f"unknown exchange type '{kind}'")
        refuse_default_exchange(name)
        self._check("configure", "exchange", name)
        if name not in self._vhost.exchanges:
            refuse_reserved("exchange", name, self._vhost.name)
            alternate = arguments.get("alternate-exchange")
            if isinstance(alternate, str):
                self._check("read", "exchange", name)
                self._check("write", "exchange", alternate)
            elif alternate is not None:
                raise PreconditionFailed(
                    f"invalid arg 'alternate-exchange' for exchange '{name}' in vhost '{self._vhost.name}': "
                    "a string is needed"
                )
        return self._vhost.declare_exchange(
            name, kind, durable=durable, auto_delete=auto_delete, internal=internal, arguments=arguments
        )

    def delete_exchange(self, name: str, *, if_unused: bool) -> None:
        """Delete an exchange; one that is not there is deleted already."""
        refuse_default_exchange(name)
        self._check("configure", "exchange", name)
        if name.startswith("amq."):
            raise AccessRefused(f"exchange name '{name}' contains reserved prefix 'amq.*'")
        exchange = self._vhost.exchanges.get(name)
        if exchange is not None:
            self._vhost.delete_exchange(exchange, if_unused=if_unused)

    def bind_exchange(self, destination: str, source: str, routing_key: str, arguments: Arguments) -> None:
        """Bind an exchange to another."""
        refuse_default_exchange(destination)
        refuse_default_exchange(source)
        self._check("write", "exchange", destination)
        self._check("read", "exchange", source)
        target = self._vhost.exchange(destination)
        self._bind(source, target, routing_key, arguments)

    def unbind_exchange(self, destination: str, source: str, routing_key: str, arguments: Arguments) -> None:
        """Undo ``bind_exchange``; a binding that is not there is undone already."""
        refuse_default_exchange(destination)
        refuse_default_exchange(source)
        self._check("write", "exchange", destination)
        self._check("read", "exchange", source)
        target = self._vhost.exchanges.get(destination)
        if target is not None:
            self._unbind(source, target, routing_key, arguments)

    # -- queues -----------------------------------------------------------------------------------------------

    def find_queue(self, name: str) -> Queue:
        """A passive declare."""
        return self._vhost.queue_for(name, self._owner)

    def declare_queue(
        self, name: str, *, durable: bool, exclusive: bool, auto_delete: bool, arguments: Arguments
    ) -> Queue:
        """Declare a queue; an empty name gets one made up."""
        if name:
            self._check("configure", "queue", name)
        if name and name not in self._vhost.queues:
            refuse_reserved("queue", name, self._vhost.name)
        dead_letters = arguments.get("x-dead-letter-exchange")
        if isinstance(dead_letters, str) and name not in self._vhost.queues:
            if name:
                self._check("read", "queue", name)
            self._check("write", "exchange", dead_letters)
        return self._vhost.declare_queue(
            name,
            durable=durable,
            exclusive=self._owner if exclusive else None,
            auto_delete=auto_delete,
            arguments=arguments,
            owner=self._owner,
        )

    def delete_queue(self, name: str, *, if_unused: bool, if_empty: bool) -> int:
        """Delete a queue, return how many messages went with it; one that is not there is deleted already."""
        self._check("configure", "queue", name)
        if name not in self._vhost.queues:
            return 0
        queue = self._vhost.queue_for(name, self._owner)
        return self._vhost.delete_queue(queue, if_unused=if_unused, if_empty=if_empty)

    def purge_queue(self, name: str) -> int:
        """Drop a queue's ready messages, return how many."""
        self._check("read", "queue", name)
        return self._vhost.queue_for(name, self._owner).purge()

    def bind_queue(self, name: str, source: str, routing_key: str, arguments: Arguments) -> None:
        """Bind a queue to an exchange."""
        refuse_default_exchange(source)
        self._check("write", "queue", name)
        self._check("read", "exchange", source)
        self._bind(source, self._vhost.queue_for(name, self._owner), routing_key, arguments)

    def unbind_queue(self, name: str, source: str, routing_key: str, arguments: Arguments) -> None:
        """Undo ``bind_queue``; a binding that is not there is undone already."""
        refuse_default_exchange(source)
        self._check("write", "queue", name)
        self._check("read", "exchange", source)
        if name in self._vhost.queues:
            self._unbind(source, self._vhost.queue_for(name, self._owner), routing_key, arguments)

    # -- both -------------------------------------------------------------------------------------------------

    def _bind(self, source: str, target: Queue | Exchange, routing_key: str, arguments: Arguments) -> None:
        exchange = self._vhost.exchange(source)
        if exchange.type == "topic":
            self._user.check_route(self._vhost.name, source, "read", routing_key)
        self._vhost.bind(exchange, target, routing_key, arguments)

    def _unbind(self, source: str, target: Queue | Exchange, routing_key: str, arguments: Arguments) -> None:
        exchange = self._vhost.exchanges.get(source)
        if exchange is not None:
            self._vhost.unbind(exchange, target, routing_key, arguments)


def refuse_default_exchange(name: str) -> None:
    """Nothing is ever done to the default exchange."""
    if not name:
        raise AccessRefused("operation not permitted on the default exchange")


def refuse_reserved(kind: str, name: str, vhost: str) -> None:
    """Names that begin with amq. are the broker's own."""
    if name.startswith("amq."):
        raise AccessRefused(f"{kind} name '{name}' contains reserved prefix 'amq.*'")


