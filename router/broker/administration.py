"""What an operator may change in a running broker: virtual hosts, users, rights, policies, parameters.

Owns that a change takes effect for everyone it concerns, at once or (if they are many) in the next turns,
and that it is kept. Every function is synchronous and quick, is called within a batch, and either does all of
what it says or raises: ValueError for a value that is refused (PatternError, PolicyError, PasswordHashError,
LimitError among them) and NotThere for something that does not exist; their texts are for whoever asked. Who
may ask is the caller's business, and so is hashing a password, which takes long
(``leveret.router.auth.hash_password``).

As in RabbitMQ, a deleted user's and a deleted virtual host's connections are closed, and a changed password
leaves connections as they are. Unlike there, a consumer whose user may no longer read its queue is cancelled.

Source: RabbitMQ, "Authentication, Authorisation, Access Control", "Virtual Hosts", "Policies", "Parameters".
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from leveret.protocol.errors import AmqpError, ConnectionForced
from leveret.router.auth import NO_PASSWORD, PasswordHash, User, from_exchanged
from leveret.router.broker.broker import Broker
from leveret.router.broker.client import Client
from leveret.router.persistence.rows import (
    GlobalParameterRow,
    ParameterRow,
    PermissionRow,
    PolicyRow,
    TopicPermissionRow,
    UserRow,
    VHostRow,
)
from leveret.router.turns.backlog import LongWork, Slices
from leveret.router.values.bounds import check_json, refused_name
from leveret.router.values.limits import USER_LIMITS, VHOST_LIMITS, LimitError, check_limits
from leveret.router.vhost.metadata import VHostMetadata
from leveret.router.vhost.policies import Definition, Policy, PolicyError, make_policy
from leveret.router.vhost.vhost import VHost

VHOST_LIMITS_COMPONENT, VHOST_LIMITS_NAME = "vhost-limits", "limits"
OPERATOR_POLICY = "operator_policy"
SCANNED = 500  # connections that are looked at before others have their turn


class NotThere(LookupError):
    """Something that was named does not exist; the text says what."""


class Administration:
    """Changes to one broker. It holds nothing of its own: any number of them may stand beside each other."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    # -- what there is -------------------------------------------------------------------------------------

    def vhost(self, name: str) -> VHost:
        """The virtual host of this name. Raises NotThere."""
        found = self._broker.vhosts.get(name)
        if found is None:
            raise NotThere(f"no virtual host '{name}'")
        return found

    def user(self, name: str) -> User:
        """The user of this name. Raises NotThere."""
        found = self._broker.users.get(name)
        if found is None:
            raise NotThere(f"no user '{name}'")
        return found

    # -- virtual hosts -------------------------------------------------------------------------------------

    def put_vhost(
        self, name: str, metadata: VHostMetadata | None = None, *, maker: User | None = None
    ) -> VHost:
        """Return the virtual host of this name, after making it if it does not exist.

        ``metadata`` replaces the virtual host's metadata; None leaves it unchanged. A new virtual host has
        the default exchanges, and its creator ``maker`` gets all permissions in it. At start-up ``maker`` is
        None, and no permissions are set (in RabbitMQ its internal user gets them).
        """
        _check_name("virtual host", name)
        is_new = name not in self._broker.vhosts
        if is_new or metadata is not None:
            self._broker.keeper.keep(VHostRow(name, (metadata or VHostMetadata()).as_row()))
        vhost = self._broker.add_vhost(name)
        if metadata is not None:
            vhost.metadata = metadata
        if is_new and maker is not None and maker.name in self._broker.users:
            self.set_permission(maker.name, name, configure=".*", write=".*", read=".*")
        return vhost

    def delete_vhost(self, name: str) -> LongWork | None:
        """Delete a virtual host with all that is in it, and all rights there; close its connections. Return
        what is unfinished: with many queues it is there, with fewer and fewer of them, for some turns.
        """
        return self._broker.backlog.start(f"deleting vhost '{name}'", self._delete_vhost(self.vhost(name)))

    def _delete_vhost(self, vhost: VHost) -> Slices:
        name = vhost.name
        error = ConnectionForced(f"vhost '{name}' is deleted")
        yield from self._end_clients(lambda client: error if client.vhost is vhost else None)
        yield from vhost.clear()
        yield from self._broker.users.forget_vhost(name)
        # Those that came meanwhile are few: rights were gone, and each that enters is one turn.
        if self._broker.vhosts.get(name) is vhost:  # nobody else has deleted it meanwhile
            for client in list(self._broker.clients):
                if client.vhost is vhost:
                    client.end(error)
            vhost.close()
            self._broker.forget_vhost(vhost)
            self._broker.keeper.forget(VHostRow(name))

    def set_vhost_limits(self, vhost: str, limits: Mapping[str, object]) -> None:
        """Set all limits of a virtual host: those that are not named are none from now on."""
        place = self.vhost(vhost)
        place.limits = check_limits(limits, VHOST_LIMITS, "limits")
        self._keep_vhost_limits(place)

    def set_vhost_limit(self, vhost: str, limit: str, value: object) -> None:
        """Set one limit of a virtual host: ``max-connections`` or ``max-queues``; a negative one is none."""
        self.set_vhost_limits(vhost, {**self.vhost(vhost).limits, limit: value})

    def clear_vhost_limit(self, vhost: str, limit: str) -> None:
        """Take back one limit of a virtual host, if it is there."""
        place = self.vhost(vhost)
        if limit not in VHOST_LIMITS:
            raise LimitError(f"there is no limit '{limit}' of virtual hosts")
        place.limits = {name: value for name, value in place.limits.items() if name != limit}
        self._keep_vhost_limits(place)

    def clear_vhost_limits(self, vhost: str) -> None:
        """Take back all limits of a virtual host."""
        self.set_vhost_limits(vhost, {})

    def _keep_vhost_limits(self, vhost: VHost) -> None:
        row = ParameterRow(vhost.name, VHOST_LIMITS_COMPONENT, VHOST_LIMITS_NAME, vhost.limits)
        if vhost.limits:
            self._broker.keeper.keep(row)
        else:
            self._broker.keeper.forget(row)

    # -- users ---------------------------------------------------------------------------------------------

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
        _check_name("user", name)
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
        self._broker.keeper.keep(UserRow(name, *password, tuple(sorted(labels)), checked))
        user = users.add(name, password, labels)
        user.limits = checked
        return user

    def delete_user(self, name: str) -> LongWork | None:
        """Delete a user and all its rights, and close its connections. Return what is unfinished: if there
        are many connections they are closed in some turns.
        """
        return self.delete_users([name])

    def delete_users(self, names: Iterable[str]) -> LongWork | None:
        """Delete users as ``delete_user`` does. Raises NotThere, before any is deleted."""
        users = [self.user(name) for name in dict.fromkeys(names)]
        return self._broker.backlog.start("deleting users", self._delete_users(users))

    def _delete_users(self, users: Sequence[User]) -> Slices:
        errors: dict[User | None, AmqpError] = {}
        for user in users:
            if self._broker.users.get(user.name) is user:  # nobody else has deleted it meanwhile
                self._broker.users.remove(user.name)
                self._broker.keeper.forget(UserRow(user.name, "", "", ()))
                errors[user] = ConnectionForced(f"user '{user.name}' is deleted")
                if len(errors) < len(users):
                    yield
        yield from self._end_clients(lambda client: errors.get(client.user))

    def set_user_limit(self, name: str, limit: str, value: object) -> None:
        """Set one limit of a user: ``max-connections`` or ``max-channels``; a negative one is none."""
        self.put_user(name, limits={**self.user(name).limits, limit: value})

    def clear_user_limit(self, name: str, limit: str) -> None:
        """Take back one limit of a user, if it is there."""
        user = self.user(name)
        if limit not in USER_LIMITS:
            raise LimitError(f"there is no limit '{limit}' of users")
        self.put_user(name, limits={each: value for each, value in user.limits.items() if each != limit})

    # -- rights --------------------------------------------------------------------------------------------

    def set_permission(self, user: str, vhost: str, *, configure: str, write: str, read: str) -> None:
        """Set what a user may do in a virtual host, as patterns of names; "" is for none."""
        found, place = self.user(user), self.vhost(vhost)
        found.permit(place.name, configure=configure, write=write, read=read)
        self._broker.keeper.keep(PermissionRow(user, vhost, configure, write, read))
        self._recheck(found)

    def clear_permission(self, user: str, vhost: str) -> None:
        """Close a virtual host to a user. Raises NotThere when it was not open."""
        found = self.user(user)
        if vhost not in found.permissions:
            raise NotThere(f"user '{user}' has no permissions in virtual host '{vhost}'")
        found.forbid(vhost)
        self._broker.keeper.forget(PermissionRow(user, vhost, "", "", ""))
        self._recheck(found)

    def set_topic_permission(self, user: str, vhost: str, exchange: str, *, write: str, read: str) -> None:
        """Set which routing keys a user may write and read at a topic exchange, be that there or not."""
        found, place = self.user(user), self.vhost(vhost)
        found.permit_topic(place.name, exchange, write=write, read=read)
        self._broker.keeper.keep(TopicPermissionRow(user, vhost, exchange, write, read))

    def clear_topic_permission(self, user: str, vhost: str, exchange: str | None = None) -> None:
        """Take back the topic permissions at one exchange, or (None) at all in a virtual host. Raises
        NotThere when there are none.
        """
        found = self.user(user)
        gone = [
            key
            for key in found.topic_permissions
            if key[0] == vhost and (exchange is None or key[1] == exchange)
        ]
        if not gone:
            raise NotThere(f"user '{user}' has no such topic permissions in virtual host '{vhost}'")
        for _vhost, name in gone:
            found.forbid_topic(vhost, name)
            self._broker.keeper.forget(TopicPermissionRow(user, vhost, name, "", ""))

    # -- policies ------------------------------------------------------------------------------------------

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
    ) -> Policy:
        """Set a policy, or an operator policy, and bring it to the queues and exchanges that are there.

        Unless ``live`` that is left to the caller, who sets many: ``VHost.apply_policies``.
        """
        place = self.vhost(vhost)
        policy = make_policy(
            name, pattern, definition, priority=priority, apply_to=apply_to, operator=operator
        )
        self._broker.keeper.keep(
            PolicyRow(vhost, operator, name, pattern, apply_to, priority, policy.definition)
        )
        place.policies.enter(policy, operator=operator)
        if live:
            place.apply_policies()
        return policy

    def clear_policy(self, vhost: str, name: str, *, operator: bool = False) -> None:
        """Delete a policy, or an operator policy. Raises NotThere."""
        place = self.vhost(vhost)
        policies = place.policies
        if name not in (policies.operator_policies if operator else policies.policies):
            raise NotThere(f"no {'operator ' if operator else ''}policy '{name}' in virtual host '{vhost}'")
        policies.remove(name, operator=operator)
        self._broker.keeper.forget(PolicyRow(vhost, operator, name, "", "", 0, {}))
        place.apply_policies()

    # -- parameters ----------------------------------------------------------------------------------------

    def parameters(self) -> list[ParameterRow]:
        """All runtime parameters: limits of virtual hosts, and operator policies as RabbitMQ shows them."""
        found = []
        for vhost in self._broker.vhosts.values():
            if vhost.limits:
                found.append(
                    ParameterRow(vhost.name, VHOST_LIMITS_COMPONENT, VHOST_LIMITS_NAME, dict(vhost.limits))
                )
            found += [
                ParameterRow(vhost.name, OPERATOR_POLICY, policy.name, policy.as_parameter())
                for policy in vhost.policies.operator_policies.values()
            ]
        return found

    def set_parameter(self, component: str, vhost: str, name: str, value: Any) -> None:
        """Set a runtime parameter. Those of plugins, which have no effect here, are refused."""
        match component:
            case "vhost-limits":
                if name != VHOST_LIMITS_NAME or not isinstance(value, Mapping):
                    raise LimitError(
                        f"{VHOST_LIMITS_COMPONENT} have the name '{VHOST_LIMITS_NAME}' and an object as value"
                    )
                self.set_vhost_limits(vhost, value)
            case "operator_policy":
                self._set_operator_parameter(vhost, name, value)
            case "policy":
                raise PolicyError("policies may not be set using this method")
            case _:
                raise ValueError(f"component {component} not found")

    def _set_operator_parameter(self, vhost: str, name: str, value: Any) -> None:
        if not isinstance(value, Mapping):
            raise PolicyError("the value of an operator policy is an object")
        pattern, definition = value.get("pattern"), value.get("definition")
        priority, apply_to = value.get("priority", 0), value.get("apply-to", "all")
        if not (isinstance(pattern, str) and isinstance(definition, Mapping)):
            raise PolicyError("an operator policy needs a 'pattern' and a 'definition'")
        if not isinstance(apply_to, str):
            raise PolicyError("'apply-to' is a text")
        self.set_policy(vhost, name, pattern, definition, priority=priority, apply_to=apply_to, operator=True)

    def clear_parameter(self, component: str, vhost: str, name: str) -> None:
        """Take back a runtime parameter. Raises NotThere."""
        place = self.vhost(vhost)
        if component == OPERATOR_POLICY:
            self.clear_policy(vhost, name, operator=True)
        elif component == VHOST_LIMITS_COMPONENT and name == VHOST_LIMITS_NAME and place.limits:
            self.clear_vhost_limits(vhost)
        else:
            raise NotThere(f"no parameter '{name}' of component '{component}' in virtual host '{vhost}'")

    def set_global_parameter(self, name: str, value: Any) -> None:
        """Set a global parameter: anything JSON can say, under any name. ``cluster_name`` is the broker's
        name if it is a text, of 255 bytes at most; the others mean nothing here.
        """
        _check_name("global parameter", name)
        check_json(f"global parameter '{name}'", value)
        if name == "cluster_name" and isinstance(value, str) and (why := refused_name("cluster name", value)):
            raise ValueError(why)
        self._broker.keeper.keep(GlobalParameterRow(name, value))
        self._broker.global_parameters[name] = value

    def clear_global_parameter(self, name: str) -> None:
        """Take back a global parameter. Raises NotThere."""
        if name not in self._broker.global_parameters:
            raise NotThere(f"no global parameter '{name}'")
        del self._broker.global_parameters[name]
        self._broker.keeper.forget(GlobalParameterRow(name, None))

    # -- whom it concerns ----------------------------------------------------------------------------------

    def _end_clients(self, error_of: Callable[[Client], AmqpError | None]) -> Slices:
        """Close connections with the errors that ``error_of`` has for them."""
        for number, client in enumerate(list(self._broker.clients), 1):
            error = error_of(client)
            if error is not None:
                client.end(error)
                yield
            elif not number % SCANNED:
                yield

    def _recheck(self, user: User) -> None:
        """A user's rights have changed: consumers that it may have no longer are cancelled."""
        self._broker.backlog.start(f"checking the rights of user '{user.name}'", self._recheck_clients(user))

    def _recheck_clients(self, user: User) -> Slices:
        for number, client in enumerate(list(self._broker.clients), 1):
            if client.user is user:
                client.recheck()
                yield
            elif not number % SCANNED:
                yield


def _check_name(what: str, name: str) -> None:
    """Names are short strings that are not empty; ValueError otherwise."""
    if not name:
        raise ValueError(f"a {what} needs a name")
    if refusal := refused_name(f"{what} name", name):
        raise ValueError(refusal)
