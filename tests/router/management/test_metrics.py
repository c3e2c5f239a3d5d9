"""Metrics: names, sums, and short turns with many objects."""

import base64
import gc
import time

import pytest
from prometheus_client.parser import text_string_to_metric_families

from leveret.protocol.http import HttpError, Request, split_path
from leveret.router.management.api import metrics_table
from leveret.router.management.metrics import exposition
from leveret.router.management.metrics.broker_metrics import GROUPS
from leveret.router.management.metrics.detailed_metrics import PER_OBJECT
from leveret.router.management.metrics.object_metrics import DELIVERIES
from leveret.router.settings import Management
from leveret.router.turns.backlog import at_once
from leveret.router.vhost.drops import REASONS
from leveret.router.web.response_steps import Wait
from leveret.router.web.routes import HttpRoutes
from tests.router.management.api import Api


def steps_of(routes, path, headers=None):
    """The answer to a scrape, in steps."""
    path, _, query = path.partition("?")
    request = Request("GET", path, split_path(path), query, headers or {}, loopback=True)
    return routes.find(request)(request)


def text_of(response):
    return b"".join((response.body, *response.parts)).decode()


def asked(api, path="/metrics", headers=None):
    """The pieces of work that a scrape takes, and the text."""
    steps, took = steps_of(HttpRoutes(metrics_table(api.context)), path, headers), []
    while True:
        start = time.thread_time()
        try:
            next(steps)
        except StopIteration as end:
            response = end.value
            break
        finally:
            took.append(time.thread_time() - start)
    return took, text_of(response)


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


def test_sums_have_no_labels(busy):
    told = samples(asked(busy)[1])
    assert told["rabbitmq_queue_messages_ready",] == 2
    assert told["rabbitmq_queue_messages_unacked",] == 1
    assert told["rabbitmq_queue_messages_ready_bytes",] == 10
    assert told["rabbitmq_queues",] == 2
    assert told["rabbitmq_consumers",] == 1
    assert not any(label[0] == "queue" for _, *labels in told for label in labels)


def test_per_object_metrics_have_each_queue(busy):
    told = samples(asked(busy, "/metrics/per-object")[1])
    assert told["rabbitmq_queue_messages_ready", ("queue", "a"), ("vhost", "/")] == 1
    assert told["rabbitmq_queue_messages_published_total", ("queue", "a"), ("vhost", "/")] == 2
    assert told["leveret_metrics_objects_left_out", ("kind", "queues")] == 0


def test_totals_include_closed_channels(busy):
    session_client = busy.node.client()
    session_client.publish("x", "a")
    session_client.session.close()
    told = samples(asked(busy)[1])
    assert told["rabbitmq_global_messages_received_total", ("protocol", "amqp091")] == 1
    assert told["rabbitmq_channels_closed_total",] == 1


def test_identity_is_for_grafanas_joins(busy):
    told = samples(asked(busy)[1])
    labels = {name for name, *_ in next(key[1:] for key in told if key[0] == "rabbitmq_identity_info")}
    assert labels == {"rabbitmq_node", "rabbitmq_cluster", "rabbitmq_cluster_permanent_id"}


def test_alarms_and_dead_letters_have_metrics(api):
    api.broker.alarms.set("memory", raised=True)
    api.node.queue("q", max_length=1)
    for _ in range(3):
        api.node.client().publish("x")
    told = samples(asked(api)[1])
    assert told["rabbitmq_alarms_memory_used_watermark",] == 1
    assert told["rabbitmq_alarms_free_disk_space_watermark",] == 0
    name = "rabbitmq_global_messages_dead_lettered_maxlen_total"
    assert told[name, ("dead_letter_strategy", "disabled"), ("queue_type", "all")] == 2


def test_dropped_messages_are_counted_by_reason(api):
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


EVERYTHING = "/metrics/detailed?" + "&".join(f"family={name}" for name in (*PER_OBJECT, *GROUPS))


@pytest.mark.slow
@pytest.mark.parametrize("path", ["/metrics", "/metrics/per-object", EVERYTHING])
def test_ten_thousand_queues_delay_no_other_client(api, path, no_collector):
    for number in range(10_000):
        api.node.queue(f"queue-{number}")
    took, text = asked(api, path)
    assert max(took) < 0.03  # seconds of the processor's time; 5 ms on a machine that does nothing else
    assert sorted(took)[len(took) * 9 // 10] < 0.005
    assert len(took) > 10
    if path.endswith("per-object"):
        assert text.count("\nrabbitmq_queue_messages{") == 10_000


@pytest.mark.parametrize(
    "path", ["/metrics", "/metrics/per-object", "/metrics/detailed?family=queue_metrics"]
)
def test_metrics_may_need_a_login(path):
    api = Api(management=Management(metrics="login"))
    with pytest.raises(HttpError) as caught:
        asked(api, path)
    assert caught.value.status == 401
    token = base64.b64encode(b"admin:admin").decode()
    assert "# TYPE" in asked(api, path, {"authorization": f"Basic {token}"})[1]


def test_counters_of_all_never_shrink_when_a_channel_or_an_exchange_goes(busy):
    """A counter that shrinks is a restart to Prometheus, and shows as a peak of traffic."""
    exchange = busy.vhost.declare_exchange("x", "fanout")
    for name in ("a", "b"):
        busy.vhost.bind(exchange, busy.vhost.queues[name], "")
    client = busy.node.client()
    client.session.select_confirms()
    for _ in range(3):
        client.publish("1", "", "x")
    busy.node.settle()

    def counters():
        told = samples(asked(busy)[1])
        return {key: value for key, value in told.items() if key[0].endswith("_total")}

    before = counters()
    assert before["rabbitmq_global_messages_routed_total", ("protocol", "amqp091")] >= 6
    client.session.close()
    busy.vhost.delete_exchange(exchange)
    after = counters()
    assert [key for key in before if after[key] < before[key]] == []
    assert after["rabbitmq_global_messages_received_confirm_total", ("protocol", "amqp091")] == 3


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("", set()),
        ("family=nonsense", set()),
        ("family=queue_consumer_count", {"queue_consumers"}),
        (
            "family=queue_coarse_metrics&family=queue_consumer_count",
            {"queue_consumers", "queue_messages", "queue_messages_ready", "queue_messages_unacked"},
        ),
        ("family=queue_delivery_metrics&family=ra_metrics", {each.name + "_total" for each in DELIVERIES}),
        ("family=queue_exchange_metrics", {"queue_exchange_messages_published_total"}),
    ],
)
def test_a_detailed_scrape_has_the_requested_families(busy, query, told):
    found = samples(asked(busy, f"/metrics/detailed?{query}")[1])
    names = {name for name, *_ in found} - {"rabbitmq_identity_info", "rabbitmq_build_info"}
    assert names == {f"rabbitmq_detailed_{name}" for name in told}


def test_a_metric_of_two_families_appears_once(busy):
    text = asked(busy, "/metrics/detailed?family=queue_metrics&family=queue_consumer_count")[1]
    assert text.count("# TYPE rabbitmq_detailed_queue_consumers ") == 1
    assert samples(text)["rabbitmq_detailed_queue_consumers", ("queue", "a"), ("vhost", "/")] == 1


def test_a_detailed_scrape_is_for_the_virtual_hosts_that_are_named(busy):
    other = busy.broker.add_vhost("other")
    other.declare_queue("c")
    for query, queues in (
        ("vhost=other", {"c"}),
        ("vhost=other&vhost=%2F", {"a", "b", "c"}),
        ("vhost=x", set()),
    ):
        text = asked(busy, f"/metrics/detailed?family=queue_coarse_metrics&{query}")[1]
        found = {dict(labels)["queue"] for name, *labels in samples(text) if name.endswith("_ready")}
        assert found == queues


def test_vhosts_and_exchanges_are_labelled_by_name(busy):
    text = asked(
        busy, "/metrics/detailed?family=vhost_status&family=exchange_names&family=exchange_bindings"
    )[1]
    told = samples(text)
    assert told["rabbitmq_cluster_vhost_status", ("vhost", "/")] == 1
    labels = (("exchange", "amq.topic"), ("type", "topic"), ("vhost", "/"))
    assert told["rabbitmq_cluster_exchange_name", *labels] == 1
    assert told["rabbitmq_cluster_exchange_bindings", *labels] == 0


def test_too_many_parameters_are_refused(busy):
    with pytest.raises(HttpError) as caught:
        asked(busy, "/metrics/detailed?" + "&".join(["family=queue_metrics"] * 200))
    assert caught.value.status == 400


def test_a_second_scrape_waits_for_the_first_and_shares_its_result(busy):
    routes = HttpRoutes(metrics_table(busy.context))
    first, second = steps_of(routes, "/metrics/per-object"), steps_of(routes, "/metrics/per-object")
    next(first)
    wait = next(second)
    assert isinstance(wait, Wait)
    response = at_once(first)
    assert wait.done
    busy.node.queue("declared later")
    assert at_once(second) is response
    busy.broker.now += 1000
    assert "declared later" in text_of(at_once(steps_of(routes, "/metrics/per-object")))


def test_a_scrape_whose_client_hung_up_lets_the_next_one_run(busy):
    routes = HttpRoutes(metrics_table(busy.context))
    first, second = steps_of(routes, "/metrics/per-object"), steps_of(routes, "/metrics")
    next(first)
    wait = next(second)
    first.close()  # as the server does when a client hangs up
    assert wait.done
    assert at_once(second).status == 200


def test_a_scrape_that_waits_for_too_long_is_refused(busy):
    routes = HttpRoutes(metrics_table(busy.context))
    first, second = steps_of(routes, "/metrics/per-object"), steps_of(routes, "/metrics")
    next(first)
    assert not next(second).done
    with pytest.raises(HttpError) as caught:
        next(second)  # its time is over
    assert caught.value.status == 503
    assert at_once(first).status == 200


def test_a_long_scrape_lets_the_connection_listen_for_its_client(busy):
    for number in range(5000):
        busy.node.queue(f"q{number}")
    pauses = list(steps_of(HttpRoutes(metrics_table(busy.context)), "/metrics/per-object"))
    assert sum(pause > 0 for pause in pauses) >= len(pauses) // 20 - 1
    assert sum(pauses) < 0.05  # seconds that it costs
