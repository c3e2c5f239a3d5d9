"""Messages published and taken through the API, the health checks, and rates."""

import base64
import json
from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leveret.protocol.http import HttpError
from leveret.router.broker.administration import Administration
from leveret.router.management.node import Listener
from leveret.router.management.resources import messages
from leveret.router.turns.backlog import at_once
from tests.router.management.api import FakeNode

PUBLISH = {"properties": {}, "routing_key": "q", "payload": "hi", "payload_encoding": "string"}
GET = {"count": 10, "ackmode": "ack_requeue_true", "encoding": "auto"}


@pytest.fixture
def queue(api):
    return api.node.queue("q")


def publish(api, **changes):
    return api.ask("POST", "/exchanges/%2F/amq.default/publish", PUBLISH | changes)


def test_message_comes_out_as_it_went_in(api, queue):
    properties = {"delivery_mode": 2, "headers": {"a": 1, "n": {"x": [1, "y"]}}, "content_type": "text/plain"}
    assert publish(api, properties=properties).json == {"routed": True}
    told = api.ask("POST", "/queues/%2F/q/get", GET).json
    assert told == [
        {
            "payload_bytes": 2,
            "redelivered": False,
            "exchange": "",
            "routing_key": "q",
            "message_count": 0,
            "properties": properties,
            "payload": "hi",
            "payload_encoding": "string",
        }
    ]


def test_the_default_exchange_may_be_named_by_its_empty_name(api, queue):
    assert api.ask("POST", "/exchanges/%2F//publish", PUBLISH).json == {"routed": True}
    assert api.ask("POST", "/queues/%2F/q/get", GET).json[0]["payload"] == "hi"


def test_message_without_a_queue_is_not_routed(api):
    assert publish(api, routing_key="nowhere").json == {"routed": False}


@pytest.mark.usefixtures("queue")
@pytest.mark.parametrize("headers", [{}, {"CC": ["a", "b"]}, {"BCC": ["q"]}], ids=repr)
@pytest.mark.parametrize("exchange", ["amq.default", "amq.topic", "amq.headers", "amq.fanout"])
@pytest.mark.parametrize("key", ["q", "nowhere"])
def test_publish_that_takes_several_turns_is_answered_without_a_commit(
    api, monkeypatch, exchange, headers, key
):
    def settle(settle=api.node.settle):
        api.broker.scheduler.end_batch(left_over=False)  # the end of the request's own turn
        settle()

    monkeypatch.setattr(api.node, "settle", settle)
    for name in ("amq.topic", "amq.headers", "amq.fanout"):
        api.ask("POST", f"/bindings/%2F/e/{name}/q/q", {"routing_key": "q"})
    routed = key == "q" or exchange in ("amq.headers", "amq.fanout") or "BCC" in headers
    api.broker.budget.clock = lambda: inf  # spent after each slice
    body = PUBLISH | {"properties": {"headers": headers}, "routing_key": key}
    for _ in range(2):  # the second has a plan
        reply = api.ask("POST", f"/exchanges/%2F/{exchange}/publish", body)
        assert (reply.status, reply.json) == (200, {"routed": routed})


def test_message_that_a_full_queue_refuses_is_not_routed(api):
    api.node.queue("q", max_length=1, overflow="reject-publish")
    assert publish(api).json == {"routed": True}
    assert publish(api).json == {"routed": False}


@pytest.mark.parametrize(
    ("mode", "left", "again"),
    [
        ("ack_requeue_true", 2, True),
        ("reject_requeue_true", 2, True),
        ("ack_requeue_false", 0, None),
        ("reject_requeue_false", 0, None),
    ],
)
def test_mode_says_what_becomes_of_what_was_taken(api, queue, mode, left, again):
    publish(api)
    publish(api)
    told = api.ask("POST", "/queues/%2F/q/get", GET | {"ackmode": mode}).json
    assert [each["message_count"] for each in told] == [1, 0]
    assert len(queue.ready) == left
    if again is not None:
        told = api.ask("POST", "/queues/%2F/q/get", GET).json
        assert [each["redelivered"] for each in told] == [again, again]


def test_messages_of_a_quorum_queue_have_their_delivery_count(api):
    api.node.queue("q", queue_type="quorum")
    publish(api, properties={"headers": {"a": 1}})
    for count in range(3):
        told = api.ask("POST", "/queues/%2F/q/get", GET).json
        assert told[0]["properties"] == {"headers": {"a": 1, "x-delivery-count": count}}
        assert told[0]["redelivered"] is (count > 0)


def test_rejected_messages_go_to_the_dead_letters(api):
    api.node.queue("dead")
    api.node.queue("q", dead_letter_exchange="", dead_letter_routing_key="dead")
    publish(api)
    api.ask("POST", "/queues/%2F/q/get", GET | {"ackmode": "reject_requeue_false"})
    assert api.node.contents("dead") == ["hi"]


def test_bytes_are_shown_in_base64_and_cut(api, queue):
    assert publish(api, payload="/wA=", payload_encoding="base64").json == {"routed": True}
    told = api.ask("POST", "/queues/%2F/q/get", GET).json[0]
    assert (told["payload"], told["payload_encoding"], told["payload_bytes"]) == ("/wA=", "base64", 2)
    told = api.ask("POST", "/queues/%2F/q/get", GET | {"truncate": 1}).json[0]
    assert (told["payload"], told["payload_bytes"]) == ("/w==", 2)


def as_base64(size):
    return {
        "payload": base64.b64encode(bytes(range(8)) * size)[: 4 * size].decode(),
        "payload_encoding": "base64",
    }


@given(
    quads=st.integers(0, 5),
    tail=st.sampled_from(["", "QQ==", "QUI=", "Q", "QQ", "QQ=", "QQ==QUJD", "Q=Q=", "é", "QU!D", "QQ==\n"]),
    behind=st.integers(0, 5),
)
@settings(deadline=None)
def test_base64_that_is_decoded_in_pieces_is_that_of_the_whole(quads, tail, behind):
    text = "QUJD" * quads + tail + "REVG" * behind
    # Padding that nothing needs ("QUJD=") is left out: CPython accepts it at the end of a text.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(messages, "PIECE", 8)
        steps = messages.payload_of({"payload": text, "payload_encoding": "base64"})
        try:
            expected = base64.b64decode(text, validate=True)
        except ValueError:
            with pytest.raises(HttpError) as caught:
                for _ in steps:
                    pass
            assert f"the payload is not base64: {text}" in json.loads(caught.value.response.body)["reason"]
        else:
            assert at_once(steps) == expected


def test_a_large_base64_payload_is_decoded_in_steps_of_bounded_size(api, queue):
    waits = []
    body = PUBLISH | as_base64(messages.PIECE)
    told = api.ask("POST", "/exchanges/%2F/amq.default/publish", body, waits=waits)
    assert told.json == {"routed": True}
    assert waits[:3] == [0, 0, 0]
    (entry,) = queue.ready
    assert entry.message.body == base64.b64decode(body["payload"])


@pytest.mark.parametrize(
    ("change", "status"),
    [
        (lambda api: api.broker.alarms.raised.add("memory"), 503),
        (lambda api: api.broker.users["admin"].permit("/", configure="", write="", read=""), 400),
        (lambda api: api.broker.users["admin"].forbid("/"), 400),
        (lambda api: at_once(api.vhost.clear()), 400),
        (lambda api: Administration(api.broker).delete_vhost("/"), 400),
    ],
    ids=["alarm", "permissions", "access", "exchange", "vhost"],
)
@pytest.mark.usefixtures("queue")
def test_what_changes_while_a_payload_is_decoded_counts(api, change, status):
    body = PUBLISH | as_base64(messages.PIECE)
    path = "/exchanges/%2F/amq.direct/publish"
    told = api.ask("POST", path, body, between=lambda pauses: change(api) if pauses == 1 else None)
    assert told.status == status, told


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"payload": "!!", "payload_encoding": "base64"}, "the payload is not base64: !!"),
        ({"payload_encoding": "zz"}, "there is no encoding 'zz'"),
        ({"properties": {"delivery_mode": "x"}}, "'delivery_mode' should be a whole number from 0 to 255"),
        ({"properties": {"delivery_mode": 256}}, "'delivery_mode' should be a whole number from 0 to 255"),
        ({"properties": {"priority": True}}, "'priority' should be a whole number from 0 to 255"),
        ({"properties": {"priority": -1}}, "'priority' should be a whole number from 0 to 255"),
        (
            {"properties": {"timestamp": -1}},
            "'timestamp' should be a whole number from 0 to 18446744073709551615",
        ),
        ({"properties": {"message_id": 1}}, "'message_id' should be a text"),
        ({"properties": {"headers": []}}, "'headers' should be an object"),
        (
            {"properties": {"headers": {"h" * 256: 1}}},
            "header should be less than 255 bytes, actually was 256",
        ),
        ({"properties": "x"}, "'properties' should be an object"),
        ({"routing_key": 1}, "'routing_key' should be a text, actually was 1"),
        (
            {"properties": {"expiration": "x"}},
            "406 PRECONDITION_FAILED - invalid expiration 'x': no_integer",
        ),
        ({"properties": {"user_id": "other"}}, None),
    ],
)
def test_faults_of_a_message_are_reported(api, queue, changes, reason):
    told = publish(api, **changes)
    assert told.status == 400
    assert reason is None or told.json == {"error": "bad_request", "reason": reason}
    assert len(queue.ready) == 0


def test_publishing_to_a_missing_exchange_has_the_text_of_amqp(api):
    told = api.ask("POST", "/exchanges/%2F/none/publish", PUBLISH)
    assert told.json["reason"] == "404 NOT_FOUND - no exchange 'none' in vhost '/'"


def test_publishing_is_refused_while_an_alarm_is_raised(api, queue):
    api.broker.alarms.set("memory", raised=True)
    told = publish(api)
    assert (told.status, told.json["reason"]) == (503, "publishers are blocked: low on memory")
    assert api.ask("POST", "/queues/%2F/q/get", GET).status == 200


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({}, "[{key_missing,ackmode},{key_missing,count},{key_missing,encoding}]"),
        (GET | {"encoding": "zz"}, "Unsupported encoding. Please use auto or base64."),
        (GET | {"count": "x"}, "'count' should be a whole number, actually was \"x\""),
    ],
)
def test_faults_of_a_get_are_reported(api, queue, body, reason):
    assert api.ask("POST", "/queues/%2F/q/get", body).json["reason"] == reason


def test_get_from_no_queue_is_404(api):
    told = api.ask("POST", "/queues/%2F/none/get", GET)
    assert told.json == {"error": "not_found", "reason": "NOT_FOUND - no queue 'none' in vhost '/'"}


def test_sessions_of_requests_leave_nothing_behind(api, queue):
    publish(api)
    api.ask("POST", "/queues/%2F/q/get", GET)
    assert queue.unacked == 0
    assert api.vhost.past.published.publish == 1
    assert api.vhost.past.delivery_counters.get == 1


# -- health --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("alarms", 200),
        ("local-alarms", 200),
        ("virtual-hosts", 200),
        ("node-is-quorum-critical", 200),
        ("port-listener/5672", 200),
        ("port-listener/1", 503),
        ("port-listener/x", 400),
        ("protocol-listener/amqp", 200),
        ("protocol-listener/amqp091", 200),
        ("protocol-listener/mqtt", 503),
        ("certificate-expiration/1/weeks", 200),
        ("certificate-expiration/1/eons", 400),
        ("certificate-expiration/x/weeks", 400),
    ],
)
def test_health_check(api, path, status):
    assert api.ask("GET", f"/health/checks/{path}").status == status


def test_alarm_fails_its_health_check(api):
    api.broker.alarms.set("disk", raised=True)
    told = api.ask("GET", "/health/checks/alarms")
    assert told.status == 503
    assert told.json["alarms"] == [{"node": "leveret@test", "resource": "disk"}]


def test_certificate_that_expires_soon_fails_the_health_check(api, monkeypatch):
    day = 86_400
    listener = Listener("amqp/ssl", "127.0.0.1", 5671, tls=True, expires=api.broker.wall + 10 * day)
    monkeypatch.setattr(FakeNode, "listeners", lambda self: [listener])
    assert api.ask("GET", "/health/checks/certificate-expiration/1/weeks").status == 200
    told = api.ask("GET", "/health/checks/certificate-expiration/2/weeks")
    assert (told.status, told.json["expired"][0]["port"]) == (503, 5671)


def test_aliveness_takes_a_message_through_the_broker(api):
    assert api.get("/aliveness-test/%2F") == {"status": "ok"}
    assert api.vhost.queues["aliveness-test"].published == 1


# -- rates ---------------------------------------------------------------------------------------------------


def test_rates_are_what_was_added_between_two_looks(api, queue):
    client = api.node.client()
    client.consume(prefetch=2)
    api.sample()
    for number in range(10):
        client.publish(str(number))
    api.node.at(5000)
    client.session.ack(1, multiple=False)
    api.node.settle()
    api.sample()
    told = api.get("/queues/%2F/q")
    stats = told["message_stats"]
    assert (stats["publish"], stats["publish_details"]["rate"]) == (10, 2.0)
    assert (stats["deliver"], stats["deliver_details"]["rate"]) == (3, 0.6)
    assert (stats["ack"], stats["ack_details"]["rate"]) == (1, 0.2)
    assert (told["messages"], told["messages_details"]["rate"]) == (9, 1.8)
    exchange = api.get("/exchanges/%2F/amq.default")["message_stats"]
    assert (exchange["publish_in"], exchange["publish_in_details"]["rate"]) == (10, 2.0)


def test_past_is_shown_where_it_is_asked_for(api, queue):
    client = api.node.client()
    for step in range(4):
        client.publish("x")
        api.node.at(5000 * step)
        api.sample()
    told = api.get("/queues/%2F/q?msg_rates_age=10&msg_rates_incr=5&lengths_age=10&lengths_incr=5")
    details = told["message_stats"]["publish_details"]
    assert [sample["sample"] for sample in details["samples"]] == [4, 3, 2]
    assert details["avg_rate"] == pytest.approx(0.2)
    assert details["samples"][0]["timestamp"] - details["samples"][1]["timestamp"] == 5000
    assert told["messages_details"]["avg"] == pytest.approx(3.0)


@pytest.mark.parametrize(
    "query", ["msg_rates_age=x&msg_rates_incr=5", "msg_rates_age=9999999&msg_rates_incr=1"]
)
def test_past_that_makes_no_sense_is_refused(api, queue, query):
    assert api.ask("GET", f"/queues/%2F/q?{query}").status == 400


def test_queue_that_did_nothing_has_no_stats_and_is_idle(api, queue):
    api.sample()
    api.node.at(5000)
    api.sample()
    told = api.get("/queues/%2F/q")
    assert "message_stats" not in told
    assert told["idle_since"].endswith("+00:00")


def test_series_of_what_has_gone_are_forgotten(api, queue):
    api.sample()
    api.vhost.delete_queue(queue)
    api.sample()
    assert not api.sampler.of(queue).points


def test_totals_outlive_the_sessions_they_are_of(api, queue):
    publish(api)
    told = api.get("/overview")
    assert told["message_stats"]["publish"] == 1
    assert told["queue_totals"]["messages"] == 1
    assert told["object_totals"] == {
        "channels": 0,
        "connections": 0,
        "consumers": 0,
        "exchanges": 8 - 1,
        "queues": 1,
    }


def test_node_shows_alarms_and_measurements(api):
    api.broker.alarms.set("memory", raised=True)
    told = api.get("/nodes")[0]
    assert (told["mem_alarm"], told["disk_free_alarm"], told["mem_used"], told["fd_used"]) == (
        True,
        False,
        1000,
        7,
    )
    assert api.get("/nodes/leveret@test")["name"] == "leveret@test"
    assert api.ask("GET", "/nodes/other").status == 404


def test_taking_many_lets_others_run_in_between(api):
    api.node.queue("q")
    client = api.node.client()
    for number in range(1000):
        client.publish(str(number))
    body = {"count": 1000, "ackmode": "ack_requeue_true", "encoding": "auto"}
    told = api.ask("POST", "/queues/%2F/q/get", body)
    assert [each["payload"] for each in told.json] == [str(number) for number in range(1000)]
    assert told.pauses >= 8
    assert len(api.vhost.queues["q"].ready) == 1000


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/queues/%2F/q", None),
        ("POST", "/queues/%2F/q/get", {"count": 5, "ackmode": "ack_requeue_false", "encoding": "auto"}),
        ("GET", "/queues/%2F/q/messages", None),
        ("POST", "/queues/%2F/q/messages/delete", {"all": True}),
        ("POST", "/queues/%2F/q/messages/move", {"all": True, "exchange": "amq.fanout"}),
        ("DELETE", "/queues/%2F/q/contents", None),
        ("DELETE", "/queues/%2F/q?if-empty=true", None),
        ("PUT", "/policies/%2F/short", {"pattern": "q", "definition": {"max-length": 0}}),
    ],
)
def test_a_waiting_consumer_has_its_messages_before_a_request_is_answered(api, queue, method, path, body):
    client = api.node.client()
    client.consume(prefetch=10)
    for number in range(3):
        client.publish(f"{number}")
    assert not client.delivered  # put off to the end of the batch: a request is one of its own
    assert api.ask(method, path, body).status < 300
    assert client.seen() == ["0", "1", "2"]


@pytest.mark.parametrize("text", ["", "x", "aä€\U0001f600\ud800" * 9], ids=len)
def test_a_text_is_encoded_in_steps(monkeypatch, text):
    monkeypatch.setattr(messages, "PIECE", 4)
    given = {"payload": text, "payload_encoding": "string"}
    assert at_once(messages.payload_of(given)) == text.encode("utf-8", "surrogatepass")
    count = sum(1 for _ in messages.payload_of(given))
    assert count == (-(-len(text) // 4) if len(text) > 4 else 0)
