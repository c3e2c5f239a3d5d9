"""``leveret status``: the broker's version, totals, rates, nodes and alarms on one page."""

from typing import Any

import click

from leveret.router.cli.api import Api
from leveret.router.cli.manage.common import managed, show_format_option, show_json
from leveret.router.cli.table import Object, at, shown
from leveret.router.cli.terminal import counted, printable

SIZES = ("B", "KiB", "MiB", "GiB", "TiB")


@click.command()
@show_format_option
@managed
def status(api: Api, form: str) -> None:
    """Show the broker's version, totals, rates, memory, disk space and alarms."""
    found, nodes = api.get("overview"), api.get("nodes")
    if form == "json":
        show_json({**found, "nodes": nodes})
        return
    for line in [*lines(found), *(line for node in nodes for line in node_lines(node))]:
        click.echo(line)


def lines(found: Object) -> list[str]:
    """Return the lines about the whole broker: product, totals, rates, listeners."""
    messages, objects = found.get("queue_totals") or {}, found.get("object_totals") or {}
    rates = ((name, at(found, f"message_stats.{key}_details.rate")) for name, key in RATES)
    listeners = sorted({f"{each['protocol']} {each['port']}" for each in found.get("listeners", ())})
    return [
        printable(f"{product(found)}, cluster {found.get('cluster_name', '')}"),
        "messages: " + ", ".join(f"{messages.get(key, 0)} {name}" for name, key in MESSAGES),
        "rates: " + ", ".join(f"{name} {shown(float(rate or 0))}/s" for name, rate in rates),
        "objects: " + ", ".join(counted(objects.get(name, 0), name[:-1]) for name in OBJECTS),
        "listeners: " + ", ".join(map(printable, listeners)),
    ]


def product(overview: Object) -> str:
    """Return name and version of the broker. leveret presents itself to clients as RabbitMQ."""
    name = overview.get("product_name") or "RabbitMQ"
    version = overview.get("product_version") or overview.get("rabbitmq_version")
    own = overview.get("leveret_version")
    return f"{name} {version}" if own is None else f"leveret {own} (speaks to clients as {name} {version})"


MESSAGES = (("ready", "messages_ready"), ("unacked", "messages_unacknowledged"), ("in all", "messages"))
RATES = (("published", "publish"), ("confirmed", "confirm"), ("delivered", "deliver_get"), ("acked", "ack"))
SEE_LOG = "see the broker's log or 'leveret store check'"
ALARMS = (("memory", "mem_alarm"), ("disk space", "disk_free_alarm"))
OBJECTS = ("connections", "channels", "consumers", "queues", "exchanges")


def node_lines(node: Object) -> list[str]:
    """Return the lines about a node: its use of resources, and its alarms."""
    name = printable(node["name"])
    if not node.get("running"):
        return [f"node {name}: not running"]
    free = node.get("disk_free")
    disk = f"disk {_size(free)} free, " if free or node.get("disk_free_alarm") else ""  # 0: no data directory
    lines = [
        f"node {name}: up {_span(node.get('uptime', 0))}, memory {_size(node.get('mem_used'))} of "
        f"{_size(node.get('mem_limit'))}, {disk}"
        f"files {node.get('fd_used', 0)} of {node.get('fd_total', 0)}, sockets {node.get('sockets_used', 0)}"
    ]
    if cluster := node.get("leveret_cluster"):
        standbys = ", ".join(map(printable, cluster["standbys"])) or "none: no other broker can take over"
        lines.append(
            f"cluster: {printable(cluster['node'])} is {cluster['role']} since take-over {cluster['epoch']}, "
            f"last commit {cluster.get('last_commit_age_seconds', 0):.1f} s ago, standby {standbys}"
        )
    alarms = [what for what, key in ALARMS if node.get(key)]
    if alarms:
        lines.append(f"ALARM: {' and '.join(alarms)} running short: publishers are blocked")
    counts = {kind: count for kind, count in (node.get("leveret_set_aside") or {}).items() if count}
    if counts:
        summary = ", ".join(counted(count, kind.removesuffix("s")) for kind, count in counts.items())
        lines.append(f"SET ASIDE: {summary} in the data directory could not be read; {SEE_LOG}")
    return lines


def _size(value: Any) -> str:
    """Format bytes in the unit that gives a short number."""
    if not isinstance(value, int | float):
        return "unknown"
    size, unit = float(value), 0
    while size >= 1024 and unit < len(SIZES) - 1:
        size, unit = size / 1024, unit + 1
    return f"{size:.0f} {SIZES[unit]}" if unit == 0 or size >= 10 else f"{size:.1f} {SIZES[unit]}"


def _span(ms: int) -> str:
    """Format a duration in its two largest units."""
    minutes, seconds = divmod(ms // 1000, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [(days, "d"), (hours, "h"), (minutes, "m"), (seconds, "s")]
    while len(parts) > 1 and not parts[0][0]:
        parts.pop(0)
    return " ".join(f"{number}{unit}" for number, unit in parts[:2])
