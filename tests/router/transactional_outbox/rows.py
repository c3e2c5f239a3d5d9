"""Rows of an outbox for tests, and a publisher of them."""

from itertools import count
from uuid import UUID

from leveret.router.transactional_outbox.published_rows import PublishedRows
from leveret.router.transactional_outbox.publisher import OutboxPublisher
from leveret.router.transactional_outbox.rows import OutboxRow
from leveret.router.turns.backlog import at_once
from tests.router.harness import AnyUser

OUTBOX = bytes(range(16))
_ids = count(1)


class OutboxUser(AnyUser):
    """A user who may enter all virtual hosts that are not ``barred``."""

    barred = ()

    def may_enter(self, vhost):
        return vhost not in self.barred


def row(body="x", key="q", **columns):
    """A row with the defaults of the table."""
    number = columns.pop("id", None) or next(_ids)
    encoded = body.encode() if isinstance(body, str) else body
    given = {
        "id": number,
        "message_id": UUID(int=number),
        "virtual_host": "/",
        "exchange": "",
        "routing_key": key,
        "mandatory": True,
        "properties": "{}",
        "body": encoded,
        "size": len(encoded or b""),
    }
    return OutboxRow(**given | columns)


def restored(outbox, notes):
    """The memory of published rows after a start."""
    rows = PublishedRows(outbox, notes)
    at_once(rows.restore())
    return rows


class Outbox:
    """An outbox of a broker without Trio."""

    def __init__(self, broker, outbox=OUTBOX):
        self.published = restored(outbox, broker.storage.broker_notes)
        self.publisher = OutboxPublisher(broker, self.published)
        self.user = OutboxUser()
        self.results = []

    def publish(self, *rows):
        self.publisher.publish(rows, self.user, self.results.append)

    @property
    def done(self):
        """The bodies that may be deleted."""
        return [row.body.decode() for result in self.results for row in result.published]

    @property
    def errors(self):
        return [each.error for result in self.results for each in result.failed]

    @property
    def temporary(self):
        return [each.temporary for result in self.results for each in result.failed]
