"""Metrics: their names, their sums, and that many objects keep nobody waiting."""

import gc
import time

import pytest
from prometheus_client.parser import text_string_to_metric_families

from protocol.http import HttpError, Request, split_path
from router.drops import REASONS
from router.management import exposition
from router.management.api import metrics_table
from router.settings import Management
from router.web.routes import Routes
from tests.router.management.api import Api


def asked(api, path="/metrics", headers=None):
    """The pieces of work that a scrape takes, and the text."""
    routes = Routes(metrics_table(api.world))
    answer = routes.find(request := Request("GET", path, split_path(path), "", headers or {}, loopback=True))
    steps, took = answer(request), []
    while True:
        start = time.thread_time()
        try:
            next(steps)
        except StopIteration as end:
            response = end.value
            break
        finally:
            took.append(time.thread_time() - start)
    return took, response.body.decode()


def samples(text):
    """Name and labels -> value; every family may be described once only."""
    families = list(text_string_to_metric_families(text))
    assert len({family.name for family in families}) == len(families)
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


@pytest.fixture
def no_collector():
    """No looks through old objects for garbage, as in a broker that runs."""
    gc.disable()
    yield
    gc.enable()


@pytest.fixture
def busy(api):
    for name in ("a", "b"):
        api.node.queue(name)
    client = api.node.client()
    for name in ("a", "a", "b", "nowhere"):
        client.publish("12345", name)
    client.consume("a", prefetch=1)
    api.node.settle()
    return api


def test_sums_are_told_without_labels(busy):
    told = samples(asked(busy)[1])
    assert told["rabbitmq_queue_messages_ready",] == 2
    assert told["rabbitmq_queue_messages_unacked",] == 1
    assert told["rabbitmq_queue_messages_ready_bytes",] == 10
    assert told["rabbitmq_queues",] == 2
    assert told["rabbitmq_consumers",] == 1
    assert not any(label[0] == "queue" for _, *labels in told for label in labels)


def test_each_queue_is_told_where_that_is_asked_for(busy):
    told = samples(asked(busy, "/metrics/per-object")[1])
    assert told["rabbitmq_queue_messages_ready", ("queue", "a"), ("vhost", "/")] == 1
    assert told["rabbitmq_queue_messages_published_total", ("queue", "a"), ("vhost", "/")] == 2
    assert told["leveret_metrics_objects_left_out", ("kind", "queues")] == 0


def test_totals_are_those_of_everyone_who_ever_came(busy):
    session_client = busy.node.client()
    session_client.publish("x", "a")
    session_client.session.close()
    told = samples(asked(busy)[1])
    assert told["rabbitmq_global_messages_received_total", ("protocol", "all")] == 1
    assert told["rabbitmq_channels_closed_total",] == 1


def test_identity_is_for_grafanas_joins(busy):
    told = samples(asked(busy)[1])
    labels = {name for name, *_ in next(key[1:] for key in told if key[0] == "rabbitmq_identity_info")}
    assert labels == {"rabbitmq_node", "rabbitmq_cluster", "rabbitmq_cluster_permanent_id"}


def test_alarms_and_dead_letters_are_told(api):
    api.broker.alarms.set("memory", raised=True)
    api.node.queue("q", max_length=1)
    for _ in range(3):
        api.node.client().publish("x")
    told = samples(asked(api)[1])
    assert told["rabbitmq_alarms_memory_used_watermark",] == 1
    assert told["rabbitmq_alarms_free_disk_space_watermark",] == 0
    name = "rabbitmq_global_messages_dead_lettered_maxlen_total"
    assert told[name, ("dead_letter_strategy", "disabled"), ("queue_type", "all")] == 2


def test_dropped_messages_are_told_by_reason(api):
    api.node.queue("q", max_length=1)
    for _ in range(3):
        api.node.client().publish("x")
    told = samples(asked(api)[1])
    dropped = {key[1][1]: value for key, value in told.items() if key[0] == "leveret_messages_dropped_total"}
    assert dropped == {**dict.fromkeys(REASONS, 0), "maxlen": 2}


@pytest.mark.parametrize("name", ['quo"te', "back\\slash", "new\nline", "ü", "\udcff"])
def test_names_are_escaped(api, name):
    api.vhost.declare_queue(name)
    told = samples(asked(api, "/metrics/per-object")[1])
    shown = "\\udcff" if name == "\udcff" else name
    assert ("rabbitmq_queue_messages", ("queue", shown), ("vhost", "/")) in told
    assert sum(key[0] == "rabbitmq_queue_messages" for key in told) == 1


def test_a_kind_has_no_more_than_so_many_objects(api, monkeypatch):
    monkeypatch.setattr(exposition, "MOST", 3)
    for number in range(5):
        api.node.queue(f"q{number}")
    told = samples(asked(api, "/metrics/per-object")[1])
    assert sum(key[0] == "rabbitmq_queue_messages" for key in told) == 3
    assert told["leveret_metrics_objects_left_out", ("kind", "queues")] == 2


@pytest.mark.parametrize("path", ["/metrics", "/metrics/per-object"])
def test_ten_thousand_queues_keep_nobody_waiting(api, path, no_collector):
    for number in range(10_000):
        api.node.queue(f"queue-{number}")
    took, text = asked(api, path)
    assert max(took) < 0.1  # seconds of the processor's time
    assert len(took) > 10
    if path.endswith("per-object"):
        assert text.count("\nrabbitmq_queue_messages{") == 10_000


def test_metrics_may_need_a_login():
    with pytest.raises(HttpError) as caught:
        asked(Api(management=Management(metrics="login")))
    assert caught.value.status == 401
