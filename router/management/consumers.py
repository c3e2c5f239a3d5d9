"""Consumers, as the API shows them."""

from leveret.protocol.http import Response
from leveret.router.management.access import entered, in_vhost, management
from leveret.router.management.call import Call, Rule, Rules
from leveret.router.management.clients import Connection, connections, user_of
from leveret.router.management.query import listing
from leveret.router.management.values import Object
from leveret.router.queue.consumers import Consumer
from leveret.router.session.session import Session
from leveret.router.terms import plain
from leveret.router.vhost import VHost
from leveret.router.web.steps import Steps

Owner = tuple[Connection, int]  # a channel: its connection and its number


def owners(call: Call) -> dict[Session, Owner]:
    """Whose the sessions are, and under which number."""
    return {
        session: (connection, number)
        for connection in connections(call.broker)
        for number, session in connection.sessions().items()
    }


def channel_details(call: Call, connection: Connection, number: int) -> Object:
    """A channel, in a few words."""
    host, port = connection.ends.peer
    return {
        "connection_name": connection.ends.name,
        "name": f"{connection.ends.name} ({number})",
        "node": call.world.node.name,
        "number": number,
        "peer_host": host,
        "peer_port": port,
        "user": user_of(connection),
    }


def show_consumer(call: Call, consumer: Consumer, owner: Owner | None) -> Object:
    """A consumer."""
    return {
        "arguments": plain(dict(consumer.arguments)),
        "ack_required": not consumer.no_ack,
        "active": consumer.active,
        "activity_status": "up" if consumer.active else "waiting",
        "channel_details": channel_details(call, *owner) if owner is not None else {},
        "consumer_tag": consumer.tag,
        "exclusive": consumer.exclusive,
        "prefetch_count": 0 if consumer.no_ack else consumer.prefetch,
        "queue": {"name": consumer.queue.name, "vhost": consumer.queue.vhost},
        "leveret": call.world.measures.of_consumer(consumer, _session(owner)),
    }


def _session(owner: Owner | None) -> Session | None:
    """The session that a channel is."""
    if owner is None:
        return None
    connection, number = owner
    return connection.sessions().get(number)


def of_sessions(call: Call, sessions: dict[Session, Owner]) -> dict[Consumer, Owner]:
    """The consumers that these have."""
    return {
        consumer: owner
        for session, owner in sessions.items()
        for consumer in session.consumers.values()
        if isinstance(consumer, Consumer)
    }


def _listed(call: Call, vhosts: list[VHost]) -> Steps[Response]:
    known = of_sessions(call, owners(call))
    found = [consumer for vhost in vhosts for queue in vhost.queues.values() for consumer in queue.consumers]
    return listing(
        call.query,
        found,
        lambda consumer: show_consumer(call, consumer, known.get(consumer)),
        sort=("queue.vhost", "queue.name", "consumer_tag"),
        name_of=lambda consumer: consumer.tag,
    )


def list_consumers(call: Call) -> Steps[Response]:
    return _listed(call, entered(call))


def list_in_vhost(call: Call) -> Steps[Response]:
    return _listed(call, [call.vhost])


RULES: Rules = {
    "/consumers": {"GET": Rule(management, list_consumers)},
    "/consumers/{vhost}": {"GET": Rule(in_vhost, list_in_vhost)},
}
