"""``leveret bench``: measure the throughput and latency of this or any other AMQP 0-9-1 broker."""

import math
import os
import signal
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from leveret.protocol.json_text import encode_json
from leveret.router.cli.failure import Failure, WrongUsage
from leveret.router.cli.formats import format_option
from leveret.router.cli.lazy_group import LazyGroup

if TYPE_CHECKING:
    from leveret.router.bench.benchmark_run import BenchResult
    from leveret.router.bench.load import BenchTarget, Load

# Options that have an effect on a workload other than messages, or on a subcommand.
EVERYWHERE = {"url", "beside", "workload", "publishers", "seconds", "warm_up", "form", "as_json"}
TAKES = {
    "core": set[str](),
    "replies": EVERYWHERE | {"size", "kind", "profile"},
    "connections": EVERYWHERE,
}


@click.group(
    cls=LazyGroup,
    lazy={"core": "leveret.router.cli.bench_core:core", "outbox": "leveret.router.cli.bench_outbox:outbox"},
    invoke_without_command=True,
)
@click.option(
    "--url",
    default="amqp://guest:guest@127.0.0.1:5672/",
    envvar="LEVERET_URL",
    show_envvar=True,
    show_default=True,
    help="The broker.",
)
@click.option(
    "--beside",
    multiple=True,
    metavar="URL",
    help="Another broker to measure after it, in a column of its own; may be repeated.",
)
@click.option(
    "--workload",
    type=click.Choice(["messages", "replies", "connections"]),
    default="messages",
    show_default=True,
    help="Messages through queues; round trips over direct reply-to; connections opened and closed.",
)
@click.option("--size", default=100, show_default=True, metavar="N", help="Bytes of a body.")
@click.option(
    "--kind",
    type=click.Choice(["ragged", "varied", "same"]),
    default="ragged",
    show_default=True,
    help="Messages that differ, also in length; that differ in one length; that are all the same.",
)
@click.option(
    "--profile",
    type=click.Choice(["celery", "pika", "masstransit", "spring"]),
    default=None,
    help="Messages as this client sends them, in place of --kind and --size.",
)
@click.option(
    "--rate",
    default=0.0,
    show_default=True,
    metavar="N",
    help="Messages a second of all publishers; 0: all it can.",
)
@click.option("--persistent", is_flag=True, help="Persistent messages, durable queues.")
@click.option(
    "--confirm",
    default=0,
    show_default=True,
    metavar="N",
    help="Confirms, with a window of N for each queue; 0: none.",
)
@click.option(
    "--ack",
    default=0,
    show_default=True,
    metavar="N",
    help="One acknowledgement for N deliveries; 0: automatic.",
)
@click.option(
    "--prefetch",
    default=1000,
    show_default=True,
    metavar="N",
    help="Unacknowledged messages of a queue, with --ack.",
)
@click.option("--queues", default=1, show_default=True, metavar="N", help="Queues.")
@click.option(
    "--exchange",
    type=click.Choice(["default", "direct", "fanout", "topic", "headers", "selector"]),
    default="default",
    show_default=True,
    help="The exchange that is published to; selector: bindings have an x-selector, on leveret only.",
)
@click.option(
    "--bindings", default=0, show_default=True, metavar="N", help="Bindings in all; 0: one for each queue."
)
@click.option(
    "--new-keys", is_flag=True, help="A topic exchange gets each message under another routing key."
)
@click.option(
    "--publishers",
    default=1,
    show_default=True,
    metavar="N",
    help="Connections that publish, call, or come and go.",
)
@click.option("--consumers", default=1, show_default=True, metavar="N", help="Connections that consume.")
@click.option(
    "--processes",
    default=1,
    show_default=True,
    metavar="N",
    help="Processes of the generator on each side.",
)
@click.option(
    "--backlog",
    default=200_000,
    show_default=True,
    metavar="N",
    help="Messages that may wait, without --confirm.",
)
@click.option(
    "--count",
    default=0,
    show_default=True,
    metavar="N",
    help="Messages to each queue or exchange, in place of a time.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0, min_open=True),
    default=10.0,
    show_default=True,
    metavar="N",
    help="How long to measure.",
)
@click.option(
    "--warm-up",
    type=click.FloatRange(min=0),
    default=1.0,
    show_default=True,
    metavar="N",
    help="Seconds before measuring.",
)
@click.option("--ceiling", is_flag=True, help="Also measure the generator itself, against a sink.")
@format_option(("table", "json"), "A table for people, or JSON.")
@click.pass_context
def bench(
    context: click.Context,
    *,
    url: str,
    beside: tuple[str, ...],
    workload: str,
    size: int,
    kind: str,
    profile: str | None,
    rate: float,
    persistent: bool,
    confirm: int,
    ack: int,
    prefetch: int,
    queues: int,
    exchange: str,
    bindings: int,
    new_keys: bool,
    publishers: int,
    consumers: int,
    processes: int,
    backlog: int,
    count: int,
    seconds: float,
    warm_up: float,
    ceiling: bool,
    form: str,
) -> None:
    """Measure any AMQP 0-9-1 broker: throughput, and latency of messages.

    The run fails if a message was lost, duplicated or changed. Queues and exchanges are made for the run, and
    deleted. The run is given up after 30 seconds without any message.

    --beside measures other brokers with the same load, one after the other, and shows ratios.

    bench core measures the core of this leveret by itself.
    """
    if context.invoked_subcommand is not None:
        _check_options(context, context.invoked_subcommand, "subcommand")
        return
    _check_options(context, workload)
    if profile and context.get_parameter_source("size") is ParameterSource.COMMANDLINE:
        raise WrongUsage("--size has no effect on messages of a profile, which have their own sizes")
    import msgspec
    from rich.console import Console

    from leveret.router.bench import report, sink
    from leveret.router.bench.load import BenchError, BenchTarget, Load
    from leveret.router.bench.wire import check_target

    load = Load(
        size=size,
        kind=kind,
        profile=profile or "",
        persistent=persistent,
        window=confirm,
        rate=rate,
        publishers=publishers,
        consumers=consumers,
        processes=processes,
        queues=queues,
        exchange=exchange,
        bindings=bindings,
        new_keys=new_keys,
        ack=ack,
        prefetch=prefetch if ack else 0,
        backlog=backlog,
        count=count or math.inf,
        prefix=f"bench-{os.getpid()}",
    )
    try:
        targets = [BenchTarget.parse(each) for each in (url, *beside)]
        load.check()
        if not (publishers and consumers):
            raise BenchError("at least one publisher and one consumer are needed")
    except BenchError as error:
        raise WrongUsage(str(error)) from None
    results = []
    signal.signal(signal.SIGTERM, _leave)
    try:
        for target in targets:
            check_target(target)
        for target in targets:
            results.append(_run(workload, target, load, seconds, warm_up))
        top = sink.ceiling(load, min(seconds, 2.0)) if ceiling else None
    except BenchError as error:
        raise Failure(str(error)) from None
    names = [target.address for target in targets]
    if form == "json":
        settings = msgspec.to_builtins(load) | {"count": count or None}
        document = {"workload": workload, "url_host": names[0], "load": settings}
        document |= {"seconds": seconds, "result": results[0], "ceiling": top}
        others = zip(names[1:], results[1:], strict=True)
        document["beside"] = [
            {"url_host": name, "result": each, "ratio": report.ratio(results[0], each)}
            for name, each in others
        ]
        click.echo(msgspec.json.format(encode_json(document), indent=2).decode())
    else:
        without = load.without_stamps if workload == "messages" else ""
        Console().print(report.table(load, dict(zip(names, results, strict=True)), top, without))


def _run(workload: str, target: "BenchTarget", load: "Load", seconds: float, warm_up: float) -> "BenchResult":
    """Measure one broker."""
    from rich.console import Console

    from leveret.router.bench import benchmark_run, churn, replies, report

    if workload == "replies":
        return replies.bench_replies(target, load, seconds, warm_up)
    if workload == "connections":
        return churn.bench_connections(target, load, seconds, warm_up)
    with report.ProgressLine(Console(stderr=True), seconds) as progress:
        return benchmark_run.bench(target, load, seconds, warm_up, progress.watch)


def _leave(number: int, frame: object) -> None:
    """End the command on SIGTERM as on an error, so that its queues and exchanges are deleted."""
    raise SystemExit(128 + number)


def _check_options(context: click.Context, workload: str, what: str = "workload") -> None:
    """Raise WrongUsage for an option that has no effect on the workload or subcommand."""
    takes = TAKES.get(workload, context.params)
    for name in context.params:
        if name not in takes and context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise WrongUsage(f"--{name.replace('_', '-')} has no effect on the {what} {workload}")
