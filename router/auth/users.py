"""Users with their tags, permissions and topic permissions.

Responsible for permission checks, with RabbitMQ's terms and texts. Not for the moment of a check (see
``router/session/``) nor for logins (see ``logins``).

Sources: RabbitMQ, "Authentication, Authorisation, Access Control" and "Credentials and Passwords".
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Literal, NamedTuple

from leveret.protocol.errors import AccessRefused
from leveret.router.auth.passwords import NO_PASSWORD, PasswordHash
from leveret.router.values.limits import Limits
from leveret.router.values.patterns import Matcher, compile_pattern

Operation = Literal["configure", "write", "read"]
RouteOperation = Literal["write", "read"]
Kind = Literal["exchange", "queue"]

VERDICTS = 4096  # remembered for each user


class Permission(NamedTuple):
    """Permissions of a user in a virtual host, as the patterns that were set."""

    configure: str
    write: str
    read: str


class TopicPermission(NamedTuple):
    """Permissions for the routing keys of a topic exchange, as the patterns that were set."""

    write: str
    read: str


class User:
    """A user with its permissions. ``generation`` grows with every change of its permissions or tags."""

    __slots__ = (
        "_matchers",
        "_routes",
        "_verdicts",
        "connections",
        "generation",
        "limits",
        "name",
        "password_hash",
        "permissions",
        "proof",
        "tags",
        "topic_permissions",
    )

    def __init__(self, name: str) -> None:
        self.name = name
        self.tags: frozenset[str] = frozenset()
        self.password_hash = NO_PASSWORD
        # code of the credentials after the first successful check; see ``logins``
        self.proof: bytes | None = None
        self.limits: Limits = {}
        self.connections = 0  # connections that have opened a virtual host
        self.generation = 0
        self.permissions: dict[str, Permission] = {}  # by virtual host
        self.topic_permissions: dict[tuple[str, str], TopicPermission] = {}  # by virtual host and exchange
        self._matchers: dict[tuple[str, str], Matcher] = {}  # by virtual host and operation
        self._routes: dict[tuple[str, str, str], Matcher] = {}  # by virtual host, exchange and operation
        self._verdicts: dict[tuple[str, str, str], bool] = {}  # by virtual host, operation and name

    # -- questions ----------------------------------------------------------------------------------------

    def may_enter(self, vhost: str) -> bool:
        """Return True if the user has a permission entry for the virtual host, even one that permits
        nothing.
        """
        return vhost in self.permissions

    def may(self, vhost: str, operation: Operation, name: str) -> bool:
        """Return True if the user may do this to the exchange or queue ``name``; "" is the default
        exchange.
        """
        key = (vhost, operation, name)
        verdict = self._verdicts.get(key)
        if verdict is None:
            matches = self._matchers.get((vhost, operation))
            verdict = matches is not None and matches(name or "amq.default")
            if len(self._verdicts) >= VERDICTS:
                self._verdicts.clear()
            self._verdicts[key] = verdict
        return verdict

    def may_route(self, vhost: str, exchange: str, operation: RouteOperation, routing_key: str) -> bool:
        """Return True if the user may publish or bind with this key at a topic exchange; without an entry
        every key is permitted.
        """
        matches = self._routes.get((vhost, exchange, operation))
        return matches is None or matches(routing_key)

    def check(self, vhost: str, operation: Operation, kind: Kind, name: str) -> None:
        """Raise AccessRefused, with RabbitMQ's text, unless ``may`` returns True."""
        if not self.may(vhost, operation, name):
            what = f"{kind} '{name or 'amq.default'}'"
            raise AccessRefused(
                f"access to {what} in vhost '{vhost}' refused for user '{self.name}'",
                missing=f"{operation} on {what}",
            )

    def check_route(self, vhost: str, exchange: str, operation: RouteOperation, routing_key: str) -> None:
        """Raise AccessRefused, with RabbitMQ's text, unless ``may_route`` returns True."""
        if not self.may_route(vhost, exchange, operation, routing_key):
            raise AccessRefused(
                f"access to topic '{routing_key}' in exchange '{exchange}' in vhost '{vhost}' "
                f"refused for user '{self.name}'",
                missing=f"{operation} with routing key '{routing_key}' on topic exchange '{exchange}'",
            )

    # -- changes ------------------------------------------------------------------------------------------

    def permit(self, vhost: str, *, configure: str, write: str, read: str) -> None:
        """Set the patterns of names that the user may configure, write and read; "" matches none. Raises
        PatternError.
        """
        permission = Permission(configure, write, read)
        matchers = {
            (vhost, operation): _compile(pattern) for operation, pattern in permission._asdict().items()
        }
        self._matchers.update(matchers)
        self.permissions[vhost] = permission
        self._changed()

    def forbid(self, vhost: str) -> None:
        """Remove the permissions in a virtual host; topic permissions stay, as in RabbitMQ."""
        if self.permissions.pop(vhost, None) is not None:
            for operation in Permission._fields:
                del self._matchers[vhost, operation]
            self._changed()

    def forbid_all(self) -> None:
        """Remove the permissions in all virtual hosts."""
        self.permissions.clear()
        self._matchers.clear()
        self._changed()

    def permit_topic(self, vhost: str, exchange: str, *, write: str, read: str) -> None:
        """Set the patterns of routing keys that the user may write and read at a topic exchange; "" matches
        none.

        ``{username}`` and ``{vhost}`` are replaced by these names, taken literally. Raises PatternError, also
        for patterns that RE2 cannot match: every message has a routing key to be matched.
        """
        permission = TopicPermission(write, read)
        routes = {
            (vhost, exchange, operation): _compile(self._expanded(pattern, vhost), linear=True)
            for operation, pattern in permission._asdict().items()
        }
        self._routes.update(routes)
        self.topic_permissions[vhost, exchange] = permission
        self._changed()

    def forbid_topic(self, vhost: str, exchange: str) -> None:
        """Remove the entry for a topic exchange: all its routing keys are permitted again."""
        if self.topic_permissions.pop((vhost, exchange), None) is not None:
            del self._routes[vhost, exchange, "write"]
            del self._routes[vhost, exchange, "read"]
            self._changed()

    def identify(self, password_hash: PasswordHash, tags: frozenset[str]) -> None:
        """Replace the password hash and the tags."""
        self.password_hash = password_hash
        self.proof = None
        self.tags = tags
        self._changed()

    def forget_vhost(self, vhost: str) -> None:
        """Remove all permissions in a deleted virtual host."""
        self.forbid(vhost)
        for name, exchange in list(self.topic_permissions):
            if name == vhost:
                self.forbid_topic(vhost, exchange)

    def _expanded(self, pattern: str, vhost: str) -> str:
        return pattern.replace("{username}", re.escape(self.name)).replace("{vhost}", re.escape(vhost))

    def _changed(self) -> None:
        self.generation += 1
        self._verdicts.clear()


def _compile(pattern: str, *, linear: bool = False) -> Matcher:
    """Compile a pattern; an empty one matches no name at all."""
    return compile_pattern(pattern or "^$", linear=linear)


class Users(Mapping[str, User]):
    """The users of a broker, by name."""

    def __init__(self) -> None:
        self._users: dict[str, User] = {}

    def __getitem__(self, name: str) -> User:
        return self._users[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._users)

    def __len__(self) -> int:
        return len(self._users)

    def add(self, name: str, password_hash: PasswordHash, tags: Iterable[str] = ()) -> User:
        """Add a user, or replace password hash and tags of an existing one, which keeps its permissions.

        With an empty or unusable hash a user cannot log in with a password.
        """
        user = self._users.get(name) or User(name)
        user.identify(password_hash, frozenset(tags))
        self._users[name] = user
        return user

    def remove(self, name: str) -> None:
        """Remove a user; its sessions may do nothing from now on. Raises KeyError for an unknown name."""
        user = self._users.pop(name)
        user.forbid_all()
        user.identify(NO_PASSWORD, frozenset())

    def forget_vhost(self, vhost: str) -> Iterator[None]:
        """Remove all permissions in a virtual host that is being deleted, so that a new one of the same name
        starts without any. Each step handles one user.
        """
        for user in list(self._users.values()):
            user.forget_vhost(vhost)
            yield
