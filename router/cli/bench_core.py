"""``leveret bench core``: measure the CPU time that a message costs in the core of this leveret."""

from collections.abc import Iterable

import click

from leveret.protocol.json_text import encode_json
from leveret.router.cli.failure import Failure, WrongUsage
from leveret.router.cli.formats import format_option

HEAD = (
    "CPU time of a message in us: the least of {passes} passes of about {count:,} messages, without sockets."
)
FOOT = "Messages that are all the same are an upper bound: no client sends them."


@click.command()
@click.option(
    "--workload", "chosen", multiple=True, metavar="NAME", help="Measure only this one; may be repeated."
)
@click.option(
    "--kind", "kinds", multiple=True, metavar="KIND", help="Only this kind of traffic; may be repeated."
)
@click.option(
    "--profile", "profiles", multiple=True, metavar="NAME", help="Messages of this client; may be repeated."
)
@click.option(
    "--passes", type=click.IntRange(1), default=15, show_default=True, metavar="N", help="Passes of each."
)
@click.option("--list", "listed", is_flag=True, help="Show the workloads and measure nothing.")
@format_option(("table", "json"), "A table for people, or JSON.")
def core(
    chosen: tuple[str, ...],
    kinds: tuple[str, ...],
    profiles: tuple[str, ...],
    *,
    passes: int,
    listed: bool,
    form: str,
) -> None:
    """Measure the core of this leveret, without a broker.

    The bytes of clients go through a connection, the exchanges, the queues and the journal of a broker in
    this process, up to the bytes that are sent to clients. Nothing is written to a disk, and no socket is
    used.

    The CPU time is steadier than a rate on a busy machine. Compare versions of leveret on the same machine.
    """
    import msgspec

    from leveret.router.bench.load import KINDS, PROFILES, BenchError
    from leveret.router.core_bench.measure import measure
    from leveret.router.core_bench.workloads import MESSAGES, WORKLOADS

    _check_names("workload", chosen, WORKLOADS)
    _check_names("kind", kinds, KINDS)
    _check_names("profile", profiles, PROFILES)
    if listed:
        for name, workload in WORKLOADS.items():
            click.echo(f"{name:13} {workload.title}")
        return
    columns = list(kinds + profiles or KINDS)
    found: dict[str, dict[str, float]] = {}
    if form == "table":
        click.echo(HEAD.format(passes=passes, count=MESSAGES))
        click.echo(f"\n{'':71}" + "".join(f"{kind:>12}" for kind in columns))
    for name, workload in WORKLOADS.items():
        if name not in (chosen or WORKLOADS):
            continue
        if form == "table":
            click.echo(f"{name:13} {workload.title:57}", nl=False)
        found[name] = {}
        for kind in columns:
            try:
                found[name][kind] = round(measure(workload, kind, passes), 3)
            except BenchError as error:
                raise Failure(f"{name}, {kind}: {error}") from None
            if form == "table":
                click.echo(f"{found[name][kind]:12.2f}", nl=False)
        if form == "table":
            click.echo()
    if form == "json":
        document = {"passes": passes, "unit": "us of CPU time per message", "workloads": found}
        click.echo(msgspec.json.format(encode_json(document), indent=2).decode())
    elif "same" in columns:
        click.echo(f"\n{FOOT}")


def _check_names(option: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Raise WrongUsage for a name that is not known."""
    names = list(known)
    for name in given:
        if name not in names:
            raise WrongUsage(f"--{option} {name}: must be one of {', '.join(names)}")
