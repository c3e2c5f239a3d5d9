"""Metrics of transactional outboxes, which RabbitMQ does not have."""

from collections.abc import Iterator

from leveret.router.broker.broker import Broker
from leveret.router.management.metrics.broker_metrics import Value, counter, gauge


def outboxes(broker: Broker) -> Iterator[Value]:
    """Yield the state and the counters of each outbox."""
    for state in broker.outboxes:
        labels = (("outbox", state.database),)
        text = "1 while the broker publishes from the outbox"
        yield gauge("leveret_outbox_running", text, state.phase == "running", labels)
        if state.rows_waiting is not None:
            text = "Rows of the outbox that wait to be published, at most 100,000"
            yield gauge("leveret_outbox_rows_waiting", text, state.rows_waiting, labels)
            text = "Seconds that the oldest row of the outbox has waited"
            yield gauge("leveret_outbox_oldest_row_seconds", text, state.oldest or 0, labels)
        if state.rows_failed is not None:
            text = "Rows of the outbox that could not be published, at most 100,000"
            yield gauge("leveret_outbox_rows_failed", text, state.rows_failed, labels)
        text = "Rows published from the outbox"
        yield counter("leveret_outbox_rows_published", text, state.published, labels)
        text = "Attempts to publish a row of the outbox that failed"
        yield counter("leveret_outbox_rows_refused", text, state.refused, labels)
        text = "Rows of the outbox that were found again after they had been published"
        yield counter("leveret_outbox_rows_recognized", text, state.recognized, labels)
        text = "Connections to the outbox's database that were lost or refused"
        yield counter("leveret_outbox_reconnections", text, state.reconnections, labels)
