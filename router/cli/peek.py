"""Fetch messages of a queue without removing them or counting a delivery.

Uses ``GET /api/queues/VHOST/NAME/messages``, which leveret has and RabbitMQ does not.
"""

import shlex
from typing import Any

from leveret.router.cli.api import Api, NoSuchPath, ObjectNotFound
from leveret.router.cli.failure import Failure

MOST = 1000  # messages that the API shows in one response
MOST_BYTES = 1 << 24  # bytes of their bodies


def peek(api: Api, vhost: str, queue: str, count: int, **query: str | int | None) -> list[dict[str, Any]]:
    """Return up to ``count`` messages, in the form of ``message_output.describe`` and with their positions.

    ``query`` are parameters of the API: ``selector``, ``from`` (a position), ``truncate`` (bytes of each
    body). Raises Failure.
    """
    given = {name: value for name, value in query.items() if value is not None}
    try:
        found = api.get("queues", vhost, queue, "messages", count=count, **given)
    except (ObjectNotFound, NoSuchPath):
        raise _why_not(api, vhost, queue) from None
    except Failure as error:
        if "consumers only" in error.message:
            raise Failure(
                f"{queue!r} is a stream, which is read from an offset: "
                f"`leveret consume {shlex.quote(queue)} --offset first`"
            ) from None
        raise
    return [_described(each) for each in found]


def _why_not(api: Api, vhost: str, queue: str) -> Failure:
    """Return the failure for a missing queue, or for an API that cannot show messages."""
    try:
        api.get("queues", vhost, queue, columns="name")
    except ObjectNotFound:
        return Failure(
            f"there is no queue {queue!r} in virtual host {vhost!r}; `leveret queue list` shows them"
        )
    return Failure(
        f"the broker at {api.shown} cannot show messages without delivering them; this needs leveret\n"
        "`leveret get --settle requeue` gets them over AMQP and puts them back, which counts as a delivery: "
        "a quorum queue drops a message that was delivered too often"
    )


def _described(message: dict[str, Any]) -> dict[str, Any]:
    is_text = message["payload_encoding"] == "string"
    return {
        "position": message["position"],
        "exchange": message["exchange"],
        "routing_key": message["routing_key"],
        "redelivered": message["redelivered"],
        "properties": message["properties"] or {},
        "body_bytes": message["payload_bytes"],
        "body_encoding": "utf-8" if is_text else "base64",
        "body": message["payload"],
    }
