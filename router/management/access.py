"""Access checks of the management API: HTTP Basic, user tags, and virtual hosts.

Responsible for the checks and RabbitMQ's texts for their failure. Not for which check a path has (see the
modules of the resources), nor for permissions on queues and exchanges, which are checked by the operations
themselves.

Source: RabbitMQ, "Management Plugin" (permissions), and the responses of 3.10.
"""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, TypeVar

from leveret.protocol.http import HttpError
from leveret.router.auth import User
from leveret.router.broker.parameters import OPERATOR_POLICY, VHOST_LIMITS_COMPONENT
from leveret.router.management.errors import not_authorised, not_found
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


def can_see_all(user: User) -> bool:
    """Return True if the user sees the connections of all users, and all virtual hosts."""
    return not user.tags.isdisjoint((ADMINISTRATOR, MONITORING))


def management(call: "Call") -> None:
    """Require one of the tags that give access to the API."""
    if call.user.tags.isdisjoint(ANY):
        raise not_authorised("Not management user")


def monitor(call: "Call") -> None:
    """Require access to the node's data."""
    management(call)
    if not can_see_all(call.user):
        raise not_authorised("Not monitor user")


def administrator(call: "Call") -> None:
    """Require an administrator."""
    management(call)
    if ADMINISTRATOR not in call.user.tags:
        raise not_authorised("Not administrator user")


def policymaker(call: "Call") -> None:
    """Require a user who may set policies and parameters."""
    management(call)
    if call.user.tags.isdisjoint((ADMINISTRATOR, POLICYMAKER)):
        raise not_authorised("User not authorised to access object")


def _demand_vhost(call: "Call") -> None:
    """Require a user of the API and an existing virtual host."""
    management(call)
    if call["vhost"] not in call.broker.vhosts:
        raise not_found() if call.request.method in READING else HttpError(404, "vhost_not_found")


def in_vhost(call: "Call") -> None:
    """Require permission to open the virtual host; administrators may look at any."""
    _demand_vhost(call)
    if call.user.may_enter(call["vhost"]):
        return
    if ADMINISTRATOR not in call.user.tags:
        raise not_authorised("User not authorised to access virtual host")
    if call.request.method not in READING:
        raise not_authorised("Access refused.")


def entering_vhost(call: "Call") -> None:
    """Require permission to open the virtual host, also from administrators, for every HTTP method."""
    in_vhost(call)
    if not call.user.may_enter(call["vhost"]):
        raise not_authorised("Access refused.")


def policymaker_in_vhost(call: "Call") -> None:
    """Require an administrator, or a policymaker who may open the virtual host."""
    _demand_vhost(call)
    if ADMINISTRATOR in call.user.tags:
        return
    if POLICYMAKER not in call.user.tags or not call.user.may_enter(call["vhost"]):
        raise not_authorised("User not authorised to access object")


def administrator_in_vhost(call: "Call") -> None:
    """Require an administrator and an existing virtual host."""
    _demand_vhost(call)
    administrator(call)


def parameter_setter(call: "Call") -> None:
    """Require permission to set the parameter.

    vhost-limits and operator policies need an administrator, as on their dedicated paths.
    """
    policymaker_in_vhost(call)
    if call["component"] in (OPERATOR_POLICY, VHOST_LIMITS_COMPONENT):
        administrator(call)


def accessible_vhosts(call: "Call") -> list[VHost]:
    """Return the virtual hosts that the user may open; a list over all of them shows their objects."""
    return [vhost for vhost in call.broker.vhosts.values() if call.user.may_enter(vhost.name)]


def visible_vhosts(call: "Call") -> list[VHost]:
    """Return the virtual hosts that the user sees."""
    return list(call.broker.vhosts.values()) if can_see_all(call.user) else accessible_vhosts(call)


def visible_items(call: "Call", items: Iterable[T], user_of: Callable[[T], str]) -> list[T]:
    """Return the items that this user sees: all, or only its own."""
    if can_see_all(call.user):
        return list(items)
    return [item for item in items if user_of(item) == call.user.name]
