"""Policies and operator policies of a virtual host: settings for queues and exchanges whose names match.

Responsible for the check of a policy, with RabbitMQ's texts, and for the policy that applies to a name. The
settings come from ``arguments.table``, and ``arguments.queue`` merges them with a queue's arguments.

Of the matching policies the one with the highest priority applies. A policy with a setting that a queue's
type does not support does not match that queue at all. Both are as in RabbitMQ, which does not define the
result for two policies of equal priority; here the first by name applies. A policy is refused for a value
that the argument of the same meaning could not have, such as a TTL of more than ten years, which RabbitMQ
accepts. The settings of mirrored queues (``ha-mode`` and others) are accepted and have no effect, so that
definitions of older brokers can be imported.

Sources: RabbitMQ, "Policies" and "Operator Policies". The texts are those of 3.10. Later versions have
``consumer-timeout``, ``target-group-size``, a negative ``delivery-limit`` (no limit), and policies for one
type of queue.
"""

from collections.abc import Iterable, Mapping, Set
from time import thread_time
from typing import Any, Literal

from msgspec import Struct

from leveret.router.arguments.argument import Argument
from leveret.router.arguments.table import ALL, POLICY_SETTINGS
from leveret.router.values.bounds import INTEGER_MAX, check_json, refused_name
from leveret.router.values.field_values import json_term, term
from leveret.router.values.patterns import PATIENCE, Matcher, PatternError, compile_pattern, is_quick

Kind = Literal["queues", "exchanges"]
Definition = Mapping[str, Any]

MOST = 1000  # policies of a virtual host, and as many operator policies: a declaration tries each pattern
APPLY_TO = ("queues", "classic_queues", "quorum_queues", "streams", "exchanges", "all")
_QUEUES = {"classic": "classic_queues", "quorum": "quorum_queues", "stream": "streams"}


class PolicyError(ValueError):
    """A policy is invalid; the text has the reason."""


class Policy(Struct, frozen=True):
    """A policy or operator policy as it was set."""

    name: str
    pattern: str
    definition: Definition
    priority: int
    apply_to: str
    matches: Matcher

    def as_parameter(self) -> dict[str, Any]:
        """Return the value of the runtime parameter that represents an operator policy in RabbitMQ."""
        return {
            "pattern": self.pattern,
            "definition": dict(self.definition),
            "priority": self.priority,
            "apply-to": self.apply_to,
        }

    def applies(self, kind: Kind, name: str, queue_type: str) -> bool:
        """Return True if the policy matches this exchange or queue, regardless of other policies."""
        if kind == "exchanges":
            return self.apply_to in ("all", "exchanges") and self.matches(name)
        return (
            self.apply_to in ("all", "queues", _QUEUES[queue_type])
            and UNSUPPORTED[queue_type].isdisjoint(self.definition)
            and self.matches(name)
        )


class Policies:
    """The policies and operator policies of one virtual host, by name."""

    def __init__(self, vhost: str) -> None:
        self.vhost = vhost
        self.policies: dict[str, Policy] = {}
        self.operator_policies: dict[str, Policy] = {}
        self._ordered: dict[bool, list[Policy]] = {}  # by kind: the first that matches applies

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
        """Set a policy or an operator policy, in place of one of the same name. Raises PolicyError.

        Operator policies limit the values of policies and arguments. The virtual host's ``apply_policies``
        applies the change to existing queues and exchanges.
        """
        made = make_policy(name, pattern, definition, priority=priority, apply_to=apply_to, operator=operator)
        self.enter(made, operator=operator)
        return made

    def enter(self, policy: Policy, *, operator: bool = False) -> None:
        """Set a policy or an operator policy that ``make_policy`` has returned."""
        self._of(operator)[policy.name] = policy
        self._ordered.clear()

    def check_room(self, name: str, *, operator: bool) -> None:
        """Raise PolicyError if another policy of this name would be too many."""
        known = self._of(operator)
        if name not in known and len(known) >= MOST:
            kind = "operator policies" if operator else "policies"
            raise PolicyError(f"vhost '{self.vhost}' has {MOST} {kind}, the most that it may have")

    def remove(self, name: str, *, operator: bool = False) -> None:
        """Delete a policy or an operator policy. Raises KeyError if no policy has this name."""
        del self._of(operator)[name]
        self._ordered.clear()

    def _of(self, operator: bool) -> dict[str, Policy]:
        return self.operator_policies if operator else self.policies

    def _in_order(self, operator: bool) -> list[Policy]:
        """Return the policies of a kind in the order in which they apply."""
        ordered = self._ordered.get(operator)
        if ordered is None:
            ordered = sorted(self._of(operator).values(), key=lambda policy: (-policy.priority, policy.name))
            self._ordered[operator] = ordered
        return ordered

    def policy(self, kind: Kind, name: str, queue_type: str) -> Policy | None:
        """Return the policy of an exchange or queue; ``queue_type`` is ignored for exchanges."""
        return _first(self._in_order(False), kind, name, queue_type)

    def operator_policy(self, kind: Kind, name: str, queue_type: str) -> Policy | None:
        """Return the operator policy of an exchange or queue."""
        return _first(self._in_order(True), kind, name, queue_type)

    def effective(self, kind: Kind, name: str, queue_type: str) -> dict[str, Any]:
        """Return the definition of the policy of an exchange or queue, within the operator policy's
        limits.
        """
        return merge_definitions(
            self.policy(kind, name, queue_type), self.operator_policy(kind, name, queue_type)
        )


def merge_definitions(policy: Policy | None, operator: Policy | None) -> dict[str, Any]:
    """Return the definition of a policy within the limits of an operator policy."""
    merged = dict(policy.definition) if policy else {}
    for key, value in operator.definition.items() if operator else ():
        merged[key] = _smaller(merged[key], value) if key in merged else value
    return merged


def _first(policies: Iterable[Policy], kind: Kind, name: str, queue_type: str) -> Policy | None:
    """Return the first policy that applies to a name.

    All patterns that are not quick have ``PATIENCE`` seconds together; after that, they do not match.
    """
    took = 0.0  # seconds of CPU
    for policy in policies:
        if is_quick(policy.matches):
            applies = policy.applies(kind, name, queue_type)
        elif took < PATIENCE:
            began = thread_time()
            applies = policy.applies(kind, name, queue_type)
            took += thread_time() - began
        else:
            applies = False
        if applies:
            return policy
    return None


def _smaller(first: int, second: int) -> int:
    """Return the smaller of two limits, of which a negative one is no limit."""
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
    """Check and return a policy or an operator policy. Raises PolicyError."""
    if refusal := refused_name("policy name", name):
        raise PolicyError(refusal)
    _check_definition(definition, OPERATOR_SETTINGS if operator else SETTINGS)
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

# Settings of mirrored queues, which have no arguments.
_MIRRORED = frozenset(
    (
        "ha-mode",
        "ha-params",
        "ha-sync-mode",
        "ha-sync-batch-size",
        "ha-promote-on-shutdown",
        "ha-promote-on-failure",
    )
)
SETTINGS = _MIRRORED | POLICY_SETTINGS.keys()
OPERATOR_SETTINGS = frozenset(
    key for key, row in POLICY_SETTINGS.items() if row.policy and row.policy.operator
)
# By type of queue: a policy with one of these settings does not apply to queues of the type.
UNSUPPORTED: Mapping[str, frozenset[str]] = {
    queue_type: frozenset(
        key for key, row in POLICY_SETTINGS.items() if queue_type not in row.policy_queue_types
    )
    | (frozenset() if queue_type == "classic" else _MIRRORED)
    for queue_type in ALL
}


def _check_definition(definition: Definition, settings: Set[str]) -> None:
    if not definition:
        raise PolicyError("no policy provided")
    try:
        check_json("definition", definition)
    except ValueError as error:
        raise PolicyError(str(error)) from None
    for key, value in definition.items():
        if key in settings and key in POLICY_SETTINGS:
            _check_value(POLICY_SETTINGS[key], value)
    unknown = [
        f"{{{term(key)},{json_term(value)}}}" for key, value in definition.items() if key not in settings
    ]
    if unknown:
        raise PolicyError(f"[{','.join(unknown)}] are not recognised policy settings")


def _check_value(row: Argument, value: Any) -> None:
    """Raise PolicyError for a value that is invalid for the argument with the same effect as this key."""
    if row.policy is None or row.is_valid(value):
        return
    hint = f"; the maximum is {row.maximum}" if row.is_too_large(value) else ""
    raise PolicyError(row.policy.refusal.format(json_term(value)) + hint)
