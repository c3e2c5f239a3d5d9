"""What the API has changed is there after the broker was killed."""

import os
import signal
from pathlib import Path

import pika
import pytest

from conformance import brokers
from conformance.access.conftest import Managed


def test_what_was_answered_outlives_a_kill(tmp_path: Path, request):
    if request.config.getoption("--broker") != "leveret":
        pytest.skip("leveret alone is killed here")
    with brokers.leveret(str(tmp_path)) as broker:
        managed = Managed("leveret", broker.port, broker.http_port)
        managed.do("PUT", "vhosts", "v", body={"description": "d", "tags": "a,b"})
        managed.user("u", "v", configure=".*", write=".*", read=".*")
        managed.do("PUT", "vhost-limits", "v", "max-queues", body={"value": 1})
        policy = {"pattern": "^q", "definition": {"max-length": 2}, "apply-to": "queues"}
        managed.do("PUT", "policies", "v", "p", body=policy)
        managed.do("PUT", "global-parameters", "g", body={"value": [1]})
        managed.user("gone", "v")
        managed.do("DELETE", "users", "gone")
        os.kill(broker.pid, signal.SIGKILL)
    with brokers.leveret(str(tmp_path)) as broker:
        managed = Managed("leveret", broker.port, broker.http_port)
        assert {user["name"] for user in managed.do("GET", "users")} == {"guest", "u"}
        vhost = managed.do("GET", "vhosts", "v")
        assert (vhost["description"], vhost["tags"]) == ("d", ["a", "b"])
        assert managed.do("GET", "global-parameters", "g")["value"] == [1]
        channel = managed.connect("u", "v").channel()
        channel.confirm_delivery()
        channel.queue_declare("q")
        for _ in range(4):
            channel.basic_publish("", "q", b"")
        assert channel.queue_declare("q", passive=True).method.message_count == 2
        with pytest.raises(pika.exceptions.ChannelClosedByBroker, match="queue limit in vhost 'v'"):
            channel.queue_declare("second")


def test_a_deleted_virtual_host_stays_deleted_with_its_messages(tmp_path: Path, request):
    if request.config.getoption("--broker") != "leveret":
        pytest.skip("leveret alone is killed here")
    rights = {"configure": ".*", "write": ".*", "read": ".*"}
    with brokers.leveret(str(tmp_path)) as broker:
        managed = Managed("leveret", broker.port, broker.http_port)
        managed.do("PUT", "vhosts", "v", body={})
        managed.permit("guest", "v", **rights)
        channel = managed.connect("guest", "v").channel()
        channel.confirm_delivery()
        for number in range(50):
            channel.queue_declare(f"q{number}", durable=True)
            properties = pika.BasicProperties(delivery_mode=2)
            channel.basic_publish("", f"q{number}", b"x" * 10_000, properties, mandatory=True)
        managed.do("DELETE", "vhosts", "v")
        os.kill(broker.pid, signal.SIGKILL)
    for _ in range(2):
        with brokers.leveret(str(tmp_path)) as broker:
            managed = Managed("leveret", broker.port, broker.http_port)
            managed.do("PUT", "vhosts", "v", body={})
            managed.permit("guest", "v", **rights)
            assert managed.do("GET", "queues", "v") == []
            channel = managed.connect("guest", "v").channel()
            assert channel.queue_declare("q1").method.message_count == 0
