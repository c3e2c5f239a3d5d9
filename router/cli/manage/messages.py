"""``leveret queue peek``, ``move``, ``replay`` and ``delete-messages``: commands for messages in a queue.

These paths of the management API are leveret's own. One request acts on a bounded number of messages, so that
it does not time out; these commands send as many requests as necessary.
"""

from collections.abc import Callable
from typing import Any

import click

from leveret.router.cli.api import Api, ObjectNotFound
from leveret.router.cli.consume import form_option
from leveret.router.cli.failure import Failure, WrongUsage
from leveret.router.cli.get import show_peeked
from leveret.router.cli.manage.common import changing, managed, one, report, vhost_option
from leveret.router.cli.peek import MOST
from leveret.router.cli.terminal import counted

AT_A_TIME = 10_000  # messages that one request acts on
SECONDS = 10  # with --rate: how long one request may take, since the API responds at its end


@click.command()
@click.argument("name", metavar="QUEUE")
@click.option(
    "-n",
    "--count",
    type=click.IntRange(1, MOST),
    default=10,
    show_default=True,
    metavar="N",
    help="How many messages.",
)
@click.option("--from", "start", type=click.IntRange(0), metavar="POSITION", help="Start at this position.")
@click.option("--selector", metavar="EXPRESSION", help='Only messages that match, such as "tries > 3".')
@click.option(
    "--truncate", type=click.IntRange(0), metavar="BYTES", help="Show at most this much of each body."
)
@form_option
@vhost_option
@managed
def peek(
    api: Api,
    *,
    name: str,
    count: int,
    start: int | None,
    selector: str | None,
    truncate: int | None,
    form: str,
    vhost: str,
) -> None:  # fmt: skip
    """Show messages of QUEUE and their positions. They stay in the queue and do not count as delivered."""
    query = {"from": start, "selector": selector, "truncate": truncate}
    show_peeked(api, vhost, name, count, form, **query)


def chosen(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that select messages, and limit their number and rate."""
    for option in (
        click.option(
            "--rate", type=click.IntRange(1, 100_000), metavar="N", help="At most N messages a second."
        ),
        click.option("--limit", type=click.IntRange(1), metavar="N", help="At most N messages."),
        click.option("--all", "everything", is_flag=True, help="All messages that are ready now."),
        click.option(
            "--selector", metavar="EXPRESSION", help='The messages that match, such as "tries > 3".'
        ),
        click.option(
            "--position", "positions", type=click.IntRange(0), multiple=True, metavar="N",
            help="The message at this position, as peek shows it. May be repeated.",
        ),
        click.argument("name", metavar="QUEUE"),
    ):  # fmt: skip
        command = option(command)
    return command


@click.command()
@chosen
@click.option("--to", "target", metavar="QUEUE", help="The queue that gets the messages.")
@click.option("--exchange", metavar="NAME", help="The exchange that routes the messages, in place of --to.")
@click.option("--routing-key", metavar="KEY", help="With --exchange: in place of each message's own key.")
@vhost_option
@changing
def move(
    api: Api, *, name: str, target: str | None, exchange: str | None, routing_key: str | None, vhost: str,
    **choice: Any,
) -> None:  # fmt: skip
    """Move messages of QUEUE to another queue, or publish them to an exchange.

    A message is removed from QUEUE after its copy is stored. A message that no other queue accepts stays.
    Select the messages with --position, --selector or --all.
    """
    if (target is None) == (exchange is None):
        raise click.UsageError("give either --to QUEUE or --exchange NAME")
    if target is not None:
        if routing_key is not None:
            raise click.UsageError("--routing-key goes with --exchange, not with --to")
        if target == name:
            raise WrongUsage("--to must name another queue than the one of the messages")
        one("queue", target, vhost, lambda: api.get("queues", vhost, target, columns="name"))
        body: dict[str, Any] = {"exchange": "", "routing_key": target}
        where = f"queue {target!r}"
    else:
        body = {"exchange": exchange} | ({} if routing_key is None else {"routing_key": routing_key})
        where = f"exchange {exchange or '(default)'!r}"
    done = act(api, vhost, name, "move", body, **choice)
    finish(done, f"moved {{}} from {name!r} to {where}", "no other queue accepts them")


@click.command()
@chosen
@vhost_option
@changing
def replay(api: Api, *, name: str, vhost: str, **choice: Any) -> None:
    """Send dead letters of QUEUE back to the queues where they died, without their dead-letter headers.

    Select the messages with --position, --selector or --all; --rate limits the load of the consumers. A
    message that is not a dead letter, or whose queue does not exist any more, stays.
    """
    done = act(api, vhost, name, "replay", {}, **choice)
    finish(
        done, f"replayed {{}} from {name!r}", "they are not dead letters, or their queue is deleted or full"
    )


@click.command("delete-messages")
@chosen
@vhost_option
@changing
def delete_messages(api: Api, *, name: str, vhost: str, **choice: Any) -> None:
    """Delete messages of QUEUE, selected with --position, --selector or --all."""
    done = act(api, vhost, name, "delete", {}, **choice)
    finish(done, f"deleted {{}} from {name!r}", "")


def act(
    api: Api,
    vhost: str,
    name: str,
    verb: str,
    body: dict[str, Any],
    *,
    positions: tuple[int, ...],
    selector: str | None,
    everything: bool,
    limit: int | None,
    rate: int | None,
) -> dict[str, int]:
    """Act on messages, and return how many were ``done``, ``unroutable`` and ``skipped``.

    Acts on no more messages than were ready at the start, so that new and requeued messages do not prolong
    the command. Raises Failure.
    """
    if bool(positions) + (selector is not None) + everything != 1:
        raise click.UsageError("select messages with one of --position, --selector and --all")
    found = one("queue", name, vhost, lambda: api.get("queues", vhost, name))
    left = found.get("messages_ready", 0) if limit is None else limit
    body = {
        **body,
        **({"positions": list(positions)} if positions else {}),
        **({"selector": selector} if selector is not None else {}),
        **({"all": True} if everything else {}),
        **({"rate": rate} if rate is not None else {}),
    }
    at_a_time = AT_A_TIME if rate is None else max(1, min(AT_A_TIME, rate * SECONDS))
    total = {"done": 0, "unroutable": 0, "skipped": 0}
    more = True
    while left > 0 and more:
        result = _request(api, vhost, name, verb, {**body, "limit": min(left, at_a_time)})
        total["done"] += result["done"]
        total["skipped"] += result["skipped"]
        total["unroutable"] = max(
            total["unroutable"], result["unroutable"]
        )  # they stay, and are counted again by the next request
        left -= result["done"]
        more = result["more"] and result["done"] > 0
    return total


def _request(api: Api, vhost: str, name: str, verb: str, body: dict[str, Any]) -> dict[str, Any]:
    try:
        result: dict[str, Any] = api.post("queues", vhost, name, "messages", verb, body=body)
    except ObjectNotFound as error:
        raise Failure(f"{error.message}; `leveret exchange list` shows the exchanges") from None
    return result


def finish(done: dict[str, int], sentence: str, why: str) -> None:
    """Report the result. Raises Failure if selected messages could not be moved."""
    report(sentence.format(counted(done["done"], "message")))
    if done["skipped"]:
        report(f"{counted(done['skipped'], 'message')} skipped: delivered to a consumer meanwhile")
    if done["unroutable"]:
        raise Failure(f"{counted(done['unroutable'], 'message')} left in place: {why}")
