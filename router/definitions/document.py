"""The document that definitions are: what RabbitMQ 3.x and 4.x export, entry by entry.

Owns the form of it, and reading it, which touches nothing of the broker: a large document can be read, and
passwords in it hashed, in a thread.
"""

from collections.abc import Mapping
from typing import Any, Literal

import msgspec
from msgspec import Struct, field

from router.auth import SHA256, PasswordHash, hash_password
from router.auth.passwords import SCRYPT, Scheme, fits

Pairs = dict[str, Any] | list[tuple[str, Any]]  # some versions write objects as lists of pairs, {} as []


class DefinitionsError(Exception):
    """Definitions cannot be imported; the text names the entry. What stands before it is imported."""


class UserEntry(Struct):
    """A user; ``password`` is for documents that people write, ``leveret_password_hash`` is what RabbitMQ
    cannot use.
    """

    name: str
    password_hash: str = ""
    hashing_algorithm: str = SHA256
    leveret_password_hash: str = ""
    password: str | None = None
    tags: str | list[str] = ""
    limits: Pairs = {}


class VHostEntry(Struct):
    """A virtual host."""

    name: str
    description: str | None = None
    tags: str | list[str] | None = None
    default_queue_type: str | None = None
    metadata: Pairs = {}


class PermissionEntry(Struct):
    """The permissions of a user in a virtual host."""

    user: str
    configure: str
    write: str
    read: str
    vhost: str = ""


class TopicPermissionEntry(Struct):
    """The topic permissions of a user at an exchange."""

    user: str
    exchange: str
    write: str
    read: str
    vhost: str = ""


class ParameterEntry(Struct):
    """A runtime parameter; operator policies are exported as such."""

    component: str
    name: str
    value: Any
    vhost: str = ""


class GlobalParameterEntry(Struct):
    """A parameter of the whole cluster."""

    name: str
    value: Any = None


class OperatorPolicyValue(Struct):
    """The value of a parameter that is an operator policy."""

    pattern: str
    definition: Pairs
    priority: int = 0
    apply_to: str = field(name="apply-to", default="all")


class PolicyEntry(Struct):
    """A policy."""

    name: str
    pattern: str
    definition: Pairs
    priority: int = 0
    apply_to: str = field(name="apply-to", default="all")
    vhost: str = ""


class ExchangeEntry(Struct):
    """An exchange."""

    name: str
    type: str
    durable: bool = True
    auto_delete: bool = False
    internal: bool = False
    arguments: Pairs = {}
    vhost: str = ""


class QueueEntry(Struct):
    """A queue; the type is given in the arguments, or in later versions beside them."""

    name: str
    durable: bool = True
    auto_delete: bool = False
    type: str = "classic"
    arguments: Pairs = {}
    vhost: str = ""


class BindingEntry(Struct):
    """A binding."""

    source: str
    destination: str
    destination_type: Literal["queue", "exchange"]
    routing_key: str = ""
    arguments: Pairs = {}
    vhost: str = ""


class Definitions(Struct):
    """The document. The entries of one that was exported from one virtual host do not name it."""

    users: list[UserEntry] = []
    vhosts: list[VHostEntry] = []
    permissions: list[PermissionEntry] = []
    topic_permissions: list[TopicPermissionEntry] = []
    parameters: list[ParameterEntry] = []
    global_parameters: list[GlobalParameterEntry] = []
    policies: list[PolicyEntry] = []
    exchanges: list[ExchangeEntry] = []
    queues: list[QueueEntry] = []
    bindings: list[BindingEntry] = []


def parse_definitions(document: bytes) -> Definitions:
    """The entries of a JSON document; fields nobody knows are left out. Raises DefinitionsError."""
    try:
        return msgspec.json.decode(document, type=Definitions)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DefinitionsError(str(error)) from None


def hash_passwords(definitions: Definitions, scheme: Scheme, known: Mapping[str, PasswordHash]) -> None:
    """Put hashes in place of the passwords that users have: those they are known by if they fit, or else new
    ones. It takes long for ``scrypt``.
    """
    for user in definitions.users:
        if user.password:
            there = known.get(user.name)
            fitting = there is not None and fits(there, user.password)
            made = there if there is not None and fitting else hash_password(user.password, scheme)
            set_hash(user, made)
            user.password = None


def set_hash(user: UserEntry, password_hash: PasswordHash) -> None:
    """Give a user's entry this hash, where RabbitMQ looks for it if that can use it."""
    if password_hash.portable:
        user.password_hash, user.hashing_algorithm = password_hash
        user.leveret_password_hash = ""
    else:
        user.password_hash, user.hashing_algorithm = "", SHA256
        user.leveret_password_hash = password_hash.text


def hash_of(user: UserEntry) -> PasswordHash:
    """The hash of a user's entry."""
    if user.leveret_password_hash:
        return PasswordHash(user.leveret_password_hash, SCRYPT)
    return PasswordHash(user.password_hash, user.hashing_algorithm)
