"""Definitions through the API; what they say is tested where they are read and written."""

import json


def test_what_is_exported_can_be_imported_elsewhere(api):
    api.ask("PUT", "/queues/%2F/q", {"durable": True})
    api.ask("POST", "/bindings/%2F/e/amq.topic/q/q", {"routing_key": "k"})
    document = api.get("/definitions")
    assert [queue["name"] for queue in document["queues"]] == ["q"]
    api.ask("DELETE", "/queues/%2F/q")
    assert api.ask("POST", "/definitions", document).status == 204
    assert api.get("/bindings/%2F/e/amq.topic/q/q")[0]["routing_key"] == "k"


def test_one_virtual_host_is_exported_without_its_name(api):
    api.ask("PUT", "/queues/%2F/q", {"durable": True})
    document = api.get("/definitions/%2F")
    assert "vhost" not in document["queues"][0]
    api.ask("PUT", "/vhosts/v", {})
    assert api.ask("POST", "/definitions/v", document).status == 204
    assert [queue["name"] for queue in api.get("/queues/v")] == ["q"]
    assert api.ask("GET", "/definitions/nowhere").json["reason"] == "vhost_not_found"


def test_entry_that_is_refused_is_named(api):
    document = {"queues": [{"name": "q", "vhost": "nowhere"}]}
    told = api.ask("POST", "/definitions", document)
    assert told.status == 400
    assert "queue 'q'" in told.json["reason"]


def test_import_lets_others_run(api):
    queues = [{"name": f"q{number}", "vhost": "/", "durable": False} for number in range(500)]
    told = api.ask("POST", "/definitions", json.dumps({"queues": queues}).encode())
    assert told.status == 204
    assert told.pauses >= 9


def test_download_has_a_safe_name(api):
    headers = api.ask("GET", '/definitions?download=a"b/..%0d%0ac.json').headers
    assert headers["Content-Disposition"] == 'attachment; filename="ab..c.json"'
