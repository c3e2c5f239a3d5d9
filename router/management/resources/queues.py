"""API of queues: list, show, declare, purge, delete."""

from datetime import UTC, datetime
from functools import partial

from leveret.protocol.http import Response
from leveret.router.management.access import accessible_vhosts, administrator_in_vhost, in_vhost, management
from leveret.router.management.body import boolean, demand, table, text
from leveret.router.management.call import Call, Rule, Rules
from leveret.router.management.clients import connections
from leveret.router.management.errors import bad_request, not_found
from leveret.router.management.json_values import Object, answer, empty_response
from leveret.router.management.placeholder_fields import backing_queue_status, process
from leveret.router.management.query import columns_of, listing, narrowed, with_list
from leveret.router.management.resources.consumers import show_consumer
from leveret.router.management.statistics.rate_values import lengths, message_stats, window_of
from leveret.router.management.statistics.rates import QUEUE, Series, of_queue
from leveret.router.queue.interface import AnyQueue
from leveret.router.queue.queue import Queue
from leveret.router.values.field_values import plain
from leveret.router.vhost.policies import merge_definitions
from leveret.router.vhost.vhost import VHost
from leveret.router.web.offloaded import finished
from leveret.router.web.response_steps import ResponseSteps
from leveret.router.web.routes import Answer

# Not counted for single queues; present for clients that decode into fixed types.
NOT_COUNTED = {"message_bytes_persistent": 0, "message_bytes_unacknowledged": 0, "messages_persistent": 0}


def declared(call: Call, vhost: VHost, queue: AnyQueue) -> Object:
    """Return the declared fields, without any that have to be counted."""
    return {
        "arguments": plain(queue.arguments),
        "auto_delete": queue.auto_delete,
        "durable": queue.durable,
        "exclusive": queue.owner is not None,
        "name": queue.name,
        "node": call.context.node.name,
        "state": "running",
        "type": queue.settings.queue_type,
        "vhost": vhost.name,
    }


def show_queue(call: Call, vhost: VHost, queue: AnyQueue) -> Object:
    """Return a queue as an object."""
    series, numbers = call.context.sampler.of(queue), of_queue(queue)
    kind = queue.settings.queue_type
    policy = vhost.policies.policy("queues", queue.name, kind)
    operator_policy = vhost.policies.operator_policy("queues", queue.name, kind)
    consumers = list(queue.consumers)
    capacity = consumer_capacity(queue)
    exclusive = next((consumer.tag for consumer in consumers if consumer.exclusive), None)
    active = queue.consumers.active if queue.settings.single_active_consumer else None
    document = {
        **declared(call, vhost, queue),
        "consumer_capacity": capacity,
        "consumer_utilisation": capacity,
        "consumers": len(consumers),
        "effective_policy_definition": plain(merge_definitions(policy, operator_policy)),
        "operator_policy": operator_policy.name if operator_policy is not None else None,
        "policy": policy.name if policy is not None else None,
        **lengths(QUEUE, numbers, series, window_of(call, "lengths")),
        **message_stats(QUEUE, numbers, series, window_of(call, "msg_rates")),
        **_sizes(queue),
        **_idleness(call, series),
        **process(),
    }
    node = call.context.node.name
    if isinstance(queue, Queue):
        document["leveret"] = call.context.statistics.of_queue(queue, series)
        document |= NOT_COUNTED
        if kind == "classic":
            document["backing_queue_status"] = backing_queue_status(len(queue.ready), queue.next_position)
    if kind == "classic":
        document["exclusive_consumer_tag"] = exclusive
        document["recoverable_slaves"] = None
        document["single_active_consumer_tag"] = active.tag if active is not None else None
    else:
        document["single_active_consumer_ctag"] = active.tag if active is not None else None
        document["leader"] = node
        document["members"] = document["online"] = [node]
    if kind == "quorum":
        document |= {"message_bytes_dlx": 0, "messages_dlx": 0, "open_files": {node: 0}}
    if kind == "stream":
        document["readers"] = {node: len(consumers)}
    return document


MESSAGE = 310  # bytes of memory of a message besides its body, measured with bodies of 10 to 1,000


def memory_of(queue: AnyQueue) -> int:
    """Estimate the memory of a queue's messages in bytes."""
    ready, size = len(queue.ready), queue.bytes
    if isinstance(queue, Queue):
        ready, size = ready - queue.ready.away, size - queue.ready.away_size
    return size + MESSAGE * ready


def consumer_capacity(queue: AnyQueue) -> float:
    """Return 1 if a consumer could take a message at once, else 0."""
    if not len(queue.consumers):
        return 0
    return 1.0 if queue.consumers.line() is not None else 0.0


def _sizes(queue: AnyQueue) -> Object:
    """Return the bytes of bodies, in memory and only on disk."""
    away = away_size = 0
    if isinstance(queue, Queue):
        away, away_size = queue.ready.away, queue.ready.away_size
    ready = len(queue.ready)
    document: Object = {
        "memory": memory_of(queue),
        "message_bytes": queue.bytes,
        "message_bytes_ready": queue.bytes,
        "message_bytes_ram": queue.bytes - away_size,
        "messages_ram": ready - away + queue.unacked,
    }
    if queue.settings.queue_type == "classic":
        document |= {
            "message_bytes_paged_out": away_size,
            "messages_paged_out": away,
            "messages_ready_ram": ready - away,
            "messages_unacknowledged_ram": queue.unacked,
            "head_message_timestamp": head_timestamp(queue),
        }
    return document


def head_timestamp(queue: AnyQueue) -> int | None:
    """Return the timestamp property of the first ready message."""
    head = queue.ready.head() if isinstance(queue, Queue) else None
    return head.message.properties.timestamp if head is not None else None


def _idleness(call: Call, series: Series) -> Object:
    """Return ``idle_since``, if nothing changed in the last two samples."""
    if len(series.points) < 2 or series.changed == series.points[-1][0]:
        return {}
    since = datetime.fromtimestamp((series.changed + call.epoch) / 1000, UTC)
    return {"idle_since": since.isoformat(timespec="milliseconds")}


def _listed(call: Call, vhosts: list[VHost]) -> ResponseSteps[Response]:
    found = ((vhost, queue) for vhost in vhosts for queue in list(vhost.queues.values()))
    show = show_queue
    if call.query.get("disable_stats") == "true":
        show = _with_totals if call.query.get("enable_queue_totals") == "true" else declared
    return listing(
        call,
        found,
        lambda each: show(call, *each),
        name_of=lambda each: each[1].name,
        key_of=lambda each: {"vhost": each[0].name, "name": each[1].name},
    )


def _with_totals(call: Call, vhost: VHost, queue: AnyQueue) -> Object:
    ready, unacked = len(queue.ready), queue.unacked
    totals = {"messages": ready + unacked, "messages_ready": ready, "messages_unacknowledged": unacked}
    return declared(call, vhost, queue) | totals


def list_queues(call: Call) -> ResponseSteps[Response]:
    return _listed(call, accessible_vhosts(call))


def list_in_vhost(call: Call) -> ResponseSteps[Response]:
    return _listed(call, [call.vhost])


def find_queue(call: Call) -> AnyQueue:
    """Return the queue of the path. Raises HttpError 404."""
    found = call.vhost.queues.get(call["name"])
    if found is None:
        raise not_found()
    return found


def show_one(call: Call) -> Answer:
    queue, vhost = find_queue(call), call.vhost
    if call.query.get("disable_stats") == "true":
        document = declared(call, vhost, queue)
    else:
        document = show_queue(call, vhost, queue)
        if queue.owner is not None:
            document["owner_pid_details"] = _owner(call, queue)
        document["deliveries"] = document["incoming"] = []  # as in RabbitMQ with rates_mode basic
        consumers = list(queue.consumers)
        return with_list(call, document, "consumer_details", consumers, partial(show_consumer, call))
    return answer(narrowed(document, columns_of(call.query)))


def _owner(call: Call, queue: AnyQueue) -> Object:
    """Return the connection that owns an exclusive queue."""
    for connection in connections(call.broker):
        if connection is queue.owner:
            host, port = connection.ends.peer
            return {"name": connection.ends.name, "peer_host": host, "peer_port": port}
    return {}


def declare(call: Call) -> Response:
    """Declare a queue: 201 if it is new, 204 if it exists."""
    body = call.body
    if "node" in body and body["node"] not in (call.context.node.name, None, ""):
        raise bad_request(f"Node {text(body, 'node')} could not be contacted")
    new = call["name"] not in call.vhost.queues
    call.client().topology.declare_queue(
        call["name"],
        durable=boolean(body, "durable"),
        exclusive=False,
        auto_delete=boolean(body, "auto_delete"),
        arguments=table(body, "arguments"),
    )
    return empty_response(201 if new else 204)


def delete(call: Call) -> ResponseSteps[Response]:
    name, topology = find_queue(call).name, call.client().topology
    if_unused, if_empty = (call.query.get(flag) == "true" for flag in ("if-unused", "if-empty"))
    yield from finished(topology.loosen_queue(name, if_unused=if_unused, if_empty=if_empty))
    topology.delete_queue(name, if_unused=if_unused, if_empty=if_empty)
    return empty_response()


def purge(call: Call) -> Response:
    call.client().topology.purge_queue(find_queue(call).name)
    return empty_response()


def act(call: Call) -> Response:
    """Accept RabbitMQ's actions on mirrored queues, which have no effect here."""
    find_queue(call)
    demand(call.body, ["action"])
    action = text(call.body, "action")
    if action not in ("sync", "cancel_sync"):
        raise bad_request(f"unknown: {action}")
    return empty_response()


RULES: Rules = {
    "/queues": {"GET": Rule(management, list_queues)},
    "/queues/{vhost}": {"GET": Rule(in_vhost, list_in_vhost)},
    "/queues/{vhost}/{name}": {
        "GET": Rule(in_vhost, show_one),
        "PUT": Rule(in_vhost, declare),
        "DELETE": Rule(in_vhost, delete),
    },
    "/queues/{vhost}/{name}/contents": {"DELETE": Rule(in_vhost, purge)},
    "/queues/{vhost}/{name}/actions": {"POST": Rule(administrator_in_vhost, act)},
}
