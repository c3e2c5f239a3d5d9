"""``leveret definitions``: export and import everything but messages, in RabbitMQ's format."""

import json
import os
import stat
import sys
import tempfile
from contextlib import suppress
from typing import Any, BinaryIO
from urllib.parse import unquote

import click

from leveret.protocol.json_text import dump_json
from leveret.router.cli.amqp import notice
from leveret.router.cli.api import Api
from leveret.router.cli.failure import Failure, WrongUsage
from leveret.router.cli.manage.common import any_vhost_option, managed, one, yes_option
from leveret.router.cli.manage.policy_loss import confirm_import
from leveret.router.cli.terminal import counted, printable

WITHOUT_LOGIN = "Leveret-Users-Without-Login"  # the header that names users, percent-encoded
SCRYPT = "leveret_password_hashing_scrypt"
KINDS = ("vhosts", "users", "permissions", "policies", "exchanges", "queues", "bindings")


@click.group()
def definitions() -> None:
    """Export and import users, virtual hosts, policies, exchanges, queues and bindings."""


@definitions.command("export")
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True), default="-")
@any_vhost_option
@managed
def export_definitions(api: Api, file: str, vhost: str | None) -> None:
    """Write the definitions to FILE, or to standard output."""
    path = () if vhost is None else (vhost,)
    found = one("vhost", vhost or "", None, lambda: api.get("definitions", *path))
    _warn(found)
    text = dump_json(found, indent=2).encode() + b"\n"
    if file == "-":
        sys.stdout.buffer.write(text)
        return
    try:
        private = write_private(file, text)
    except OSError as error:
        raise Failure(f"{file}: {error.strerror}") from None
    readers = "; only its owner can read it (mode 0600)" if private else ""
    click.echo(f"{file}: {_summary(found)}{readers}", err=True)


@definitions.command("import")
@click.argument("file", type=click.File("rb"), default="-")
@any_vhost_option
@yes_option
@managed
def import_definitions(api: Api, file: BinaryIO, vhost: str | None, yes: bool) -> None:
    """Import the definitions of FILE, or of standard input; no queue or exchange that exists is changed.

    Refused entries are listed, and the others are imported. If the policies of FILE delete queues
    (expires) or existing messages, the command asks for confirmation; in a script use --yes.
    """
    try:
        given = json.load(file)
    except ValueError as error:
        raise WrongUsage(f"{file.name} is not JSON: {error}") from None
    if not isinstance(given, dict):
        raise WrongUsage(f"{file.name} is not a definitions document, an object with {', '.join(KINDS)}")
    confirm_import(api, vhost, given, yes)
    path = () if vhost is None else (vhost,)
    headers = one("vhost", vhost or "", None, lambda: api.send("definitions", *path, body=given))
    names = [printable(unquote(name)) for name in headers.get(WITHOUT_LOGIN, "").split(", ") if name]
    if names:
        notice(f"these users cannot log in, because their password hashes are unusable: {', '.join(names)}")
    click.echo(f"imported {_summary(given)}")


def write_private(path: str, data: bytes) -> bool:
    """Write a file that only its owner can read, and replace an existing one. Raises OSError.

    Writes directly to an existing file that is not regular, such as a pipe, and returns False then.
    """
    target = os.path.realpath(path)
    if os.path.lexists(target) and not stat.S_ISREG(os.stat(target).st_mode):
        with open(target, "wb") as stream:
            stream.write(data)
        return False
    descriptor, temporary = tempfile.mkstemp(prefix=".leveret-", dir=os.path.dirname(target))  # mode 0600
    try:
        with open(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(descriptor)
        os.replace(temporary, target)
    except OSError:
        with suppress(OSError):
            os.unlink(temporary)
        raise
    return True


def _warn(found: dict[str, Any]) -> None:
    """Warn on standard error of users who cannot log in to another broker than leveret."""
    users = found.get("users") or ()
    names = [printable(each["name"]) for each in users if each.get("hashing_algorithm") == SCRYPT]
    if names:
        notice(f"these users cannot log in to RabbitMQ if you import this there: {', '.join(names)}")
        notice('RabbitMQ has no scrypt; with auth.password_hash = "sha256" it can use new passwords')


def _summary(found: dict[str, object]) -> str:
    """Return the number of objects of each kind."""
    parts = []
    for kind in KINDS:
        rows = found.get(kind)
        if isinstance(rows, list) and rows:
            singular = "policy" if kind == "policies" else kind[:-1]
            parts.append(f"{len(rows)} {kind}" if len(rows) != 1 else counted(1, singular))
    return ", ".join(parts) or "nothing"
