"""API of the whole broker and of the requesting user. Not for the node (see ``nodes``)."""

from leveret.protocol.http import Response
from leveret.router.exchange import EXCHANGE_TYPES
from leveret.router.management import access
from leveret.router.management.access import accessible_vhosts, administrator, management
from leveret.router.management.body import demand, text
from leveret.router.management.call import Call, Rule, Rules
from leveret.router.management.clients import connections, user_of
from leveret.router.management.errors import bad_request
from leveret.router.management.json_values import Object, answer, empty_response
from leveret.router.management.node import MANAGEMENT_VERSION
from leveret.router.management.placeholder_fields import DISK, with_zeros
from leveret.router.management.query import columns_of, narrowed
from leveret.router.management.statistics.rate_values import lengths, message_stats, window_of, with_rates
from leveret.router.management.statistics.rates import (
    CHURN,
    INTERVAL,
    KEEP,
    KEEP_TOTALS,
    SESSION,
    VHOST,
    Numbers,
    Series,
    added,
    of_churn,
    summed,
    totals,
)
from leveret.router.web.response_steps import ResponseSteps, gathered


def exchange_types() -> list[Object]:
    """Return the exchange types for the API."""
    return [
        {"name": name, "description": EXCHANGE_TYPES[name].description, "enabled": True}
        for name in sorted(EXCHANGE_TYPES)
    ]


def overview(call: Call) -> ResponseSteps[Response]:
    """Return totals: of the whole broker for users who see everything, else of the virtual hosts they may
    open.
    """
    broker, node = call.broker, call.context.node
    by_vhost = yield from totals(broker)
    counted = yield from object_totals(call)
    if access.can_see_all(call.user):
        seen = list(by_vhost)
        series = call.context.sampler.total
    else:
        seen = [vhost for vhost in accessible_vhosts(call) if vhost in by_vhost]
        series = yield from _joined([call.context.sampler.of(vhost) for vhost in seen])
    numbers = yield from summed(VHOST, [by_vhost[vhost] for vhost in seen])
    rates, counts = window_of(call, "msg_rates"), window_of(call, "lengths")
    stats = message_stats(SESSION, numbers[: len(SESSION)], series, rates)
    document: Object = {
        "management_version": MANAGEMENT_VERSION,
        "rates_mode": "basic",
        "sample_retention_policies": retention(),
        "exchange_types": exchange_types(),
        "product_version": broker.settings.amqp.version,
        "product_name": broker.settings.amqp.product,
        "rabbitmq_version": broker.settings.amqp.version,
        "leveret_version": node.version,
        "cluster_name": call.broker.cluster_name,
        "erlang_version": "",
        "erlang_full_version": "",
        "release_series_support_status": "supported",
        "disable_stats": False,
        "enable_queue_totals": False,
        "message_stats": stats.get("message_stats", {}) | with_zeros(DISK),
        "churn_rates": with_rates(CHURN, of_churn(broker), call.context.sampler.total, rates),
        "queue_totals": lengths(VHOST, numbers, series, counts),
        "object_totals": counted,
        "statistics_db_event_queue": 0,
        "node": node.name,
    }
    if access.can_see_all(call.user):
        document["listeners"] = [
            {
                "node": node.name,
                "protocol": each.protocol,
                "ip_address": each.address,
                "port": each.port,
                "socket_opts": {},
            }
            for each in node.listeners()
        ]
        document["contexts"] = [context | {"node": node.name} for context in contexts(call)]
    return answer(narrowed(document, columns_of(call.query)))


def _joined(all_series: list[Series]) -> ResponseSteps[Series]:
    """Return the sum of the samples of several virtual hosts, in steps."""
    sums: dict[int, Numbers] = {}
    for series in all_series:
        for when, numbers in list(series.points):
            sums[when] = added(sums[when], numbers) if when in sums else numbers
        yield 0
    joined = Series(VHOST, KEEP_TOTALS)
    joined.points.extend(sorted(sums.items()))
    return joined


def retention() -> Object:
    """Return the seconds for which samples are kept."""
    seconds = INTERVAL // 1000
    totals_kept, each_kept = (KEEP_TOTALS - 1) * seconds, (KEEP - 1) * seconds
    return {"global": [totals_kept], "basic": [each_kept], "detailed": [each_kept]}


def object_totals(call: Call) -> ResponseSteps[dict[str, int]]:
    """Return the numbers of objects that the user sees."""
    vhosts = accessible_vhosts(call)
    clients = access.visible_items(call, connections(call.broker), user_of)
    channels = yield from gathered(len(client.sessions()) for client in clients)
    consumers = yield from gathered(
        len(queue.consumers) for vhost in vhosts for queue in list(vhost.queues.values())
    )
    return {
        "channels": sum(channels),
        "connections": len(clients),
        "consumers": sum(consumers),
        "exchanges": sum((yield from gathered(len(vhost.exchanges) for vhost in vhosts))),
        "queues": sum((yield from gathered(len(vhost.queues) for vhost in vhosts))),
    }


def contexts(call: Call) -> list[Object]:
    """Return the addresses of the API."""
    return [
        {
            "ssl_opts": [],
            "description": "RabbitMQ Management",
            "path": "/",
            "cowboy_opts": "[]",
            "ip": each.address,
            "port": str(each.port),
        }
        for each in call.context.node.listeners()
        if each.protocol in ("http", "https")
    ]


def show_cluster_name(call: Call) -> Response:
    return answer({"name": call.broker.cluster_name})


def set_cluster_name(call: Call) -> Response:
    demand(call.body, ["name"])
    try:
        call.administration.parameters.set_global("cluster_name", text(call.body, "name"))
    except ValueError as error:
        raise bad_request(str(error)) from None
    return empty_response()


# -- the requesting user, and features -----------------------------------------------------------------------


def whoami(call: Call) -> Response:
    return answer({"name": call.user.name, "tags": sorted(call.user.tags)})


def auth(call: Call) -> Response:
    return answer({"enable_uaa": False, "uaa_client_id": "", "uaa_location": ""})


def extensions(call: Call) -> Response:
    return answer([])


def feature_flags(call: Call) -> Response:
    """List RabbitMQ's feature flags that clients and tools need; all of them are enabled."""
    return answer(
        [
            {
                "name": name,
                "desc": description,
                "doc_url": "",
                "state": "enabled",
                "stability": "stable",
                "provided_by": "leveret",
            }
            for name, description in FEATURES.items()
        ]
    )


FEATURES = {
    "drop_unroutable_metric": "Count unroutable publishes to be dropped in stats",
    "empty_basic_get_metric": "Count AMQP `basic.get` on empty queues in stats",
    "implicit_default_bindings": "Default bindings are now implicit, instead of being stored in the database",
    "quorum_queue": "Support queues of type `quorum`",
    "user_limits": "Configure connection and channel limits for a user",
    "virtual_host_metadata": "Virtual host metadata (description, tags, etc)",
}


def enable_feature(call: Call) -> Response:
    if call["name"] not in FEATURES:
        raise bad_request("unsupported")
    return empty_response()


def deprecated_features(call: Call) -> Response:
    """List deprecated features: none."""
    return answer([])


def rebalance(call: Call) -> Response:
    """Rebalance queues: without effect, as all queues are on the only node."""
    return empty_response()


def reset_stats(call: Call) -> Response:
    """Delete samples; counters continue."""
    call.context.sampler.forget()
    return empty_response()


RULES: Rules = {
    "/overview": {"GET": Rule(management, overview)},
    "/cluster-name": {
        "GET": Rule(management, show_cluster_name),
        "PUT": Rule(administrator, set_cluster_name),
    },
    "/whoami": {"GET": Rule(management, whoami)},
    "/auth": {"GET": Rule(management, auth)},
    "/extensions": {"GET": Rule(management, extensions)},
    "/feature-flags": {"GET": Rule(administrator, feature_flags)},
    "/feature-flags/{name}/enable": {"PUT": Rule(administrator, enable_feature)},
    "/deprecated-features": {"GET": Rule(administrator, deprecated_features)},
    "/deprecated-features/used": {"GET": Rule(administrator, deprecated_features)},
    "/rebalance/queues": {"POST": Rule(administrator, rebalance)},
    "/reset": {"DELETE": Rule(administrator, reset_stats)},
    "/reset/{name}": {"DELETE": Rule(administrator, reset_stats)},
}
