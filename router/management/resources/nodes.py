"""API of the node: its properties and use of resources, its memory, and login attempts."""

import time
from typing import TYPE_CHECKING

from leveret.protocol.http import Response
from leveret.router.management.access import monitor
from leveret.router.management.call import Call, Rule, Rules
from leveret.router.management.errors import not_found
from leveret.router.management.json_values import Object, answer, empty_response
from leveret.router.management.node import Measurements
from leveret.router.management.placeholder_fields import METRICS_GC, NODE, with_zeros
from leveret.router.management.query import columns_of, narrowed
from leveret.router.management.resources.overview import contexts, exchange_types
from leveret.router.management.statistics import memory
from leveret.router.management.statistics.rate_values import with_rates
from leveret.router.management.statistics.rates import CHURN, NODE_USE, of_churn, of_node
from leveret.router.values.counters import SET_ASIDE
from leveret.router.web.response_steps import ResponseSteps

if TYPE_CHECKING:
    from leveret.router.cluster.state import ClusterState

# Plugins of RabbitMQ whose features are built in here.
PLUGINS = ("rabbitmq_management", "rabbitmq_prometheus", "rabbitmq_stomp", "rabbitmq_web_stomp")


def node(call: Call) -> Object:
    """Return the node as an object; fields of the Erlang VM are zero."""
    known, measured = call.context.node, call.context.node.measured()
    raised = call.broker.alarms.raised
    series = call.context.sampler
    return {
        "partitions": [],
        "os_pid": str(known.pid),
        "fd_total": measured.files_max,
        "sockets_total": measured.files_max,
        "mem_limit": measured.memory_limit,
        "mem_alarm": "memory" in raised,
        "disk_free_limit": measured.disk_limit,
        "disk_free_alarm": "disk" in raised,
        "leveret_set_aside": {kind: call.broker.set_aside[kind] for kind in SET_ASIDE},
        "proc_total": measured.threads_max,
        "rates_mode": "basic",
        "uptime": known.uptime(),
        "run_queue": 0,
        "processors": known.processors,
        "exchange_types": exchange_types(),
        "auth_mechanisms": [
            {"name": name, "description": description, "enabled": True}
            for name, description in (
                ("PLAIN", "SASL PLAIN authentication mechanism"),
                ("AMQPLAIN", "QPid AMQPLAIN mechanism"),
            )
        ],
        "applications": [{"name": "leveret", "description": "leveret", "version": known.version}],
        "contexts": contexts(call),
        "log_files": ["<stderr>"],
        "db_dir": call.broker.settings.storage,
        "config_files": [],
        "net_ticktime": 0,
        "enabled_plugins": list(PLUGINS),
        "mem_calculation_strategy": "rss",
        "ra_open_file_metrics": {"ra_log_wal": 0, "ra_log_segment_writer": 0},
        "name": known.name,
        "type": "disc" if measured.disk_free is not None else "ram",
        "running": True,
        **with_rates(NODE_USE, of_node(measured), series.node),
        **with_zeros(NODE),
        **with_rates(CHURN, of_churn(call.broker), series.total),
        "cluster_links": [],
        "metrics_gc_queue_length": METRICS_GC,
        **cluster(known.cluster),
    }


def cluster(state: "ClusterState | None") -> Object:
    """Return the state of a broker in a cluster; nothing for a broker alone."""
    if state is None:
        return {}
    now = time.monotonic()
    numbers = {each.name: each.value for each in state.measurements(now) if each.name != "active"}
    return {
        "leveret_cluster": {
            "node": state.node,
            "advertise": state.advertise,
            "role": state.role.value,
            **numbers,
            "standbys": list(state.standbys),
        }
    }


def list_nodes(call: Call) -> Response:
    return answer([narrowed(node(call), columns_of(call.query))])


def _this_node(call: Call) -> Measurements:
    """Return the measurements of the node that the path names. HttpError 404 if it is not this node."""
    if call["name"] != call.context.node.name:
        raise not_found()
    return call.context.node.measured()


def show_node(call: Call) -> ResponseSteps[Response]:
    """Show a node, with its memory by category for ``memory=true``."""
    measured = _this_node(call)
    shown = node(call)
    if call.query.get("memory") == "true":
        shown["memory"] = yield from _memory(call, measured)
    return answer(narrowed(shown, columns_of(call.query)))


def show_memory(call: Call) -> ResponseSteps[Response]:
    """Show the memory of the process by category."""
    return answer({"memory": (yield from _memory(call, _this_node(call)))})


def _memory(call: Call, measured: Measurements) -> ResponseSteps[Object]:
    total = measured.memory
    owners = yield from memory.owners(call.context)
    sums = {"rss": total, "allocated": total, "erlang": total}
    return {**memory.parts(owners), "strategy": "rss", "total": sums, "leveret": owners}


def show_relative_memory(call: Call) -> ResponseSteps[Response]:
    """Show the memory by category in percent, rounded up as in RabbitMQ."""
    measured = _this_node(call)
    total = measured.memory
    parts = memory.parts((yield from memory.owners(call.context)))
    return answer({"memory": {"total": 100, **memory.percentages(parts, total)}})


# -- login attempts ------------------------------------------------------------------------------------------


def show_attempts(call: Call) -> Response:
    """Show the number of login attempts by protocol."""
    _this_node(call)
    return answer(
        [
            {
                "protocol": protocol,
                "auth_attempts": count.succeeded + count.failed,
                "auth_attempts_failed": count.failed,
                "auth_attempts_succeeded": count.succeeded,
            }
            for protocol, count in call.broker.logins.attempts.items()
        ]
    )


def show_attempts_by_source(call: Call) -> Response:
    """Show login attempts by address and user: none, as in RabbitMQ with its default configuration."""
    _this_node(call)
    return answer([])


def reset_attempts(call: Call) -> Response:
    """Reset the counters of login attempts."""
    _this_node(call)
    call.broker.logins.attempts.clear()
    return empty_response()


def reset_attempts_by_source(call: Call) -> Response:
    _this_node(call)
    return empty_response()


RULES: Rules = {
    "/nodes": {"GET": Rule(monitor, list_nodes)},
    "/nodes/{name}": {"GET": Rule(monitor, show_node)},
    "/nodes/{name}/memory": {"GET": Rule(monitor, show_memory)},
    "/nodes/{name}/memory/relative": {"GET": Rule(monitor, show_relative_memory)},
    "/auth/attempts/{name}": {"GET": Rule(monitor, show_attempts), "DELETE": Rule(monitor, reset_attempts)},
    "/auth/attempts/{name}/source": {
        "GET": Rule(monitor, show_attempts_by_source),
        "DELETE": Rule(monitor, reset_attempts_by_source),
    },
}
