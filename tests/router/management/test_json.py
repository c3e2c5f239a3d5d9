"""Answers are strict JSON, whatever bytes clients have put into names, headers and arguments."""

import re
from dataclasses import replace

import msgspec
import pytest

from leveret.router.management.api import PREFIX, rules
from leveret.router.management.openapi import describe

ODD = "a\udcff"
SHOWN = "Not UTF-8, base64 is: Yf8="
READ = [pattern for pattern, methods in rules().items() if "GET" in methods]


@pytest.fixture
def odd(api):
    """An API over a broker that has nothing but names and values of bytes."""
    exchange = api.vhost.declare_exchange(ODD, "topic", arguments={"x": ODD, ODD: b"\xff"})
    queue = api.vhost.declare_queue(ODD, durable=True, arguments={"x": [ODD, {ODD: b"\xff"}]})
    api.vhost.bind(exchange, queue, ODD, {ODD: ODD})
    client = api.node.client()
    client.publish("x", ODD, ODD, message_id=ODD, headers={ODD: [b"\xff", {"x": ODD}]})
    client.consume(ODD, tag=ODD)
    api.broker.add_vhost(ODD)
    api.broker.users["admin"].permit(ODD, configure=ODD, write="", read="")
    api.broker.global_parameters[ODD] = ODD
    api.node.settle()
    api.sample()
    return api


def ask(api, pattern, **segments):
    """The response to a request for a path of this pattern, with the segments as they are."""
    found = tuple(segments.get(part[1:-1], part) for part in f"{PREFIX}{pattern}".split("/")[1:])
    request = replace(api.request("GET", "/", None, "admin"), segments=found)
    answer = api.routes.find(request)(request)
    while hasattr(answer, "send"):
        try:
            next(answer)
        except StopIteration as end:
            answer = end.value
    return answer


@pytest.mark.parametrize("pattern", READ)
def test_answer_is_strict_json(odd, pattern):
    names = re.findall(r"{(\w+)}", pattern)
    segments = {name: {"vhost": "/", "user": "admin", "kind": "q"}.get(name, ODD) for name in names}
    try:
        response = ask(odd, pattern, **segments)
    except Exception as error:  # a refusal is an answer too
        response = error.response
    assert "json" in response.content_type or not response.body
    if response.body:
        msgspec.json.decode(response.body)
        assert b"\\ud" not in response.body


@pytest.mark.parametrize(
    "pattern",
    ["/queues", "/exchanges", "/bindings", "/consumers", "/vhosts", "/permissions", "/global-parameters"],
)
def test_bytes_are_shown_as_rabbitmq_does(odd, pattern):
    assert SHOWN in ask(odd, pattern).body.decode()


def test_message_is_shown_with_its_bytes(api):
    api.node.queue("q")
    api.node.client().publish("x", "q", message_id=ODD, headers={ODD: [b"\xff", {"x": ODD}]})
    body = {"count": 1, "ackmode": "ack_requeue_true", "encoding": "auto"}
    [told] = api.ask("POST", "/queues/%2F/q/get", body).json
    assert told["properties"] == {
        "message_id": SHOWN,
        "headers": {SHOWN: ["Not UTF-8, base64 is: /w==", {"x": SHOWN}]},
    }


def test_refusal_is_strict_json(api):
    told = api.ask("POST", "/exchanges/%2F/amq.topic/publish", b'"\\udcff"')
    assert (told.status, told.json["reason"]) == (400, "not_json")


def test_description_of_the_api_is_strict_json():
    assert b"\\ud" not in msgspec.json.encode(describe(rules(), PREFIX, "0"))


def test_bindings_by_bytes_and_by_the_text_that_shows_them_have_their_own_keys(api):
    api.node.queue("q")
    queue, source = api.vhost.queues["q"], api.vhost.exchanges["amq.topic"]
    for value in (ODD, SHOWN):
        api.vhost.bind(source, queue, "k", {"x": value})
    found = api.get("/bindings/%2F/e/amq.topic/q/q")
    assert len({each["properties_key"] for each in found}) == 2
    for each in found:
        assert api.ask("DELETE", f"/bindings/%2F/e/amq.topic/q/q/{each['properties_key']}").status == 204
