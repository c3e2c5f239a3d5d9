"""Rows of an outbox, and their messages.

The columns of a row are described in docs/outbox.md; ``schema`` has their types and defaults.
"""

from struct import Struct
from typing import NamedTuple
from uuid import UUID

import msgspec

from leveret.protocol.amqp.message import Message
from leveret.protocol.amqp.properties import Properties
from leveret.protocol.errors import PreconditionFailed
from leveret.protocol.http import HttpError
from leveret.router.management.resources.messages import properties_of
from leveret.router.values.bounds import build_message

PROPERTIES_MAX = 1 << 16  # bytes of a row's properties as JSON; larger ones would take too much of a turn
PERSISTENT = 2  # the delivery mode of a row that names none

_IDENTITY = Struct(">q16s")


class OutboxRow(NamedTuple):
    """A row, as it was read. ``size`` is that of the body in bytes.

    ``properties`` is JSON, None if it is longer than ``PROPERTIES_MAX``; ``body`` is None if it is larger
    than the broker accepts.
    """

    id: int
    message_id: UUID
    virtual_host: str
    exchange: str
    routing_key: str
    mandatory: bool
    properties: str | None
    body: bytes | None
    size: int

    @property
    def identity(self) -> bytes:
        """The row's id and message id: a restored sequence may give an id again."""
        return _IDENTITY.pack(self.id, self.message_id.bytes)


class FailedRow(NamedTuple):
    """A row that was not published. A ``temporary`` failure is retried without an operator."""

    row: OutboxRow
    error: str
    temporary: bool = False


class BatchResult(NamedTuple):
    """The outcome of a batch of rows; those that were ``published`` may be deleted."""

    published: list[OutboxRow]
    failed: list[FailedRow]


def make_message(row: OutboxRow, *, frame_max: int, max_message_size: int) -> Message:
    """Return the message of a row. Raises PreconditionFailed for a row that makes none."""
    size = row.size if row.body is None else len(row.body)  # a text may be longer in UTF-8
    if row.body is None or size > max_message_size:
        raise PreconditionFailed(f"message size {size} is larger than configured max size {max_message_size}")
    properties = _properties(row.properties)
    if properties.delivery_mode is None:
        properties.delivery_mode = PERSISTENT
    if properties.message_id is None:
        properties.message_id = str(row.message_id)
    return build_message(
        row.exchange,
        row.routing_key,
        properties,
        row.body,
        frame_max=frame_max,
        mandatory=row.mandatory,
    )


def _properties(json: str | None) -> Properties:
    if json is None:
        raise PreconditionFailed(
            f"the properties have more than {PROPERTIES_MAX} bytes of JSON; put large values into the body"
        )
    if json == "{}":
        return Properties()
    try:
        given = msgspec.json.decode(json)
        unknown = sorted(given.keys() - set(Properties.__slots__)) if isinstance(given, dict) else ()
        if unknown:
            raise PreconditionFailed(
                f"there is no property '{unknown[0]}'; the properties are {', '.join(Properties.__slots__)}"
            )
        return properties_of(given)
    except HttpError as error:
        raise PreconditionFailed(f"invalid properties: {error.text}") from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise PreconditionFailed(f"the properties cannot be decoded: {error}") from None
