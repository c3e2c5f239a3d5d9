"""Policies of a virtual host: optional arguments that operators give to queues and exchanges by their names.

Owns the policies and operator policies, what their definitions may say (with RabbitMQ's texts), and which of
them hold for a name. What a value means together with a queue's own arguments is settled there.

As in RabbitMQ the matching policy of the highest priority holds, and one that says anything a queue's type
has no use for does not match that queue at all. RabbitMQ leaves open which of two with equal priority holds;
here it is the first by name. A value that the queue argument of the same meaning could not have is refused,
such as a TTL of more than ten years, which RabbitMQ takes. The settings of mirrored queues (``ha-mode`` and
its kin) are accepted and without effect, so that definitions of older brokers can be taken over.

Sources: RabbitMQ, "Policies" and "Operator Policies". The texts are those of 3.10; ``consumer-timeout``,
``target-group-size``, a negative ``delivery-limit`` (no limit) and applying to one type of queue are of later
versions.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import thread_time
from typing import Any, Literal

from leveret.router.arguments.queue import ARGUMENTS, is_valid
from leveret.router.values.bounds import INTEGER_MAX, check_json, refused_name
from leveret.router.values.field_values import json_term, term
from leveret.router.values.patterns import PATIENCE, Matcher, PatternError, compile_pattern, is_quick

Kind = Literal["queues", "exchanges"]
Definition = Mapping[str, Any]

APPLY_TO = ("queues", "classic_queues", "quorum_queues", "streams", "exchanges", "all")
_QUEUES = {"classic": "classic_queues", "quorum": "quorum_queues", "stream": "streams"}


class PolicyError(ValueError):
    """A policy is refused; the text says why."""


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy or operator policy as it was set."""

    name: str
    pattern: str
    definition: Definition
    priority: int
    apply_to: str
    matches: Matcher

    def as_parameter(self) -> dict[str, Any]:
        """The value of the runtime parameter that an operator policy is in RabbitMQ."""
        return {
            "pattern": self.pattern,
            "definition": dict(self.definition),
            "priority": self.priority,
            "apply-to": self.apply_to,
        }

    def applies(self, kind: Kind, name: str, queue_type: str) -> bool:
        """Whether it holds for this exchange or queue, were it the only one."""
        if kind == "exchanges":
            return self.apply_to in ("all", "exchanges") and self.matches(name)
        return (
            self.apply_to in ("all", "queues", _QUEUES[queue_type])
            and _USELESS[queue_type].isdisjoint(self.definition)
            and self.matches(name)
        )


class Policies:
    """The policies and operator policies of one virtual host, by name."""

    def __init__(self, vhost: str) -> None:
        self.vhost = vhost
        self.policies: dict[str, Policy] = {}
        self.operator_policies: dict[str, Policy] = {}

    def set(
        self, name: str, pattern: str, definition: Definition, *, priority: int = 0, apply_to: str = "all"
    ) -> None:
        """Set a policy, in place of one of the same name. Raises PolicyError.

        The virtual host's ``apply_policies`` brings it to what exists.
        """
        self.put(name, pattern, definition, priority=priority, apply_to=apply_to)

    def delete(self, name: str) -> None:
        """Delete a policy. KeyError when there is none of this name."""
        del self.policies[name]

    def set_operator(
        self, name: str, pattern: str, definition: Definition, *, priority: int = 0, apply_to: str = "all"
    ) -> None:
        """Set an operator policy; it may only bound what policies and arguments set. Raises PolicyError."""
        self.put(name, pattern, definition, priority=priority, apply_to=apply_to, operator=True)

    def delete_operator(self, name: str) -> None:
        """Delete an operator policy. KeyError when there is none of this name."""
        del self.operator_policies[name]

    def put(
        self,
        name: str,
        pattern: str,
        definition: Definition,
        *,
        priority: int = 0,
        apply_to: str = "all",
        operator: bool = False,
    ) -> Policy:
        """Set a policy or an operator policy, and return it. Raises PolicyError."""
        made = make_policy(name, pattern, definition, priority=priority, apply_to=apply_to, operator=operator)
        self.enter(made, operator=operator)
        return made

    def enter(self, policy: Policy, *, operator: bool = False) -> None:
        """Set a policy or an operator policy that ``make_policy`` made."""
        (self.operator_policies if operator else self.policies)[policy.name] = policy

    def remove(self, name: str, *, operator: bool = False) -> None:
        """Delete a policy or an operator policy. KeyError when there is none of this name."""
        (self.delete_operator if operator else self.delete)(name)

    def policy(self, kind: Kind, name: str, queue_type: str) -> Policy | None:
        """The policy that holds for an exchange or queue; ``queue_type`` counts for queues only."""
        return _highest(self.policies, kind, name, queue_type)

    def operator_policy(self, kind: Kind, name: str, queue_type: str) -> Policy | None:
        """The operator policy that holds for an exchange or queue."""
        return _highest(self.operator_policies, kind, name, queue_type)

    def effective(self, kind: Kind, name: str, queue_type: str) -> dict[str, Any]:
        """The merged definition for an exchange or queue: the policy's, within the operator's limits."""
        return merge_definitions(
            self.policy(kind, name, queue_type), self.operator_policy(kind, name, queue_type)
        )


def merge_definitions(policy: Policy | None, operator: Policy | None) -> dict[str, Any]:
    """What both say together: what the policy says, within the operator's limits."""
    merged = dict(policy.definition) if policy else {}
    for key, value in operator.definition.items() if operator else ():
        merged[key] = _smaller(merged[key], value) if key in merged else value
    return merged


def _highest(policies: Mapping[str, Policy], kind: Kind, name: str, queue_type: str) -> Policy | None:
    """Large and backtracking patterns have ``PATIENCE`` for a name together; the rest of them do not match
    it then.
    """
    found: Policy | None = None
    took = 0.0  # seconds of CPU
    for policy in policies.values():
        if found is not None and (-policy.priority, policy.name) > (-found.priority, found.name):
            continue
        if is_quick(policy.matches):
            applies = policy.applies(kind, name, queue_type)
        elif took < PATIENCE:
            began = thread_time()
            applies = policy.applies(kind, name, queue_type)
            took += thread_time() - began
        else:
            applies = False
        if applies:
            found = policy
    return found


def _smaller(first: int, second: int) -> int:
    """The tighter of two limits; a negative one is none."""
    return min(first, second) if first >= 0 and second >= 0 else max(first, second)


def make_policy(
    name: str,
    pattern: str,
    definition: Definition,
    *,
    priority: int = 0,
    apply_to: str = "all",
    operator: bool = False,
) -> Policy:
    """Check a policy or an operator policy, and make it. Raises PolicyError."""
    _validate(name, definition, _OPERATOR_CHECKS if operator else CHECKS)
    if type(priority) is not int:  # JSON's true would be an int, and no row with it can be restored
        raise PolicyError(f"priority should be a number, actually was {json_term(priority)}")
    if abs(priority) > INTEGER_MAX:
        raise PolicyError("priority should be a number of at most 64 bits")
    if apply_to not in APPLY_TO:
        wanted = ", ".join(f"'{value}'" for value in APPLY_TO)
        raise PolicyError(f"apply-to '{apply_to}' unrecognised; should be one of {wanted}")
    try:
        matches = compile_pattern(pattern)
    except PatternError as error:
        raise PolicyError(f"pattern should be regular expression but is invalid: {error}") from None
    return Policy(name, pattern, dict(definition), priority, apply_to, matches)


# -- definitions --------------------------------------------------------------------------------------------
# A check returns why a value is refused, "" when it is not.

Checks = Mapping[str, Callable[[Any], str]]


def _validate(name: str, definition: Definition, checks: Checks) -> None:
    if refusal := refused_name("policy name", name):
        raise PolicyError(refusal)
    if not definition:
        raise PolicyError("no policy provided")
    try:
        check_json("definition", definition)
    except ValueError as error:
        raise PolicyError(str(error)) from None
    for key, value in definition.items():
        if key in checks and (refusal := checks[key](value)):
            raise PolicyError(refusal)
        if key in checks and f"x-{key}" in ARGUMENTS and not is_valid(f"x-{key}", value):
            raise PolicyError(f"{json_term(value)} is not a valid {key}, nor a valid x-{key}")
    unknown = [
        f"{{{term(key)},{json_term(value)}}}" for key, value in definition.items() if key not in checks
    ]
    if unknown:
        raise PolicyError(f"[{','.join(unknown)}] are not recognised policy settings")


def _integer(what: str, least: int | None = None) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        is_integer = isinstance(value, int) and not isinstance(value, bool)
        good = is_integer and (least is None or value >= least)
        return "" if good else f"{json_term(value)} is not a valid {what}"

    return check


def _text(what: str) -> Callable[[Any], str]:
    return lambda value: "" if isinstance(value, str) else f"{json_term(value)} is not a valid {what}"


def _routing_key(what: str) -> Callable[[Any], str]:
    """A text that a delivery can carry."""

    def check(value: Any) -> str:
        good = isinstance(value, str) and not refused_name(what, value)
        return "" if good else f"{json_term(value)} is not a valid {what}"

    return check


def _one_of(*values: object, refusal: str) -> Callable[[Any], str]:
    return lambda value: (
        "" if value in values and type(value) is type(values[0]) else refusal % json_term(value)
    )


def _max_age(value: Any) -> str:
    good = isinstance(value, str) and re.fullmatch("[0-9]*[1-9][0-9]*[YMDhms]", value)
    return "" if good else f"{json_term(value)} is not a valid max age"


def _anything(value: Any) -> str:
    return ""


_LIMITS = {
    "max-length": _integer("maximum length", 0),
    "max-length-bytes": _integer("maximum length in bytes", 0),
    "max-in-memory-length": _integer("maximum memory in bytes", 0),
    "max-in-memory-bytes": _integer("maximum memory in bytes", 0),
    "message-ttl": _integer("message TTL", 0),
    "expires": _integer("queue expiry", 1),
    "delivery-limit": _integer("delivery limit"),
}
_STREAM: Checks = {
    "max-age": _max_age,
    "stream-max-segment-size-bytes": _integer("segment size", 0),
    "initial-cluster-size": _integer("cluster size", 0),
}
_MIRRORED: Checks = dict.fromkeys(
    (
        "ha-mode",
        "ha-params",
        "ha-sync-mode",
        "ha-sync-batch-size",
        "ha-promote-on-shutdown",
        "ha-promote-on-failure",
    ),
    _anything,
)
CHECKS: Checks = {
    **_LIMITS,
    **_STREAM,
    **_MIRRORED,
    "consumer-timeout": _integer("consumer timeout", 0),
    "overflow": _one_of(
        "drop-head", "reject-publish", "reject-publish-dlx", refusal="%s is not a valid overflow value"
    ),
    "dead-letter-exchange": _text("dead letter exchange name"),
    "dead-letter-routing-key": _routing_key("dead letter routing key"),
    "dead-letter-strategy": _one_of(
        "at-most-once", "at-least-once", refusal="%s is not a valid dead letter strategy"
    ),
    "queue-mode": _one_of("default", "lazy", refusal="%s is not a valid queue-mode value"),
    "queue-version": _one_of(1, 2, refusal="%s is not a valid queue-version value"),
    "queue-leader-locator": _one_of(
        "client-local",
        "balanced",
        "random",
        "least-leaders",
        refusal="%s is not a valid queue leader locator value",
    ),
    "queue-master-locator": _one_of(
        "min-masters", "client-local", "random", refusal="%s invalid queue-master-locator value"
    ),
    "target-group-size": _integer("target group size", 1),
    "alternate-exchange": _text("alternate exchange name"),
}
_OPERATOR_CHECKS: Checks = _LIMITS

# What a type of queue has no use for.
_USELESS = {
    "classic": frozenset(
        {*_STREAM, "dead-letter-strategy", "delivery-limit", "queue-leader-locator", "target-group-size"}
    ),
    "quorum": frozenset({*_STREAM, *_MIRRORED, "queue-mode", "queue-master-locator"}),
    "stream": frozenset(CHECKS) - {*_STREAM, "max-length-bytes", "queue-leader-locator"},
}
