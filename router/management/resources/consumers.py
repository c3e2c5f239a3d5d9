"""API of consumers."""

from collections.abc import Iterator

from leveret.protocol.http import Response
from leveret.router.management.access import accessible_vhosts, in_vhost, management
from leveret.router.management.call import Call, Rule, Rules
from leveret.router.management.clients import ListedConnection, user_of
from leveret.router.management.json_values import Object
from leveret.router.management.query import listing
from leveret.router.queue.consumers import Consumer
from leveret.router.session.deliveries import Deliveries
from leveret.router.values.field_values import plain
from leveret.router.vhost.vhost import VHost
from leveret.router.web.response_steps import ResponseSteps

ConnectionChannel = tuple[ListedConnection, int]  # a channel: its connection and its number


def channel_details(call: Call, connection: ListedConnection, number: int) -> Object:
    """Return the fields that identify a channel."""
    host, port = connection.ends.peer
    return {
        "connection_name": connection.ends.name,
        "name": f"{connection.ends.name} ({number})",
        "node": call.context.node.name,
        "number": number,
        "peer_host": host,
        "peer_port": port,
        "user": user_of(connection),
    }


def show_consumer(call: Call, consumer: Consumer) -> Object:
    """Return a consumer as an object."""
    owner = owner_of(call, consumer)
    return {
        "arguments": plain(consumer.arguments),
        "ack_required": not consumer.no_ack,
        "active": consumer.active,
        "activity_status": "up" if consumer.active else "waiting",
        "channel_details": channel_details(call, *owner) if owner is not None else {},
        "consumer_tag": consumer.tag,
        "exclusive": consumer.exclusive,
        "prefetch_count": 0 if consumer.no_ack else consumer.prefetch,
        "queue": {"name": consumer.queue.name, "vhost": consumer.queue.vhost},
        "leveret": call.context.statistics.of_consumer(consumer, _deliveries(consumer)),
    }


def owner_of(call: Call, consumer: Consumer) -> ConnectionChannel | None:
    """Return the channel of a consumer; None if it has closed."""
    deliveries = _deliveries(consumer)
    if deliveries is None or deliveries.finished or deliveries.owner not in call.broker.clients:
        return None
    connection: ListedConnection = deliveries.owner  # type: ignore[assignment]  # as in ``clients.connections``
    return connection, deliveries.number


def _deliveries(consumer: Consumer) -> Deliveries | None:
    return consumer.sink if isinstance(consumer.sink, Deliveries) else None


def _consumers(vhosts: list[VHost]) -> Iterator[Consumer | None]:
    """Yield the consumers of all queues, and None for each queue."""
    for vhost in vhosts:
        for queue in list(vhost.queues.values()):
            yield None
            yield from list(queue.consumers)


def _listed(call: Call, vhosts: list[VHost]) -> ResponseSteps[Response]:
    return listing(
        call,
        _consumers(vhosts),
        lambda consumer: show_consumer(call, consumer),
        sort=("queue.vhost", "queue.name", "consumer_tag"),
        name_of=lambda consumer: consumer.tag,
    )


def list_consumers(call: Call) -> ResponseSteps[Response]:
    return _listed(call, accessible_vhosts(call))


def list_in_vhost(call: Call) -> ResponseSteps[Response]:
    return _listed(call, [call.vhost])


RULES: Rules = {
    "/consumers": {"GET": Rule(management, list_consumers)},
    "/consumers/{vhost}": {"GET": Rule(in_vhost, list_in_vhost)},
}
