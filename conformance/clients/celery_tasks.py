"""The Celery application of test_celery: the same one in the test and in its workers, which are processes.

``python -m conformance.clients.celery_tasks URL PREFIX worker ...`` runs Celery's command line with it.
"""

import os
import sys
import time
from pathlib import Path
from typing import Any

from celery import Celery
from kombu import Exchange, Queue


def make_app(url: str, prefix: str) -> Celery:
    """An application whose queues and exchanges begin with ``prefix``, with results over AMQP."""
    app = Celery("conformance", broker=url, backend="rpc://", set_as_current=False)
    app.conf.update(
        task_default_queue=prefix,
        task_queues=[
            Queue(prefix, Exchange(prefix, "direct"), routing_key=prefix),
            Queue(
                prefix + "-priority",
                Exchange(prefix, "direct"),
                routing_key=prefix + "-priority",
                max_priority=10,
            ),
            Queue(prefix + "-fragile", Exchange(prefix, "direct"), routing_key=prefix + "-fragile"),
        ],
        control_exchange=prefix + "-control",
        event_exchange=prefix + "-events",
        event_queue_prefix=prefix + "-events",
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        task_send_sent_event=True,
        worker_prefetch_multiplier=4,
        worker_hijack_root_logger=False,
        broker_heartbeat=4,
        broker_connection_retry_on_startup=True,
        broker_connection_timeout=5,
        result_expires=60,
    )
    add_tasks(app)
    return app


def add_tasks(app: Celery) -> None:
    """Register the tasks."""

    @app.task(name="double")
    def double(number: int) -> int:
        return 2 * number

    @app.task(name="add")
    def add(left: int, right: int) -> int:
        return left + right

    @app.task(name="total")
    def total(numbers: list[int]) -> int:
        return sum(numbers)

    @app.task(name="started")
    def started(seconds: float = 0.0) -> float:
        """When the task started: wall clock, seconds."""
        now = time.time()
        time.sleep(seconds)
        return now

    @app.task(name="flaky", bind=True, autoretry_for=(ConnectionError,), retry_backoff=1, retry_jitter=False)
    def flaky(self: Any, failures: int) -> int:
        if self.request.retries < failures:
            raise ConnectionError("not yet")
        return int(self.request.retries)

    @app.task(name="fragile", bind=True)
    def fragile(self: Any, marker: str) -> bool:
        """Hang in the first delivery, after telling so; return whether this is a redelivery."""
        redelivered = bool(self.request.delivery_info["redelivered"])
        if not redelivered:
            Path(marker).write_text(str(os.getpid()))
            time.sleep(60)
        return redelivered

    @app.task(name="fail")
    def fail() -> None:
        raise ValueError("as asked")


if __name__ == "__main__":
    make_app(*sys.argv[1:3]).start(sys.argv[3:])
