"""Who asks, and whether they may: HTTP Basic, user tags, and virtual hosts.

Owns the checks and RabbitMQ's texts for their failure, not which check a path has. What may be done to a
queue or an exchange is a matter of permissions, and asked where it is done.

Source: RabbitMQ, "Management Plugin" (permissions), and what 3.10 answers.
"""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, TypeVar

from leveret.protocol.http import HttpError
from leveret.router.auth import User
from leveret.router.broker.administration import OPERATOR_POLICY, VHOST_LIMITS_COMPONENT
from leveret.router.management.errors import not_authorised, not_there
from leveret.router.vhost.vhost import VHost

if TYPE_CHECKING:
    from leveret.router.management.call import Call

ADMINISTRATOR, MONITORING, POLICYMAKER, MANAGEMENT = (
    "administrator",
    "monitoring",
    "policymaker",
    "management",
)
ANY = frozenset((ADMINISTRATOR, MONITORING, POLICYMAKER, MANAGEMENT))

Check = Callable[["Call"], None]
READING = frozenset(("GET", "HEAD"))

T = TypeVar("T")


def sees_all(user: User) -> bool:
    """Whether the user sees everybody's connections, and all virtual hosts."""
    return not user.tags.isdisjoint((ADMINISTRATOR, MONITORING))


def management(call: "Call") -> None:
    """The user has one of the tags that let into the API."""
    if call.user.tags.isdisjoint(ANY):
        raise not_authorised("Not management user")


def monitor(call: "Call") -> None:
    """The user may see nodes."""
    management(call)
    if not sees_all(call.user):
        raise not_authorised("Not monitor user")


def administrator(call: "Call") -> None:
    """The user may do everything."""
    management(call)
    if ADMINISTRATOR not in call.user.tags:
        raise not_authorised("Not administrator user")


def policymaker(call: "Call") -> None:
    """The user may set policies and parameters."""
    management(call)
    if call.user.tags.isdisjoint((ADMINISTRATOR, POLICYMAKER)):
        raise not_authorised("User not authorised to access object")


def _demand_vhost(call: "Call") -> None:
    """The user may use the API, and there is such a virtual host."""
    management(call)
    if call["vhost"] not in call.broker.vhosts:
        raise not_there() if call.request.method in READING else HttpError(404, "vhost_not_found")


def in_vhost(call: "Call") -> None:
    """The user may enter the virtual host; an administrator may look at one without that."""
    _demand_vhost(call)
    if call.user.may_enter(call["vhost"]):
        return
    if ADMINISTRATOR not in call.user.tags:
        raise not_authorised("User not authorised to access virtual host")
    if call.request.method not in READING:
        raise not_authorised("Access refused.")


def entering_vhost(call: "Call") -> None:
    """The user may enter the virtual host, for a request that does so whatever its method says."""
    in_vhost(call)
    if not call.user.may_enter(call["vhost"]):
        raise not_authorised("Access refused.")


def policymaker_in_vhost(call: "Call") -> None:
    """The user is an administrator, or may enter the virtual host and set policies and parameters there."""
    _demand_vhost(call)
    if ADMINISTRATOR in call.user.tags:
        return
    if POLICYMAKER not in call.user.tags or not call.user.may_enter(call["vhost"]):
        raise not_authorised("User not authorised to access object")


def administrator_in_vhost(call: "Call") -> None:
    """The user is an administrator; there is such a virtual host."""
    _demand_vhost(call)
    administrator(call)


def parameter_setter(call: "Call") -> None:
    """The user may set the parameter: what only an administrator sets by its own path is no other's here."""
    policymaker_in_vhost(call)
    if call["component"] in (OPERATOR_POLICY, VHOST_LIMITS_COMPONENT):
        administrator(call)


def entered(call: "Call") -> list[VHost]:
    """The virtual hosts that the user may enter: whose objects a list over all of them shows."""
    return [vhost for vhost in call.broker.vhosts.values() if call.user.may_enter(vhost.name)]


def visible_vhosts(call: "Call") -> list[VHost]:
    """The virtual hosts that the user knows of."""
    return list(call.broker.vhosts.values()) if sees_all(call.user) else entered(call)


def own(call: "Call", items: Iterable[T], user_of: Callable[[T], str]) -> list[T]:
    """Of what belongs to users, what this one sees: all, or its own."""
    if sees_all(call.user):
        return list(items)
    return [item for item in items if user_of(item) == call.user.name]
