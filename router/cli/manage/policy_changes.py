"""Work out which existing queues get another policy when policies are set, changed or deleted.

Responsible for choosing the policy of a queue as the broker does: the highest priority, then the first name.
``data_loss`` describes the settings that delete messages or queues.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

from leveret.router.cli.table import Object

QUEUE_TYPES = {"classic_queues": "classic", "quorum_queues": "quorum", "streams": "stream"}


class Change(NamedTuple):
    """A queue, as the API lists it, with its policies before and after a change; None is no policy."""

    queue: Object
    before: Object | None
    after: Object | None


def policy_applies(policy: Object, queue: Object) -> bool:
    """Return True if the policy matches the queue; a pattern that cannot be compiled matches none."""
    if policy["vhost"] != queue["vhost"] or policy["apply-to"] == "exchanges":
        return False
    kind = QUEUE_TYPES.get(policy["apply-to"])
    return kind in (None, type_of(queue)) and _matcher(policy["pattern"])(queue["name"])


def type_of(queue: Object) -> str:
    """Return the type of a queue; an API without this field has classic queues only."""
    kind: str = queue.get("type", "classic")
    return kind


def policy_changes(
    before: Sequence[Object], after: Sequence[Object], queues: Iterable[Object]
) -> Iterator[Change]:
    """Yield the queues whose settings by policy differ between two lists of policies."""
    for queue in queues:
        change = Change(queue, _effective(before, queue), _effective(after, queue))
        if settings_of(change.before) != settings_of(change.after):
            yield change


def settings_of(policy: Object | None) -> Object:
    """Return the definition of a policy; no policy has an empty one."""
    definition: Object = {} if policy is None else policy["definition"]
    return definition


def _effective(policies: Sequence[Object], queue: Object) -> Object | None:
    matching = (policy for policy in policies if policy_applies(policy, queue))
    return min(matching, key=lambda policy: (-policy["priority"], policy["name"]), default=None)


@lru_cache(maxsize=1000)
def _matcher(pattern: str) -> Callable[[str], bool]:
    from leveret.router.values.patterns import PatternError, compile_pattern  # takes long to import

    try:
        return compile_pattern(pattern)
    except PatternError:
        return lambda name: False
