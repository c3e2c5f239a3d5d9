"""Changes by an operator to a running broker: virtual hosts, users, permissions, policies, limits.

Responsible for storing a change, and for its effect on existing objects and connections. If these are many,
the effect continues in the next turns. Every function is synchronous and quick, is called within a batch, and
either makes the whole change or raises an exception whose text is for the operator: ValueError for a refused
value (PatternError, PolicyError, PasswordHashError and LimitError among them), NoSuchObject for an object
that does not exist. The caller checks permissions, and hashes passwords, because that takes long
(``leveret.router.auth.hash_password``).

As in RabbitMQ, a deleted user's and a deleted virtual host's connections are closed, and a changed password
leaves connections as they are. Unlike in RabbitMQ, a consumer whose user may no longer read its queue is
cancelled.

Source: RabbitMQ, "Authentication, Authorisation, Access Control", "Virtual Hosts", "Policies", "Parameters".
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

from leveret.protocol.errors import AmqpError, ConnectionForced
from leveret.router.auth import NO_PASSWORD, PasswordHash, User, from_exchanged
from leveret.router.broker.broker import Broker
from leveret.router.broker.checks import NoSuchObject, check_new_name
from leveret.router.broker.client import Client
from leveret.router.broker.parameters import VHOST_LIMITS_COMPONENT, VHOST_LIMITS_NAME, Parameters
from leveret.router.persistence.rows import (
    ParameterRow,
    PermissionRow,
    PolicyRow,
    TopicPermissionRow,
    UserRow,
    VHostRow,
)
from leveret.router.turns.backlog import LongWork, Slices
from leveret.router.values.limits import USER_LIMITS, VHOST_LIMITS, LimitError, check_limits
from leveret.router.vhost.metadata import VHostMetadata
from leveret.router.vhost.policies import Definition, make_policy
from leveret.router.vhost.vhost import VHost

SCANNED = 500  # connections that are examined before other work has its turn


class Administration:
    """Changes to one broker. It has no state, so there may be any number of them for one broker."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self.parameters = Parameters(broker, self)

    # -- existing objects --------------------------------------------------------------------------------

    def vhost(self, name: str) -> VHost:
        """Return the virtual host of this name. Raises NoSuchObject."""
        found = self._broker.vhosts.get(name)
        if found is None:
            raise NoSuchObject(f"no virtual host '{name}'")
        return found

    def user(self, name: str) -> User:
        """Return the user of this name. Raises NoSuchObject."""
        found = self._broker.users.get(name)
        if found is None:
            raise NoSuchObject(f"no user '{name}'")
        return found

    # -- virtual hosts -----------------------------------------------------------------------------------

    def put_vhost(
        self, name: str, metadata: VHostMetadata | None = None, *, maker: User | None = None
    ) -> VHost:
        """Return the virtual host of this name, after making it if it does not exist.

        ``metadata`` replaces the virtual host's metadata; None leaves it unchanged. A new virtual host has
        the default exchanges, and its creator ``maker`` gets all permissions in it. At start-up ``maker`` is
        None, and no permissions are set (in RabbitMQ its internal user gets them).
        """
        check_new_name("virtual host", name)
        is_new = name not in self._broker.vhosts
        if is_new or metadata is not None:
            self._broker.storage.keep(VHostRow(name, (metadata or VHostMetadata()).as_row()))
        vhost = self._broker.add_vhost(name)
        if metadata is not None:
            vhost.metadata = metadata
        if is_new and maker is not None and maker.name in self._broker.users:
            self.set_permission(maker.name, name, configure=".*", write=".*", read=".*")
        return vhost

    def delete_vhost(self, name: str) -> LongWork | None:
        """Delete a virtual host with its objects and permissions, and close its connections.

        Return the work that is unfinished: many queues are deleted in later turns, and the virtual host last.
        """
        return self._broker.backlog.start(f"deleting vhost '{name}'", self._delete_vhost(self.vhost(name)))

    def _delete_vhost(self, vhost: VHost) -> Slices:
        name = vhost.name
        error = ConnectionForced(f"vhost '{name}' is deleted")
        yield from self._end_clients(lambda client: error if client.vhost is vhost else None)
        yield from vhost.clear()
        yield from self._broker.users.forget_vhost(name)
        # Few connections can have been opened meanwhile: no user has permissions in the virtual host any
        # more.
        if self._broker.vhosts.get(name) is vhost:  # it was not deleted meanwhile
            for client in list(self._broker.clients):
                if client.vhost is vhost:
                    client.end(error)
            vhost.close()
            self._broker.forget_vhost(vhost)
            self._broker.storage.forget(VHostRow(name))

    def set_vhost_limits(self, vhost: str, limits: Mapping[str, object]) -> None:
        """Replace all limits of a virtual host."""
        place = self.vhost(vhost)
        place.limits = check_limits(limits, VHOST_LIMITS, "limits")
        self._keep_vhost_limits(place)

    def set_vhost_limit(self, vhost: str, limit: str, value: object) -> None:
        """Set one limit of a virtual host: ``max-connections`` or ``max-queues``; negative is unlimited."""
        self.set_vhost_limits(vhost, {**self.vhost(vhost).limits, limit: value})

    def clear_vhost_limit(self, vhost: str, limit: str) -> None:
        """Remove one limit of a virtual host, if it is set."""
        place = self.vhost(vhost)
        if limit not in VHOST_LIMITS:
            raise LimitError(f"there is no limit '{limit}' of virtual hosts")
        place.limits = {name: value for name, value in place.limits.items() if name != limit}
        self._keep_vhost_limits(place)

    def clear_vhost_limits(self, vhost: str) -> None:
        """Remove all limits of a virtual host."""
        self.set_vhost_limits(vhost, {})

    def _keep_vhost_limits(self, vhost: VHost) -> None:
        row = ParameterRow(vhost.name, VHOST_LIMITS_COMPONENT, VHOST_LIMITS_NAME, vhost.limits)
        if vhost.limits:
            self._broker.storage.keep(row)
        else:
            self._broker.storage.forget(row)

    # -- users -------------------------------------------------------------------------------------------

    def put_user(
        self,
        name: str,
        *,
        password: PasswordHash | None = None,
        tags: Iterable[str] | None = None,
        limits: Mapping[str, object] | None = None,
    ) -> User:
        """Create or change a user; arguments that are None leave a property unchanged.

        A new user without a password cannot log in with one, nor can a user whose hash is unusable
        (``PasswordHash.fault``). A hash that is not base64 is refused.
        """
        check_new_name("user", name)
        checked = None if limits is None else check_limits(limits, USER_LIMITS, "user-limits")
        users = self._broker.users
        found = users.get(name)
        if password is None:
            password = NO_PASSWORD if found is None else found.password_hash
        else:
            password = from_exchanged(*password)
        if tags is None:
            tags = () if found is None else found.tags
        if checked is None:
            checked = {} if found is None else dict(found.limits)
        labels = frozenset(tags)
        self._broker.storage.keep(UserRow(name, *password, tuple(sorted(labels)), checked))
        user = users.add(name, password, labels)
        user.limits = checked
        return user

    def delete_user(self, name: str) -> LongWork | None:
        """Delete a user with its permissions, and close its connections. Return the work that is unfinished:
        many connections are closed in later turns.
        """
        return self.delete_users([name])

    def delete_users(self, names: Iterable[str]) -> LongWork | None:
        """Delete users as ``delete_user`` does. Raises NoSuchObject, before any is deleted."""
        users = [self.user(name) for name in dict.fromkeys(names)]
        return self._broker.backlog.start("deleting users", self._delete_users(users))

    def _delete_users(self, users: Sequence[User]) -> Slices:
        errors: dict[User | None, AmqpError] = {}
        for user in users:
            if self._broker.users.get(user.name) is user:  # it was not deleted meanwhile
                self._broker.users.remove(user.name)
                self._broker.storage.forget(UserRow(user.name, "", "", ()))
                errors[user] = ConnectionForced(f"user '{user.name}' is deleted")
                if len(errors) < len(users):
                    yield
        yield from self._end_clients(lambda client: errors.get(client.user))

    def set_user_limit(self, name: str, limit: str, value: object) -> None:
        """Set one limit of a user: ``max-connections`` or ``max-channels``; negative is unlimited."""
        self.put_user(name, limits={**self.user(name).limits, limit: value})

    def clear_user_limit(self, name: str, limit: str) -> None:
        """Remove one limit of a user, if it is set."""
        user = self.user(name)
        if limit not in USER_LIMITS:
            raise LimitError(f"there is no limit '{limit}' of users")
        self.put_user(name, limits={each: value for each, value in user.limits.items() if each != limit})

    # -- permissions -------------------------------------------------------------------------------------

    def set_permission(
        self, user: str, vhost: str, *, configure: str, write: str, read: str
    ) -> LongWork | None:
        """Set the permissions of a user in a virtual host, as patterns of names; "" matches none.

        Return the work that is unfinished: many consumers are cancelled in later turns.
        """
        found, place = self.user(user), self.vhost(vhost)
        found.permit(place.name, configure=configure, write=write, read=read)
        self._broker.storage.keep(PermissionRow(user, vhost, configure, write, read))
        return self._recheck(found)

    def clear_permission(self, user: str, vhost: str) -> LongWork | None:
        """Delete the permissions of a user in a virtual host. Return the work that is unfinished.

        Raises NoSuchObject if there are no permissions.
        """
        found = self.user(user)
        if vhost not in found.permissions:
            raise NoSuchObject(f"user '{user}' has no permissions in virtual host '{vhost}'")
        found.forbid(vhost)
        self._broker.storage.forget(PermissionRow(user, vhost, "", "", ""))
        return self._recheck(found)

    def set_topic_permission(self, user: str, vhost: str, exchange: str, *, write: str, read: str) -> None:
        """Set which routing keys a user may write and read at a topic exchange, which need not exist."""
        found, place = self.user(user), self.vhost(vhost)
        found.permit_topic(place.name, exchange, write=write, read=read)
        self._broker.storage.keep(TopicPermissionRow(user, vhost, exchange, write, read))

    def clear_topic_permission(self, user: str, vhost: str, exchange: str | None = None) -> None:
        """Delete the topic permissions at one exchange, or (None) at all exchanges of a virtual host. Raises
        NoSuchObject if there are none.
        """
        found = self.user(user)
        gone = [
            key
            for key in found.topic_permissions
            if key[0] == vhost and (exchange is None or key[1] == exchange)
        ]
        if not gone:
            raise NoSuchObject(f"user '{user}' has no such topic permissions in virtual host '{vhost}'")
        for _vhost, name in gone:
            found.forbid_topic(vhost, name)
            self._broker.storage.forget(TopicPermissionRow(user, vhost, name, "", ""))

    # -- policies ----------------------------------------------------------------------------------------

    def set_policy(
        self,
        vhost: str,
        name: str,
        pattern: str,
        definition: Definition,
        *,
        priority: int = 0,
        apply_to: str = "all",
        operator: bool = False,
        live: bool = True,
    ) -> LongWork | None:
        """Set a policy, or an operator policy, and apply it to the existing queues and exchanges. Return the
        work that is unfinished: many queues get their settings in later turns.

        Unless ``live``, a caller that sets many policies applies them: ``VHost.apply_policies``.
        """
        place = self.vhost(vhost)
        policy = make_policy(
            name, pattern, definition, priority=priority, apply_to=apply_to, operator=operator
        )
        place.policies.check_room(name, operator=operator)
        self._broker.storage.keep(
            PolicyRow(vhost, operator, name, pattern, apply_to, priority, policy.definition)
        )
        place.policies.enter(policy, operator=operator)
        return place.apply_policies() if live else None

    def clear_policy(self, vhost: str, name: str, *, operator: bool = False) -> LongWork | None:
        """Delete a policy, or an operator policy. Return the work that is unfinished. Raises NoSuchObject."""
        place = self.vhost(vhost)
        policies = place.policies
        if name not in (policies.operator_policies if operator else policies.policies):
            raise NoSuchObject(
                f"no {'operator ' if operator else ''}policy '{name}' in virtual host '{vhost}'"
            )
        policies.remove(name, operator=operator)
        self._broker.storage.forget(PolicyRow(vhost, operator, name, "", "", 0, {}))
        return place.apply_policies()

    # -- connections of a change -------------------------------------------------------------------------

    def _end_clients(self, error_of: Callable[[Client], AmqpError | None]) -> Slices:
        """Close the connections for which ``error_of`` returns an error, with that error."""
        for number, client in enumerate(list(self._broker.clients), 1):
            error = error_of(client)
            if error is not None:
                client.end(error)
                yield
            elif not number % SCANNED:
                yield

    def _recheck(self, user: User) -> LongWork | None:
        """Cancel the consumers that the changed permissions of a user no longer allow."""
        return self._broker.backlog.start(
            f"checking the permissions of user '{user.name}'", self._recheck_clients(user)
        )

    def _recheck_clients(self, user: User) -> Slices:
        for number, client in enumerate(list(self._broker.clients), 1):
            if client.user is user:
                yield from client.recheck()
                yield
            elif not number % SCANNED:
                yield
