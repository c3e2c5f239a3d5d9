"""``leveret user`` and ``leveret permission``: list and change users and their permissions."""

import sys
from dataclasses import replace
from typing import Any

import click

from leveret.router.cli.api import Api, ObjectNotFound
from leveret.router.cli.failure import Failure, WrongUsage
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
)
from leveret.router.cli.table import Column, Object


def _tags(row: Any) -> str:
    """Format tags; RabbitMQ before 3.9 has a text with commas here."""
    tags = row.get("tags")
    return tags if isinstance(tags, str) else ", ".join(tags or ())


USERS = (Column("name", "name", named=True), Column("tags", _tags))
PERMISSIONS = (
    Column("vhost", "vhost"),
    Column("user", "user", named=True),
    Column("configure", "configure"),
    Column("write", "write"),
    Column("read", "read"),
)
TOPIC_PERMISSIONS = (
    Column("vhost", "vhost"),
    Column("user", "user", named=True),
    Column("exchange", "exchange"),
    Column("write", "write"),
    Column("read", "read"),
)


@click.group()
def user() -> None:
    """Show and change users."""


@user.command("list")
@list_options(USERS)
@managed
def list_users(api: Api, listing: Listing) -> None:
    """List users."""
    listing.show(lambda: listed(api, "users"))


@user.command("show")
@click.argument("name")
@show_format_option
@managed
def show_user(api: Api, name: str, form: str) -> None:
    """Show a user and its permissions."""
    found = one("user", name, None, lambda: api.get("users", name))
    if form == "table":
        hidden = ("password_hash", "hashing_algorithm")
        show_object({key: value for key, value in found.items() if key not in hidden}, form)
        Listing(PERMISSIONS).show(lambda: listed(api, "users", name, "permissions"))
    else:
        show_object({**found, "permissions": api.get("users", name, "permissions")}, form)


@user.command("declare")
@click.argument("name")
@click.option("--tags", metavar="TAG,TAG", help="Such as administrator, monitoring, policymaker, management.")
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input.")
@click.option("--password-hash", metavar="HASH", help="A hash in the format of RabbitMQ's definitions.")
@click.option("--no-password", is_flag=True, help="Disable logins with a password.")
@changing
def declare_user(
    api: Api,
    *,
    name: str,
    tags: str | None,
    password_stdin: bool,
    password_hash: str | None,
    no_password: bool,
) -> None:
    """Create a user, or change one.

    The command asks for the password. Given only --tags, an existing user keeps its password.
    """
    if password_stdin + (password_hash is not None) + no_password > 1:
        raise WrongUsage("give only one of --password-stdin, --password-hash and --no-password")
    body: dict[str, Any] = {}
    try:
        found = api.get("users", name)
    except ObjectNotFound:
        found = None
    if password_stdin:
        body["password"] = sys.stdin.read().removesuffix("\n")
    elif password_hash is not None or no_password:
        body["password_hash"] = password_hash or ""
    elif found is not None and tags is not None and found.get("password_hash"):
        body["password_hash"] = found["password_hash"]
        body["hashing_algorithm"] = found.get("hashing_algorithm")
    elif sys.stdin.isatty():
        body["password"] = click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    else:
        raise WrongUsage(f"a password for {name!r} is needed: --password-stdin reads it from standard input")
    if body.get("password") == "":
        raise Failure("the password is empty; --no-password creates a user without a password login")
    body["tags"] = tags if tags is not None else _tags(found or {}).replace(" ", "")
    created = api.create("users", name, body=body)
    report(f"user {name!r}: {'created' if created else 'changed'}")


@user.command("delete")
@click.argument("name")
@changing
def delete_user(api: Api, name: str) -> None:
    """Delete a user; its connections are closed."""
    one("user", name, None, lambda: api.delete("users", name))
    report(f"user {name!r}: deleted")


@click.group()
def permission() -> None:
    """Show and change the permissions of users.

    Permissions are regular expressions for the names of queues and exchanges; "" allows nothing.
    """


@permission.command("list")
@click.option("--user", "name", metavar="NAME", help="Only permissions of this user.")
@click.option("--topic", is_flag=True, help="Permissions for routing keys of topic exchanges.")
@any_vhost_option
@list_options(TOPIC_PERMISSIONS[:3] + PERMISSIONS[2:])
@managed
def list_permissions(api: Api, name: str | None, topic: bool, vhost: str | None, listing: Listing) -> None:
    """List permissions."""

    def fetch() -> list[Object]:
        rows = api.get("topic-permissions" if topic else "permissions")
        return [row for row in rows if vhost in (None, row["vhost"]) and name in (None, row["user"])]

    replace(listing, columns=TOPIC_PERMISSIONS if topic else PERMISSIONS).show(fetch)


@permission.command("set")
@click.argument("name", metavar="USER")
@click.option("--configure", default="", metavar="PATTERN", help="Names the user may declare and delete.")
@click.option(
    "--write", default="", metavar="PATTERN", help="Exchanges to publish to, queues and exchanges to bind."
)
@click.option("--read", default="", metavar="PATTERN", help="Queues to consume from, exchanges to bind to.")
@click.option("--topic", "exchange", metavar="EXCHANGE", help="For routing keys of this topic exchange.")
@vhost_option
@changing
def set_permission(
    api: Api, *, name: str, configure: str, write: str, read: str, exchange: str | None, vhost: str
) -> None:
    """Let USER open a virtual host, and set its permissions there; an omitted pattern allows nothing."""
    body = {"write": write, "read": read}
    if exchange is not None:
        if configure:
            raise WrongUsage("--configure cannot be combined with --topic")
        path, body = "topic-permissions", {**body, "exchange": exchange}
    else:
        path, body = "permissions", {**body, "configure": configure}
    try:
        api.put(path, vhost, name, body=body)
    except (ObjectNotFound, Failure) as error:
        if isinstance(error, ObjectNotFound) or "not_found" in error.message or "Not found" in error.message:
            raise Failure(f"there is no user {name!r}, or no virtual host {vhost!r}") from None
        raise
    report(f"permissions of user {name!r} in {vhost!r}: set")


@permission.command("delete")
@click.argument("name", metavar="USER")
@click.option("--topic", is_flag=True, help="Permissions for routing keys.")
@vhost_option
@changing
def delete_permission(api: Api, name: str, topic: bool, vhost: str) -> None:
    """Delete the permissions of USER in a virtual host, which it cannot open any more."""
    path = "topic-permissions" if topic else "permissions"
    one("permission", name, vhost, lambda: api.delete(path, vhost, name))
    report(f"permissions of user {name!r} in {vhost!r}: deleted")
