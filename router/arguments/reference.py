"""The page docs/arguments.md, made from the table of arguments.

``python -m leveret.router.arguments.reference > docs/arguments.md`` writes it.
"""

import sys
from collections.abc import Iterator

from leveret.router.arguments.argument import Argument, Merge, QueueTypes
from leveret.router.arguments.table import ALL, ARGUMENTS, EXCHANGE_ARGUMENTS, QUEUE_ARGUMENTS

KINDS = {str: "text", int: "integer", bool: "boolean"}
MERGES = {Merge.SMALLER: "smaller", Merge.ARGUMENT: "argument", None: ""}
PAGE = """\
# Arguments of queues and exchanges

Reference for clients and operators: the optional arguments of a declaration. They are the same over AMQP,
STOMP and HTTP and in definitions. This page is written by `python -m leveret.router.arguments.reference`.

```console
leveret queue declare thumbnails.new --argument x-max-length:=1000 --argument x-overflow=reject-publish
```

An invalid value, or an argument of another type of queue, is refused with 406, over HTTP with 400. Arguments
that are not listed here are ignored, as in RabbitMQ.

A second declaration of the same queue or exchange is refused if an argument differs, except for these:
{not_compared}.

Over STOMP an argument is a header of the same name, in SUBSCRIBE and in SEND to `/queue/`, except for
{not_in_send}.

The column *Policy* names the setting of policies that has the same meaning and the same valid values.

- *smaller*: if a policy and the argument both set a value, the smaller one has effect.
- *argument*: if both set a value, the argument has effect. For `overflow` of a quorum queue the policy has
  effect.
- *operator*: operator policies have the setting too.
- *for*: the types of queues for which policies have the setting, if the argument has other types. A policy
  with a setting that does not exist for a queue's type does not apply to that queue at all.

## Queues

| Argument | Value | Queues | Policy | Meaning |
|---|---|---|---|---|
{queues}

## Exchanges

| Argument | Value | Exchanges | Policy | Meaning |
|---|---|---|---|---|
{exchanges}
"""


def page() -> str:
    """Return the page in Markdown."""
    queues, exchanges = QUEUE_ARGUMENTS.values(), EXCHANGE_ARGUMENTS.values()
    return PAGE.format(
        not_compared=", ".join(f"`{row.name}`" for row in ARGUMENTS.values() if not row.compared),
        not_in_send="; ".join(
            f"`{row.name}`, because {row.not_in_send}" for row in queues if row.not_in_send
        ),
        queues="\n".join(_line(row, _types(row.queue_types)) for row in queues),
        exchanges="\n".join(_line(row, row.exchanges) for row in exchanges),
    )


def _types(types: QueueTypes) -> str:
    return "all" if types == ALL else ", ".join(types)


def _line(row: Argument, where: str) -> str:
    notes = ", ".join(_policy_notes(row))
    policy = f"`{row.policy_key}`{f' ({notes})' if notes else ''}" if row.policy else ""
    return f"| `{row.name}` | {KINDS[row.kind]} | {where} | {policy} | {row.meaning} |"


def _policy_notes(row: Argument) -> Iterator[str]:
    if row.policy is None:
        return
    if row.policy.merge is not None:
        yield MERGES[row.policy.merge]
    if row.policy.operator:
        yield "operator"
    if row.queue_types and row.policy_queue_types != row.queue_types:
        yield f"for {_types(row.policy_queue_types)}"


if __name__ == "__main__":
    sys.stdout.write(page())
