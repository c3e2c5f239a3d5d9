"""API of connections and channels: list, show, close."""

from collections.abc import Callable
from functools import partial

from leveret.protocol.errors import ConnectionForced
from leveret.protocol.http import Response
from leveret.router.management.access import (
    ADMINISTRATOR,
    administrator,
    can_see_all,
    in_vhost,
    management,
    visible_items,
)
from leveret.router.management.call import Call, Rule, Rules
from leveret.router.management.clients import ListedConnection, connections, user_of, vhost_of
from leveret.router.management.errors import not_authorised, not_found
from leveret.router.management.json_values import Object, answer, empty_response
from leveret.router.management.placeholder_fields import process
from leveret.router.management.query import columns_of, listing, narrowed, with_list
from leveret.router.management.resources.consumers import ConnectionChannel, show_consumer
from leveret.router.management.statistics.rate_values import message_stats, window_of
from leveret.router.management.statistics.rates import SESSION, of_session
from leveret.router.queue.consumers import Consumer
from leveret.router.session.session import Session
from leveret.router.values.field_values import plain
from leveret.router.web.response_steps import ResponseSteps

REASON = "Closed via management plugin"
REASON_HEADER = "x-reason"


def show_connection(call: Call, connection: ListedConnection) -> Object:
    """Return a connection as an object."""
    (peer_host, peer_port), (host, port) = connection.ends.peer, connection.ends.here
    ends, traffic = connection.ends, connection.outbox.traffic
    version, cipher = ends.tls or (None, None)
    series = call.context.sampler.of(connection)
    properties = plain(connection.client_properties)
    user = user_of(connection)
    document: Object = {
        "auth_mechanism": connection.mechanism,
        "channel_max": connection.channel_max,
        "channels": len(connection.sessions()),
        "client_properties": properties,
        "connected_at": connection.since * 1000,
        "frame_max": connection.frame_max,
        "host": host,
        "name": ends.name,
        "node": call.context.node.name,
        "peer_cert_issuer": ends.issuer or None,
        "peer_cert_subject": ends.subject or None,
        "peer_cert_validity": ends.validity or None,
        "peer_host": peer_host,
        "peer_port": peer_port,
        "port": port,
        "protocol": connection.protocol,
        "recv_cnt": traffic.reads,
        "recv_oct": traffic.received,
        "recv_oct_details": series.details("recv_oct"),
        "send_cnt": traffic.sends,
        "send_oct": traffic.sent,
        "send_oct_details": series.details("send_oct"),
        "send_pend": connection.outbox.size,
        "ssl": ends.tls is not None,
        "ssl_cipher": cipher,
        "ssl_hash": None,
        "ssl_key_exchange": None,
        "ssl_protocol": version,
        "state": connection.status,
        "timeout": connection.heartbeat,
        "type": "network",
        "user": user,
        "user_who_performed_action": user,
        "vhost": vhost_of(connection),
        **process(),
    }
    if isinstance(properties.get("connection_name"), str):
        document["user_provided_name"] = properties["connection_name"]
    return document


def visible(call: Call) -> list[ListedConnection]:
    """Return the connections that the user sees."""
    return visible_items(call, connections(call.broker), user_of)


def find_connection(call: Call) -> ListedConnection:
    """Return the connection of the path. Raises HttpError 404 for none, 401 for another user's."""
    for connection in connections(call.broker):
        if connection.ends.name == call["name"]:
            if not can_see_all(call.user) and user_of(connection) != call.user.name:
                raise not_authorised("User not authorised to access object")
            return connection
    raise not_found()


def _listed(
    call: Call, found: list[ListedConnection], show: Callable[[Call, ListedConnection], Object]
) -> ResponseSteps[Response]:
    return listing(
        call,
        found,
        lambda connection: show(call, connection),
        name_of=lambda connection: connection.ends.name,
    )


def list_connections(call: Call) -> ResponseSteps[Response]:
    return _listed(call, visible(call), show_connection)


def list_in_vhost(call: Call) -> ResponseSteps[Response]:
    found = [each for each in visible(call) if vhost_of(each) == call["vhost"]]
    return _listed(call, found, show_connection)


def list_of_user(call: Call) -> ResponseSteps[Response]:
    found = [each for each in visible(call) if user_of(each) == call["user"]]
    return _listed(call, found, _briefly)


def _briefly(call: Call, connection: ListedConnection) -> Object:
    return {
        "name": connection.ends.name,
        "vhost": vhost_of(connection),
        "user": user_of(connection),
        "node": call.context.node.name,
    }


def show_one(call: Call) -> Response:
    """Show a connection; as in RabbitMQ, fields that are null in a list are empty text here."""
    document = show_connection(call, find_connection(call))
    document = {name: "" if value is None else value for name, value in document.items()}
    return answer(narrowed(document, columns_of(call.query)))


def close(call: Call) -> Response:
    """Close a connection; the client gets the reason of the header ``X-Reason``.

    Its own user and administrators may; the tag monitoring sees all connections and closes none.
    """
    connection = find_connection(call)
    if user_of(connection) != call.user.name and ADMINISTRATOR not in call.user.tags:
        raise not_authorised("User not authorised to access object")
    _end(call, connection)
    return empty_response()


def close_of_user(call: Call) -> Response:
    for connection in connections(call.broker):
        if user_of(connection) == call["user"]:
            _end(call, connection)
    return empty_response()


def _end(call: Call, connection: ListedConnection) -> None:
    connection.end(ConnectionForced(call.request.headers.get(REASON_HEADER) or REASON))


# -- channels ------------------------------------------------------------------------------------------------


def show_channel(call: Call, session: Session, owner: ConnectionChannel) -> Object:
    """Return a channel as an object."""
    connection, number = owner
    host, port = connection.ends.peer
    transaction, confirms = session.transaction, session.confirms
    user = user_of(connection)
    numbers = of_session(session)
    window = window_of(call, "msg_rates")
    return {
        "acks_uncommitted": transaction.settles if transaction is not None else 0,
        "confirm": confirms is not None,
        "connection_details": {"name": connection.ends.name, "peer_host": host, "peer_port": port},
        "consumer_count": len(session.consumers),
        "global_prefetch_count": session.deliveries.prefetch,
        **message_stats(SESSION, numbers, call.context.sampler.of(session), window),
        "messages_unacknowledged": len(session.unacked),
        "messages_uncommitted": transaction.publishes if transaction is not None else 0,
        "messages_unconfirmed": confirms.published - confirms.answered if confirms is not None else 0,
        "name": f"{connection.ends.name} ({number})",
        "node": call.context.node.name,
        "number": number,
        "pending_raft_commands": 0,
        "prefetch_count": session.subscriptions.consumer_prefetch,
        "state": "running",
        "transactional": transaction is not None,
        "user": user,
        "user_who_performed_action": user,
        "vhost": vhost_of(connection),
        **process(),
    }


def _channels(call: Call, found: list[ListedConnection]) -> ResponseSteps[Response]:
    """Respond with a list of the channels of these connections."""
    channels = (
        (session, (connection, number))
        for connection in found
        for number, session in list(connection.sessions().items())
    )
    return listing(
        call,
        channels,
        lambda channel: show_channel(call, *channel),
        sort=("name",),
        name_of=lambda channel: f"{channel[1][0].ends.name} ({channel[1][1]})",
    )


def list_channels(call: Call) -> ResponseSteps[Response]:
    return _channels(call, visible(call))


def channels_in_vhost(call: Call) -> ResponseSteps[Response]:
    return _channels(call, [each for each in visible(call) if vhost_of(each) == call["vhost"]])


def channels_of_connection(call: Call) -> ResponseSteps[Response]:
    return _channels(call, [find_connection(call)])


def show_one_channel(call: Call) -> ResponseSteps[Response]:
    session, owner = _find_channel(call)
    document = show_channel(call, session, owner)
    document["deliveries"] = document["publishes"] = []  # as in RabbitMQ with rates_mode basic
    consumers = [each for each in session.consumers.values() if isinstance(each, Consumer)]
    return with_list(call, document, "consumer_details", consumers, partial(show_consumer, call))


def _find_channel(call: Call) -> tuple[Session, ConnectionChannel]:
    """Return the channel of the path. Raises HttpError 404 for none, 401 for another user's."""
    name, _, rest = call["name"].rpartition(" (")
    for connection in connections(call.broker):
        if connection.ends.name == name:
            for number, session in connection.sessions().items():
                if f"{number})" == rest:
                    if not can_see_all(call.user) and user_of(connection) != call.user.name:
                        raise not_authorised("User not authorised to access object")
                    return session, (connection, number)
    raise not_found()


RULES: Rules = {
    "/connections": {"GET": Rule(management, list_connections)},
    "/connections/{name}": {"GET": Rule(management, show_one), "DELETE": Rule(management, close)},
    "/connections/{name}/channels": {"GET": Rule(management, channels_of_connection)},
    "/connections/username/{user}": {
        "GET": Rule(management, list_of_user),
        "DELETE": Rule(administrator, close_of_user),
    },
    "/vhosts/{vhost}/connections": {"GET": Rule(in_vhost, list_in_vhost)},
    "/vhosts/{vhost}/channels": {"GET": Rule(in_vhost, channels_in_vhost)},
    "/channels": {"GET": Rule(management, list_channels)},
    "/channels/{name}": {"GET": Rule(management, show_one_channel)},
}
