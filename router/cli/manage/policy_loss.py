"""Confirmation before policies are set, deleted or imported that delete queues or messages.

Responsible for the question that an operator has to answer (``--yes`` in a script): ``expires`` of a policy
deletes whole queues, and limits may delete existing messages. Not for the words for each setting (see
``data_loss``), nor for which queues get another policy (see ``policy_changes``).
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from leveret.router.cli.amqp import notice
from leveret.router.cli.api import Api
from leveret.router.cli.failure import WrongUsage
from leveret.router.cli.manage.common import confirm, listed
from leveret.router.cli.manage.data_loss import LENGTHS, REJECTING, describe_loss, is_number
from leveret.router.cli.manage.policy_changes import (
    Change,
    policy_applies,
    policy_changes,
    settings_of,
    type_of,
)
from leveret.router.cli.table import Object
from leveret.router.cli.terminal import counted, printable

POLICIES = {"policies": "policy", "operator-policies": "operator policy"}  # kinds in the API, and in words


def confirm_policy(api: Api, vhost: str, kind: str, policy: Object, yes: bool) -> None:
    """Warn of a policy that deletes something, and ask if it deletes existing queues or messages.

    Does nothing if the same policy exists with the same content. Raises click.Abort for the answer no, and
    WrongUsage without a terminal or for an invalid pattern.
    """
    before = [_content(each) for each in listed(api, kind, vhost)]
    if policy in before:
        return
    warnings = list(_describe(policy))
    if warnings:
        _check_pattern(policy["pattern"])
    queues = listed(api, "queues", vhost)
    others = [each for each in before if each["name"] != policy["name"]]
    loss = PolicyLoss(kind, policy_changes(before, [*others, policy], queues))
    sentences = list(loss.describe(except_for=policy["name"]))
    if warnings or sentences:
        matching = [queue for queue in queues if policy_applies(policy, queue)]
        notices = (*warnings, f"the pattern matches {_size(matching, vhost)}", *sentences)
        for sentence in notices:
            notice(sentence)
    if loss.is_due or (warnings and "expires" in policy["definition"]):
        confirm(f"Set the {POLICIES[kind]} {policy['name']!r} at {api.shown}?", yes)


def confirm_policy_deletion(api: Api, vhost: str, kind: str, name: str, yes: bool) -> None:
    """Ask before a policy is deleted if the policy that then applies deletes queues or messages."""
    before = listed(api, kind, vhost)
    after = [each for each in before if each["name"] != name]
    if len(after) == len(before):
        return  # the API reports that there is no such policy
    loss = PolicyLoss(kind, policy_changes(before, after, listed(api, "queues", vhost)))
    for sentence in loss.describe():
        notice(sentence)
    if loss.is_due:
        confirm(f"Delete the {POLICIES[kind]} {name!r} at {api.shown}?", yes)


def confirm_import(api: Api, vhost: str | None, definitions: Object, yes: bool) -> None:
    """Ask before definitions are imported whose policies delete existing queues or messages."""
    due = False
    for kind, imported in _imported_policies(definitions, vhost).items():
        if not imported:
            continue
        before = [_content(each) for each in listed(api, kind)]
        after = {(each["vhost"], each["name"]): each for each in (*before, *imported)}
        loss = PolicyLoss(kind, policy_changes(before, list(after.values()), listed(api, "queues")))
        for sentence in loss.describe():
            notice(sentence)
        due = due or loss.is_due
    if due:
        confirm(f"Import the definitions at {api.shown}?", yes)


class PolicyLoss:
    """Losses of queues by changes of their policies. ``kind`` is that of the policies, as in the API."""

    def __init__(self, kind: str, changes: Iterable[Change]) -> None:
        self._kind = kind
        self._messages = self._bytes = self._stream_messages = self._unprotected = 0
        self._expiring = False
        self._applied: dict[
            tuple[str, str], tuple[Object, list[Object]]
        ] = {}  # policies, and the queues they will apply to
        for change in changes:
            self._add(change)

    @property
    def is_due(self) -> bool:
        """Return True if existing queues or messages may be deleted."""
        return bool(self._expiring or self._messages or self._bytes or self._stream_messages)

    def describe(self, except_for: str | None = None) -> Iterator[str]:
        """Yield sentences about the losses, without the settings of the policy ``except_for``."""
        for policy, queues in self._applied.values():
            name, vhost = policy["name"], policy["vhost"]
            warnings = [] if name == except_for else list(_describe(policy))
            if warnings:
                applies = (
                    f"the {POLICIES[self._kind]} {printable(name)!r} will apply to {_size(queues, vhost)}"
                )
                yield from (applies, *warnings)
        if self._unprotected:
            yield (
                f"{counted(self._unprotected, 'queue')} will drop the oldest messages at the limit despite "
                "the policy's overflow: an argument x-overflow has precedence, and quorum queues do not "
                "support reject-publish-dlx"
            )
        if self._messages:
            number = counted(self._messages, "message")
            yield f"{number} of them are beyond the limit, and are deleted at once"
        if self._bytes:
            size = counted(self._bytes, "byte")
            yield f"{size} of them are beyond the limit: the oldest messages are deleted at once"
        if self._stream_messages:
            number = counted(self._stream_messages, "message")
            yield f"{number} of them are in streams: segments beyond the limit are deleted at once"

    def _add(self, change: Change) -> None:
        """Count the losses of one queue."""
        queue, settings, earlier = change.queue, settings_of(change.after), settings_of(change.before)
        if change.after is not None:
            key = (change.after["vhost"], change.after["name"])
            self._applied.setdefault(key, (change.after, []))[1].append(queue)
        if is_number(settings.get("expires")) and settings["expires"] != earlier.get("expires"):
            self._expiring = True
        if type_of(queue) == "stream":
            if _shortens_stream(queue, settings, earlier):
                self._stream_messages += _count(queue, "messages")
        elif not self._rejects(queue, settings):
            if settings.get("overflow") in REJECTING["classic"] and any(
                name in settings for name, _ in LENGTHS
            ):
                self._unprotected += 1
            self._messages += _beyond(queue, settings, "max-length", "messages_ready")
            self._bytes += _beyond(queue, settings, "max-length-bytes", "message_bytes_ready")

    def _rejects(self, queue: Object, settings: Object) -> bool:
        """Return True if a queue refuses messages at its limit. An operator policy cannot set that."""
        operator = self._kind == "operator-policies"
        effective = (queue.get("effective_policy_definition") or {}) if operator else settings
        overflow = (queue.get("arguments") or {}).get("x-overflow", effective.get("overflow"))
        return overflow in REJECTING.get(type_of(queue), ())


def _describe(policy: Object) -> Iterator[str]:
    """Yield the losses that the settings of a policy cause."""
    if policy["apply-to"] == "exchanges":
        return iter(())
    kinds = {"quorum_queues": "quorum", "streams": "stream"}
    return describe_loss(policy["definition"], kinds.get(policy["apply-to"], "classic"))


def _imported_policies(definitions: Object, vhost: str | None) -> dict[str, list[Object]]:
    """Return the policies of a definitions document by kind, without entries that the broker will refuse.

    All of them go to ``vhost``; None means that each names its own virtual host.
    """
    operator: list[Object] = [
        {"name": each.get("name"), "vhost": each.get("vhost"), **each["value"]}
        for each in _objects(definitions.get("parameters"))
        if each.get("component") == "operator_policy" and isinstance(each.get("value"), dict)
    ]
    found: dict[str, list[Object]] = {
        "policies": _objects(definitions.get("policies")),
        "operator-policies": operator,
    }
    home = {} if vhost is None else {"vhost": vhost}
    defaults = {"apply-to": "all", "priority": 0}
    return {
        kind: [_content(policy) for each in policies if _is_policy(policy := {**defaults, **each, **home})]
        for kind, policies in found.items()
    }


def _objects(value: Any) -> list[Object]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _is_policy(each: Object) -> bool:
    texts = all(isinstance(each.get(key), str) for key in ("vhost", "name", "pattern", "apply-to"))
    return texts and is_number(each["priority"]) and isinstance(each.get("definition"), dict)


def _content(policy: Object) -> Object:
    """Return a policy without the fields that no request has."""
    keys = ("vhost", "name", "pattern", "definition", "apply-to", "priority")
    return {key: policy[key] for key in keys if key in policy}


def _check_pattern(pattern: str) -> None:
    """Raise WrongUsage if no broker accepts the pattern as a regular expression."""
    from leveret.router.values.patterns import PatternError, compile_pattern

    try:
        compile_pattern(pattern)
    except PatternError as error:
        raise WrongUsage(str(error)) from None


def _size(queues: Sequence[Object], vhost: str) -> str:
    messages = counted(sum(_count(queue, "messages") for queue in queues), "message")
    return f"{counted(len(queues), 'existing queue')} in {printable(vhost)!r}, with {messages}"


def _beyond(queue: Object, settings: Object, name: str, field: str) -> int:
    """Return how much of a queue is beyond a limit: the smaller one of its argument and its policy."""
    limits = (settings.get(name), (queue.get("arguments") or {}).get(f"x-{name}"))
    limit = min((each for each in limits if is_number(each)), default=None)
    return 0 if limit is None else max(0, _count(queue, field) - limit)


def _shortens_stream(queue: Object, settings: Object, earlier: Object) -> bool:
    """Return True if a stream may lose segments to new limits. No API has the age of segments, and RabbitMQ's
    does not have their size.
    """
    age, limit = settings.get("max-age"), settings.get("max-length-bytes")
    if age is not None and age != earlier.get("max-age"):
        return True
    size = queue.get("message_bytes_ready")
    return is_number(limit) and limit != earlier.get("max-length-bytes") and (size is None or size > limit)


def _count(row: Object, name: str) -> int:
    value = row.get(name, 0)
    return value if isinstance(value, int) else 0
