"""``leveret policy``: list, set and delete policies."""

import click

from leveret.router.cli.api import Api
from leveret.router.cli.assignments import parse_assignments
from leveret.router.cli.failure import WrongUsage
from leveret.router.cli.listing import Listing, list_options
from leveret.router.cli.manage.common import (
    any_vhost_option,
    changing,
    listed,
    managed,
    one,
    report,
    show_format_option,
    show_object,
    vhost_option,
    vhost_path,
    yes_option,
)
from leveret.router.cli.manage.policy_loss import confirm_policy, confirm_policy_deletion
from leveret.router.cli.table import Column

COLUMNS = (
    Column("vhost", "vhost", rank=3),
    Column("name", "name", named=True),
    Column("pattern", "pattern"),
    Column("apply to", "apply-to", rank=2),
    Column("priority", "priority", number=True, rank=1),
    Column("definition", "definition"),
)
APPLY_TO = ("all", "queues", "exchanges", "classic_queues", "quorum_queues", "streams")

operator_option = click.option(
    "--operator", is_flag=True, help="Operator policies, which users cannot exceed."
)


def _kind(operator: bool) -> str:
    return "operator-policies" if operator else "policies"


def _noun(operator: bool) -> str:
    return "operator policy" if operator else "policy"


@click.group()
def policy() -> None:
    """Show and change policies."""


@policy.command("list")
@operator_option
@any_vhost_option
@list_options(COLUMNS)
@managed
def list_policies(api: Api, operator: bool, vhost: str | None, listing: Listing) -> None:
    """List policies."""
    listing.show(lambda: listed(api, *vhost_path(_kind(operator), vhost)))


@policy.command()
@click.argument("name")
@operator_option
@vhost_option
@show_format_option
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
    "--priority",
    type=int,
    default=0,
    show_default=True,
    metavar="N",
    help="Of several matching policies, the highest applies.",
)
@yes_option
@operator_option
@vhost_option
@changing
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
    yes: bool,
) -> None:
    """Set a policy for the queues and exchanges whose names match the regular expression PATTERN.

    Settings are NAME=TEXT, or NAME:=JSON for a number, true, a list: max-length:=1000. The command warns of a
    policy that can delete messages or queues. If the policy deletes queues (expires) or existing messages,
    the command asks for confirmation; in a script use --yes.
    """
    for text in definition:
        if "=" not in text:
            raise WrongUsage(f"{text!r} is neither NAME=TEXT nor NAME:=JSON, such as max-length:=1000")
    body = {
        "pattern": pattern,
        "definition": parse_assignments(definition, "the definition"),
        "apply-to": apply_to,
        "priority": priority,
    }
    policy = {"vhost": vhost, "name": name, **body}
    confirm_policy(api, vhost, _kind(operator), policy, yes)
    created = one("vhost", vhost, None, lambda: api.create(_kind(operator), vhost, name, body=body))
    report(f"{_noun(operator)} {name!r} in {vhost!r}: {'set' if created else 'changed'}")


@policy.command()
@click.argument("name")
@yes_option
@operator_option
@vhost_option
@changing
def delete(api: Api, name: str, yes: bool, operator: bool, vhost: str) -> None:
    """Delete a policy.

    Another policy may then apply to the queues. If it deletes queues (expires) or existing messages, the
    command asks for confirmation; in a script use --yes.
    """
    confirm_policy_deletion(api, vhost, _kind(operator), name, yes)
    one("policy", name, vhost, lambda: api.delete(_kind(operator), vhost, name))
    report(f"{_noun(operator)} {name!r} in {vhost!r}: deleted")
