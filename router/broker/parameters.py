"""Runtime parameters and global parameters.

Responsible for the components that have an effect: the limits of virtual hosts and operator policies, which
RabbitMQ's API shows as parameters. Parameters of plugins are refused.

Source: RabbitMQ, "Parameters".
"""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from leveret.router.broker.broker import Broker
from leveret.router.broker.checks import NoSuchObject, check_new_name
from leveret.router.persistence.rows import GlobalParameterRow, ParameterRow
from leveret.router.turns.backlog import LongWork
from leveret.router.values.bounds import check_json, refused_name
from leveret.router.values.limits import LimitError
from leveret.router.vhost.policies import PolicyError

if TYPE_CHECKING:
    from leveret.router.broker.administration import Administration

VHOST_LIMITS_COMPONENT, VHOST_LIMITS_NAME = "vhost-limits", "limits"
OPERATOR_POLICY = "operator_policy"


class Parameters:
    """The parameters of one broker. ``administration`` makes the changes of limits and policies."""

    def __init__(self, broker: Broker, administration: "Administration") -> None:
        self._broker = broker
        self._administration = administration

    def all(self) -> Iterator[ParameterRow]:
        """Yield all runtime parameters; some may be set and deleted meanwhile."""
        for vhost in list(self._broker.vhosts.values()):
            if vhost.limits:
                yield ParameterRow(vhost.name, VHOST_LIMITS_COMPONENT, VHOST_LIMITS_NAME, dict(vhost.limits))
            for policy in list(vhost.policies.operator_policies.values()):
                yield ParameterRow(vhost.name, OPERATOR_POLICY, policy.name, policy.as_parameter())

    def set(self, component: str, vhost: str, name: str, value: Any) -> LongWork | None:
        """Set a runtime parameter. Return the work that is unfinished. Raises ValueError and NoSuchObject."""
        match component:
            case "vhost-limits":
                if name != VHOST_LIMITS_NAME or not isinstance(value, Mapping):
                    raise LimitError(
                        f"{VHOST_LIMITS_COMPONENT} have the name '{VHOST_LIMITS_NAME}' and an object as value"
                    )
                self._administration.set_vhost_limits(vhost, value)
                return None
            case "operator_policy":
                return self._set_operator_policy(vhost, name, value)
            case "policy":
                raise PolicyError("policies may not be set using this method")
            case _:
                raise ValueError(f"component {component} not found")

    def _set_operator_policy(self, vhost: str, name: str, value: Any) -> LongWork | None:
        if not isinstance(value, Mapping):
            raise PolicyError("the value of an operator policy is an object")
        pattern, definition = value.get("pattern"), value.get("definition")
        priority, apply_to = value.get("priority", 0), value.get("apply-to", "all")
        if not (isinstance(pattern, str) and isinstance(definition, Mapping)):
            raise PolicyError("an operator policy needs a 'pattern' and a 'definition'")
        if not isinstance(apply_to, str):
            raise PolicyError("'apply-to' is a text")
        return self._administration.set_policy(
            vhost, name, pattern, definition, priority=priority, apply_to=apply_to, operator=True
        )

    def clear(self, component: str, vhost: str, name: str) -> LongWork | None:
        """Delete a runtime parameter. Return the work that is unfinished. Raises NoSuchObject."""
        limits = self._administration.vhost(vhost).limits
        if component == OPERATOR_POLICY:
            return self._administration.clear_policy(vhost, name, operator=True)
        if component == VHOST_LIMITS_COMPONENT and name == VHOST_LIMITS_NAME and limits:
            self._administration.clear_vhost_limits(vhost)
            return None
        raise NoSuchObject(f"no parameter '{name}' of component '{component}' in virtual host '{vhost}'")

    def set_global(self, name: str, value: Any) -> None:
        """Set a global parameter to any JSON value. ``cluster_name`` is the name of the broker if it is a
        text of at most 255 bytes; the others have no effect.

        Raises ValueError.
        """
        check_new_name("global parameter", name)
        check_json(f"global parameter '{name}'", value)
        if name == "cluster_name" and isinstance(value, str) and (why := refused_name("cluster name", value)):
            raise ValueError(why)
        self._broker.storage.keep(GlobalParameterRow(name, value))
        self._broker.global_parameters[name] = value

    def clear_global(self, name: str) -> None:
        """Delete a global parameter. Raises NoSuchObject."""
        if name not in self._broker.global_parameters:
            raise NoSuchObject(f"no global parameter '{name}'")
        del self._broker.global_parameters[name]
        self._broker.storage.forget(GlobalParameterRow(name, None))
