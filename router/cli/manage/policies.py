"""``leveret policy``."""

import click

from router.cli.api import Api
from router.cli.failure import WrongUsage
from router.cli.manage.common import (
    Column,
    any_vhost_option,
    format_option,
    listed,
    managed,
    one,
    parse_arguments,
    show_list,
    show_object,
    vhost_option,
    vhost_path,
)

COLUMNS = (
    Column("vhost", "vhost"),
    Column("name", "name"),
    Column("pattern", "pattern"),
    Column("apply to", "apply-to"),
    Column("priority", "priority", number=True),
    Column("definition", "definition"),
)
APPLY_TO = ("all", "queues", "exchanges", "classic_queues", "quorum_queues", "streams")

operator_option = click.option("--operator", is_flag=True, help="Of operator policies.")


def _kind(operator: bool) -> str:
    return "operator-policies" if operator else "policies"


@click.group()
def policy() -> None:
    """Show and change policies."""


@policy.command("list")
@operator_option
@any_vhost_option
@format_option
@managed
def list_policies(api: Api, operator: bool, vhost: str | None, form: str) -> None:
    """List policies."""
    show_list(listed(api, *vhost_path(_kind(operator), vhost)), COLUMNS, form)


@policy.command()
@click.argument("name")
@operator_option
@vhost_option
@format_option
@managed
def show(api: Api, name: str, operator: bool, vhost: str, form: str) -> None:
    """Show a policy."""
    show_object(one("policy", name, vhost, lambda: api.get(_kind(operator), vhost, name)), form)


@policy.command()
@click.argument("name")
@click.argument("pattern")
@click.argument("definition", nargs=-1, required=True, metavar="NAME=TEXT...")
@click.option("--apply-to", type=click.Choice(APPLY_TO), default="all", show_default=True)
@click.option(
    "--priority", type=int, default=0, show_default=True, metavar="N", help="The highest one counts."
)
@operator_option
@vhost_option
@managed
def declare(
    api: Api,
    *,
    name: str,
    pattern: str,
    definition: tuple[str, ...],
    apply_to: str,
    priority: int,
    operator: bool,
    vhost: str,
) -> None:
    """Make a policy, or change one, for what has a name that matches PATTERN.

    What it sets is NAME=TEXT, or NAME:=JSON for a number, true, a list: max-length:=1000.
    """
    for text in definition:
        if "=" not in text:
            raise WrongUsage(f"{text!r} is neither NAME=TEXT nor NAME:=JSON, as max-length:=1000")
    body = {
        "pattern": pattern,
        "definition": parse_arguments(definition, "the definition"),
        "apply-to": apply_to,
        "priority": priority,
    }
    one("vhost", vhost, None, lambda: api.put(_kind(operator), vhost, name, body=body))


@policy.command()
@click.argument("name")
@operator_option
@vhost_option
@managed
def delete(api: Api, name: str, operator: bool, vhost: str) -> None:
    """Delete a policy."""
    one("policy", name, vhost, lambda: api.delete(_kind(operator), vhost, name))
