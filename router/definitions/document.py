"""The entries of a definitions document, as RabbitMQ 3.x and 4.x export it.

Responsible for decoding a document. Decoding uses nothing of the broker, so that a large document can be
decoded, and the passwords in it hashed, in a thread. ``importing`` applies the entries.
"""

import re
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, TypeVar

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType, field

from leveret.router.auth import SHA256, PasswordHash, hash_password
from leveret.router.auth.passwords import PASSWORD_AND_HASH, SCRYPT, Scheme, matches_password

E = TypeVar("E", bound=Struct)
ENTRY_MAX = 1 << 18  # bytes of an entry: decoding and encoding a larger one would block all clients
REFUSED_MAX = 1000  # refused entries that are reported with their reasons; the others are counted
# Every escape of JSON; the group is the hexadecimal number of a lone surrogate.
_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u([dD][89a-fA-F][0-9a-fA-F]{2})|.)",
    re.DOTALL,
)
Pairs = dict[str, Any] | list[tuple[str, Any]]  # some versions write objects as lists of pairs, {} as []


class DefinitionsError(Exception):
    """The document is not a definitions document (nothing is imported), or an entry cannot be imported."""


class RefusedEntry(NamedTuple):
    """An entry that was not imported, and the reason."""

    entry: str
    reason: str

    def __str__(self) -> str:
        return f"{self.entry}: {self.reason}"


class UserEntry(Struct):
    """A user. ``password`` is for documents written by hand, in place of the hash.

    Earlier versions of leveret exported hashes that RabbitMQ cannot use as ``leveret_password_hash``.
    """

    name: str
    password_hash: str | UnsetType = UNSET
    hashing_algorithm: str | None = SHA256
    leveret_password_hash: str = ""
    password: str | UnsetType = UNSET
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
    """The decoded entries of a document; the first of those that could not be decoded (``refused``), and the
    number of the others.

    The entries of a document that was exported from one virtual host do not name it.
    """

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
    refused: list[RefusedEntry] = []
    more_refused: int = 0


class _Document(Struct):
    """The sections of a document, with undecoded entries."""

    users: list[Raw] | None = None
    vhosts: list[Raw] | None = None
    permissions: list[Raw] | None = None
    topic_permissions: list[Raw] | None = None
    parameters: list[Raw] | None = None
    global_parameters: list[Raw] | None = None
    policies: list[Raw] | None = None
    exchanges: list[Raw] | None = None
    queues: list[Raw] | None = None
    bindings: list[Raw] | None = None


def parse_definitions(document: bytes) -> Definitions:
    """Decode a JSON document, entry by entry; unknown fields and sections are ignored.

    Raises DefinitionsError for a document that is not a JSON object, or has a section that is not a list.
    """
    try:
        sections = msgspec.json.decode(_without_lone_surrogates(document), type=_Document)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DefinitionsError(f"not a definitions document: {error}") from None
    found = Definitions()

    def refuse(entry: str, reason: str) -> None:
        if len(found.refused) < REFUSED_MAX:
            found.refused.append(RefusedEntry(entry, reason))
        else:
            found.more_refused += 1

    def read(section: str, kind: type[E]) -> list[E]:
        entries, decoder = [], msgspec.json.Decoder(kind)
        for index, raw in enumerate(getattr(sections, section) or ()):
            if (size := len(memoryview(raw))) > ENTRY_MAX:
                text = f"the entry has {size} bytes; an entry may have {ENTRY_MAX}"
                refuse(f"{section}[{index}]", text)
                continue
            try:
                entries.append(decoder.decode(raw))
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                refuse(f"{section}[{index}]", str(error))
        return entries

    found.users = read("users", UserEntry)
    found.vhosts = read("vhosts", VHostEntry)
    found.permissions = read("permissions", PermissionEntry)
    found.topic_permissions = read("topic_permissions", TopicPermissionEntry)
    found.parameters = read("parameters", ParameterEntry)
    found.global_parameters = read("global_parameters", GlobalParameterEntry)
    found.policies = read("policies", PolicyEntry)
    found.exchanges = read("exchanges", ExchangeEntry)
    found.queues = read("queues", QueueEntry)
    found.bindings = read("bindings", BindingEntry)
    return found


def _without_lone_surrogates(document: bytes) -> bytes:
    """Return the document with raw bytes for each escaped half of a surrogate pair, such as ``\\ud800``.

    msgspec refuses the whole document for such an escape, as truncated, but only the entry for such bytes.
    """
    if b"\\ud" not in document and b"\\uD" not in document:
        return document
    made, start = bytearray(), 0  # not ``sub``, which keeps a list of all pieces in memory
    for escape in _ESCAPE.finditer(document):
        if escape[1] is not None:
            made += memoryview(document)[start : escape.start()]
            made += chr(int(escape[1], 16)).encode("utf-8", "surrogatepass")
            start = escape.end()
    made += memoryview(document)[start:]
    return bytes(made)


def hash_passwords(definitions: Definitions, scheme: Scheme, known: Mapping[str, PasswordHash]) -> None:
    """Replace the passwords of users by hashes: the existing hash of the user if it matches, else a new one.

    Takes about 0.1 s a password for ``scrypt``.
    """
    for user in definitions.users:
        if user.password and user.password_hash is UNSET:
            there = known.get(user.name)
            fitting = there is not None and matches_password(there, user.password)
            made = there if there is not None and fitting else hash_password(user.password, scheme)
            user.password_hash, user.hashing_algorithm = made
            user.leveret_password_hash, user.password = "", UNSET


def hash_of(user: UserEntry) -> PasswordHash:
    """Return the password hash of a user's entry, unchecked.

    Raises DefinitionsError if the entry has a password too.
    """
    if user.password is not UNSET and user.password_hash is not UNSET:
        raise DefinitionsError(PASSWORD_AND_HASH)
    if user.leveret_password_hash:
        return PasswordHash(user.leveret_password_hash, SCRYPT)
    return PasswordHash(user.password_hash or "", user.hashing_algorithm or SHA256)
