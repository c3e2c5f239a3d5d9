"""What the API has answered outlives a kill -9: it was on disk before that was told."""

import os
import signal
from pathlib import Path

from conformance.brokers import Broker, leveret
from conformance.management.sides import Side

OPTIONS = ("--set", "auth.password_hash=sha256")
GET = {"count": 10, "ackmode": "ack_requeue_true", "encoding": "auto"}


def side(broker: Broker) -> Side:
    assert broker.http_port is not None
    return Side("leveret", broker.port, broker.http_port, broker.http_port)


def kill(broker: Broker) -> None:
    assert broker.pid is not None
    os.kill(broker.pid, signal.SIGKILL)


def contents(api: Side, queue: str) -> list[str]:
    return [each["payload"] for each in api.ask("POST", f"/queues/%2F/{queue}/get", GET).body]


def test_what_was_answered_is_there_after_a_kill(tmp_path: Path) -> None:
    data = str(tmp_path / "data")
    message = {
        "properties": {"delivery_mode": 2},
        "routing_key": "kept",
        "payload": "1",
        "payload_encoding": "string",
    }
    with leveret(data, arguments=OPTIONS) as broker:
        api = side(broker)
        assert api.ask("PUT", "/queues/%2F/kept", {"durable": True}).status == 201
        assert api.ask("PUT", "/users/kept", {"password": "p", "tags": "management"}).status == 201
        for payload in "123":
            told = api.ask("POST", "/exchanges/%2F/amq.default/publish", message | {"payload": payload})
            assert told.body == {"routed": True}
        kill(broker)
    with leveret(data, arguments=OPTIONS) as broker:
        api = side(broker)
        assert contents(api, "kept") == ["1", "2", "3"]
        assert api.get("/users/kept")["tags"] == ["management"]
        assert api.ask("PUT", "/queues/%2F/other", {"durable": True}).status == 201
        moved = api.ask(
            "POST",
            "/queues/%2F/kept/messages/move",
            {"exchange": "", "routing_key": "other", "positions": [1]},
        )
        assert moved.body["done"] == 1
        assert api.ask("DELETE", "/queues/%2F/kept/messages/0").status == 204
        kill(broker)
    with leveret(data, arguments=OPTIONS) as broker:
        api = side(broker)
        assert (contents(api, "kept"), contents(api, "other")) == (["3"], ["2"])
