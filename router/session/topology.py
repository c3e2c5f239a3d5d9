"""Declaring, binding and deleting on behalf of a user: checks of names and permissions.

Responsible for the permissions that each operation needs, and for the order of the checks: of several faults,
the error names the one that RabbitMQ names. ``VHost`` does the operation, and ``vhost.declare`` has the rules
of names.

Source: RabbitMQ, "Access Control", the table of operations and permissions.
"""

from collections.abc import Mapping
from typing import Any

from leveret.protocol.errors import AccessRefused, CommandInvalid, PreconditionFailed
from leveret.router.auth import Kind, Operation, User
from leveret.router.exchange import EXCHANGE_TYPES
from leveret.router.exchange.base import Exchange
from leveret.router.queue.interface import AnyQueue
from leveret.router.session.reply_to import REPLY_TO
from leveret.router.turns.backlog import LongWork, Slicing
from leveret.router.values.field_values import type_name
from leveret.router.vhost.declare import clean_name, is_reserved
from leveret.router.vhost.vhost import VHost

Arguments = Mapping[str, Any]


class Topology:
    """Changes of ``user`` to ``vhost``; ``owner`` is the connection that exclusive queues belong to."""

    def __init__(self, vhost: VHost, user: User, owner: object) -> None:
        self.vhost = self._vhost = vhost
        self._user = user
        self._owner = owner

    def _check(self, operation: Operation, kind: Kind, name: str) -> None:
        self._user.check(self._vhost.name, operation, kind, name)

    # -- exchanges ----------------------------------------------------------------------------------------

    def find_exchange(self, name: str) -> Exchange:
        """Return an exchange for a passive declare. Raises AccessRefused and NotFound."""
        refuse_default_exchange(name)
        return self._vhost.exchange(name)

    def declare_exchange(
        self, name: str, kind: str, *, durable: bool, auto_delete: bool, internal: bool, arguments: Arguments
    ) -> Exchange:
        """Declare an exchange. Raises CommandInvalid for a type that does not exist."""
        if kind not in EXCHANGE_TYPES:
            raise CommandInvalid(f"unknown exchange type '{kind}'" if kind else "invalid exchange type ''")
        name = clean_name(name)
        refuse_default_exchange(name)
        self._check("configure", "exchange", name)
        if name not in self._vhost.exchanges:
            refuse_reserved("exchange", name)
            self._check_reference("alternate-exchange", arguments, "exchange", name)
        return self._vhost.declare_exchange(
            name, kind, durable=durable, auto_delete=auto_delete, internal=internal, arguments=arguments
        )

    def delete_exchange(self, name: str, *, if_unused: bool) -> None:
        """Delete an exchange, if it exists."""
        name = clean_name(name)
        refuse_default_exchange(name)
        if is_reserved(name):
            raise AccessRefused(
                f"deletion of system exchange '{name}' in vhost '{self._vhost.name}' not allowed"
            )
        self._check("configure", "exchange", name)
        exchange = self._vhost.exchanges.get(name)
        if exchange is not None:
            self._vhost.delete_exchange(exchange, if_unused=if_unused)

    def loosen_exchange(self, name: str, *, if_unused: bool) -> LongWork | None:
        """Delete very many bindings of an exchange before its deletion. Return the unfinished work, which
        must end before ``delete_exchange`` is called. Does nothing for a deletion that would be refused.
        """
        name = clean_name(name)
        exchange = self._vhost.exchanges.get(name)
        if exchange is None or is_reserved(name) or not name or (if_unused and exchange.bindings):
            return None
        self._check("configure", "exchange", name)
        return self._vhost.loosen(exchange)

    def bind_exchange_in_slices(
        self, destination: str, source: str, routing_key: str, arguments: Arguments
    ) -> Slicing[None]:
        """Bind an exchange to another, in slices, as ``VHost.bind_in_slices``."""
        destination, source = clean_name(destination), clean_name(source)
        self._check_binding("exchange", destination, source, routing_key)
        exchange = self._vhost.exchange(source)
        target = self._vhost.exchange(destination)
        yield from self._vhost.bind_in_slices(exchange, target, routing_key, arguments)

    def unbind_exchange(self, destination: str, source: str, routing_key: str, arguments: Arguments) -> None:
        """Delete the binding of two exchanges, if it exists."""
        destination, source = clean_name(destination), clean_name(source)
        self._check_binding("exchange", destination, source, routing_key)
        exchange, target = self._vhost.exchanges.get(source), self._vhost.exchanges.get(destination)
        if exchange is not None and target is not None:
            self._vhost.unbind(exchange, target, routing_key, arguments)

    # -- queues -------------------------------------------------------------------------------------------

    def find_queue(self, name: str) -> AnyQueue:
        """Return a queue for a passive declare, which counts as use of the queue."""
        return self._vhost.find_queue(clean_name(name), self._owner)

    def has_queue(self, name: str) -> bool:
        """Return True if there is a queue of this name."""
        return clean_name(name) in self._vhost.queues

    def undo_declaration(self, name: str) -> None:
        """Delete a queue that was declared for an operation that was then refused, if it still exists.

        Checks no permission.
        """
        if name in self._vhost.queues:
            self._vhost.delete_queue(self._vhost.queue_for(name, self._owner))

    def check_topic(self, exchange: str, routing_key: str) -> None:
        """Raise AccessRefused unless the user may read messages of a topic exchange with this key."""
        self._user.check_route(self._vhost.name, exchange, "read", routing_key)

    def find_reply_queue(self, name: str) -> None:
        """Raise NotFound unless ``name`` is the direct reply-to address or the address of a consumer of
        replies.
        """
        if name != REPLY_TO and self._vhost.target(name) is None:
            self._vhost.queue_for(name, self._owner)

    def declare_queue(
        self, name: str, *, durable: bool, exclusive: bool, auto_delete: bool, arguments: Arguments
    ) -> AnyQueue:
        """Declare a queue; an empty name is replaced by a generated one. No exclusive queue is durable."""
        name = clean_name(name)
        arguments = self._typed(arguments, lasting=durable and not (exclusive or auto_delete))
        if name:
            refuse_reserved("queue", name)
        elif (kind := arguments.get("x-queue-type")) in ("quorum", "stream"):
            raise PreconditionFailed(f"Cannot declare a server-named queue for type rabbit_{kind}_queue")
        else:
            name = self._vhost.new_queue_name()
        self._check("configure", "queue", name)
        if name not in self._vhost.queues:
            self._check_reference("x-dead-letter-exchange", arguments, "queue", name)
        return self._vhost.declare_queue(
            name,
            durable=durable and not exclusive,
            exclusive=exclusive,
            auto_delete=auto_delete,
            arguments=arguments,
            owner=self._owner,
        )

    def delete_queue(self, name: str, *, if_unused: bool, if_empty: bool) -> int:
        """Delete a queue, if it exists, and return the number of its ready messages."""
        name = clean_name(name)
        self._check("configure", "queue", name)
        if name not in self._vhost.queues:
            return 0
        queue = self._vhost.queue_for(name, self._owner)
        return self._vhost.delete_queue(queue, if_unused=if_unused, if_empty=if_empty)

    def loosen_queue(self, name: str, *, if_unused: bool, if_empty: bool) -> LongWork | None:
        """Delete very many bindings of a queue before its deletion. Return the unfinished work, which must
        end before ``delete_queue`` is called. Raises the errors of ``delete_queue``.
        """
        name = clean_name(name)
        self._check("configure", "queue", name)
        if name not in self._vhost.queues:
            return None
        queue = self._vhost.queue_for(name, self._owner)
        queue.check_deletion(if_unused=if_unused, if_empty=if_empty)
        return self._vhost.loosen(queue)

    def purge_queue(self, name: str) -> int:
        """Drop a queue's ready messages and return their number."""
        self._check("read", "queue", name)
        return self._vhost.queue_for(name, self._owner).purge()

    def bind_queue_in_slices(
        self, name: str, source: str, routing_key: str, arguments: Arguments
    ) -> Slicing[None]:
        """Bind a queue to an exchange, in slices, as ``VHost.bind_in_slices``."""
        name, source = clean_name(name), clean_name(source)
        self._check_binding("queue", name, source, routing_key)
        exchange = self._vhost.exchange(source)
        queue = self._vhost.queue_for(name, self._owner)
        yield from self._vhost.bind_in_slices(exchange, queue, routing_key, arguments)

    def unbind_queue(self, name: str, source: str, routing_key: str, arguments: Arguments) -> None:
        """Delete the binding of a queue, if it exists. Without it the owner of the queue is not checked."""
        name, source = clean_name(name), clean_name(source)
        self._check_binding("queue", name, source, routing_key)
        exchange = self._vhost.exchanges.get(source)
        if exchange is not None and self._vhost.is_bound(exchange, name, routing_key, arguments):
            self._vhost.unbind(exchange, self._vhost.queue_for(name, self._owner), routing_key, arguments)

    def _typed(self, arguments: Arguments, *, lasting: bool) -> Arguments:
        """Return the arguments. If they have no queue type, the virtual host's default type is added, if
        valid.
        """
        default = self._vhost.metadata.default_queue_type
        if default is None or "x-queue-type" in arguments or not (lasting or default == "classic"):
            return arguments
        return {**arguments, "x-queue-type": default}

    # -- both ---------------------------------------------------------------------------------------------

    def _check_reference(self, argument: str, arguments: Arguments, kind: Kind, name: str) -> None:
        """Check the permissions to forward from ``name`` (read) to the exchange in ``argument`` (write)."""
        other = arguments.get(argument)
        if argument not in arguments:
            return
        if not isinstance(other, str):
            raise PreconditionFailed(
                f"invalid type '{type_name(other)}' for arg '{argument}' in {kind} '{name}' "
                f"in vhost '{self._vhost.name}'"
            )
        self._check("read", kind, name)
        self._check("write", "exchange", other)

    def _check_binding(self, kind: Kind, destination: str, source: str, routing_key: str) -> None:
        """Raise AccessRefused unless the user may bind and unbind these, which need not exist."""
        self._check("write", kind, destination)
        if kind == "exchange":
            refuse_default_exchange(destination)
        refuse_default_exchange(source)
        self._check("read", "exchange", source)
        exchange = self._vhost.exchanges.get(source)
        if exchange is not None and exchange.has_topic_permissions:
            self._user.check_route(self._vhost.name, source, "read", routing_key)


def refuse_default_exchange(name: str) -> None:
    """Raise AccessRefused for the default exchange, which cannot be changed."""
    if not name:
        raise AccessRefused("operation not permitted on the default exchange")


def refuse_reserved(kind: Kind, name: str) -> None:
    """Raise AccessRefused for a name that begins with amq., which is reserved for the broker."""
    if is_reserved(name):
        raise AccessRefused(f"{kind} name '{name}' contains reserved prefix 'amq.*'")
