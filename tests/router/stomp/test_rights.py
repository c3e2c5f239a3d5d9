"""Which permissions each STOMP frame asks for, and that no frame is forgotten."""

import re

import pytest

from leveret.router.auth import User
from leveret.router.stomp.commands import HANDLERS
from tests.router.stomp.rights import FRAMES

NEEDS_NONE = {
    "UNSUBSCRIBE": "cancels a consumer of its own; with durable:true it deletes a queue, see below",
    "ACK": "settles what the client was given",
    "NACK": "settles what the client was given",
    "BEGIN": "what the transaction does is asked when it is committed",
    "COMMIT": "asks what its frames ask",
    "ABORT": "does nothing",
}


@pytest.fixture
def asked(monkeypatch):
    """What users are asked for from now on."""
    found = []
    check, check_route = User.check, User.check_route

    def record(self, vhost, operation, kind, name):
        found.append(re.sub("stomp-subscription-.*", "stomp-subscription-...", f"{operation} {kind} {name}"))
        check(self, vhost, operation, kind, name)

    def record_route(self, vhost, exchange, operation, routing_key):
        found.append(f"{operation} topic {exchange} {routing_key}")
        check_route(self, vhost, exchange, operation, routing_key)

    monkeypatch.setattr(User, "check", record)
    monkeypatch.setattr(User, "check_route", record_route)
    return found


@pytest.fixture
def client(world, connect):
    world.vhost.declare_queue("q", durable=True)
    world.vhost.declare_exchange("x", "direct")
    return connect()


@pytest.mark.parametrize(("command", "headers", "rights"), FRAMES.values(), ids=FRAMES)
def test_a_frame_asks_for_these_permissions_in_this_order(client, asked, command, headers, rights):
    client.send(command, **headers)
    assert asked == rights


def test_deleting_the_queue_of_a_durable_subscription_asks_to_configure_it(client, asked):
    client.subscribe("/topic/a", durable="true", auto_delete="false")
    asked.clear()
    client.send("UNSUBSCRIBE", id="1", durable="true")
    assert asked == ["configure queue stomp-subscription-..."]


def test_a_reply_queue_asks_to_configure_and_read_it(client, asked):
    client.publish(destination="/amq/queue/q", reply_to="/temp-queue/mine")
    assert [re.sub("amq.gen-.*", "amq.gen-...", each) for each in asked] == [
        "configure queue amq.gen-...",
        "read queue amq.gen-...",
        "write exchange ",
    ]


def test_every_command_has_a_row_or_a_reason():
    assert set(HANDLERS) == {command for command, _, _ in FRAMES.values()} | set(NEEDS_NONE)


def test_the_log_names_the_missing_permission(world, client):
    world.broker.users["guest"].permit("/", configure=".*", write="^$", read=".*")
    client.send("SUBSCRIBE", destination="/exchange/x/k", id="1", x_queue_name="mine")
    assert (
        client.error()[1] == "ACCESS_REFUSED - access to queue 'mine' in vhost '/' refused for user 'guest'"
    )
    level, _, fields = client.log.lines[-1]
    assert (level, fields["missing_permission"]) == ("warning", "write on queue 'mine'")
    assert (fields["user"], fields["vhost"]) == ("guest", "/")
