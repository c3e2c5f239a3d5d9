"""The states of transactional outboxes in the API and in the metrics."""

from leveret.router.broker.outbox_state import OutboxState
from tests.router.management.api import Api
from tests.router.management.test_metrics import asked, samples


def api_with(*states):
    api = Api()
    api.broker.outboxes += states
    return api


RUNNING = OutboxState("postgresql://db/shop", "running", "", 3, 1, 0.5, published=7, refused=2, recognized=1)
FAILING = OutboxState("postgresql://db/other", "failing", "there is no table leveret_outbox", reconnections=4)


def test_the_api_lists_outboxes():
    found = api_with(RUNNING, FAILING).get("/outboxes")
    assert found == [
        {
            "database": "postgresql://db/shop",
            "phase": "running",
            "error": "",
            "rows_waiting": 3,
            "rows_failed": 1,
            "oldest": 0.5,
            "published": 7,
            "refused": 2,
            "recognized": 1,
            "reconnections": 0,
        },
        {
            "database": "postgresql://db/other",
            "phase": "failing",
            "error": "there is no table leveret_outbox",
            "rows_waiting": None,
            "rows_failed": None,
            "oldest": None,
            "published": 0,
            "refused": 0,
            "recognized": 0,
            "reconnections": 4,
        },
    ]


def test_the_metrics_have_each_outbox():
    told = samples(asked(api_with(RUNNING, FAILING))[1])
    shop, other = ("outbox", "postgresql://db/shop"), ("outbox", "postgresql://db/other")
    assert told["leveret_outbox_running", shop] == 1
    assert told["leveret_outbox_running", other] == 0
    assert told["leveret_outbox_rows_waiting", shop] == 3
    assert told["leveret_outbox_rows_failed", shop] == 1
    assert told["leveret_outbox_oldest_row_seconds", shop] == 0.5
    assert told["leveret_outbox_rows_published_total", shop] == 7
    assert told["leveret_outbox_rows_refused_total", shop] == 2
    assert told["leveret_outbox_rows_recognized_total", shop] == 1
    assert told["leveret_outbox_reconnections_total", other] == 4
    assert ("leveret_outbox_rows_waiting", other) not in told
