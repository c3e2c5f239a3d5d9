"""Receipts and the disk: a receipt is sent when what it tells of is stored."""

import pytest

from leveret.router.auth import hash_password
from leveret.router.store import packing, unpackable
from tests.router.stomp.client import StompClient
from tests.router.store.kept import Kept


class KeptWorld:
    """As much of a world as a client needs, over a real data directory; ``settle`` has everything on disk."""

    def __init__(self, path):
        self.kept = Kept(path)
        self.broker = self.kept.node.broker
        guest = self.broker.users.get("guest") or self.broker.users.add(
            "guest", hash_password("guest", "sha256")
        )
        guest.permit("/", configure=".*", write=".*", read=".*")
        self.flush = self.kept.node.settle

    def settle(self):
        self.kept.settle()
        self.broker.notify_committed()
        self.flush()


@pytest.fixture
def world(tmp_path):
    made = KeptWorld(tmp_path)
    made.settle()
    return made


@pytest.fixture
def client(world):
    """A client whose queue q is on disk."""
    client = StompClient(world).open()
    client.send("SUBSCRIBE", destination="/queue/q", id="1", receipt="s")
    assert client.receipts() == []
    world.settle()
    assert client.receipts() == ["s"]
    client.send("UNSUBSCRIBE", id="1")
    return client


def test_a_persistent_message_has_its_receipt_when_it_is_on_disk(world, client):
    client.publish("1", persistent="true", receipt="1")
    client.publish("2", receipt="2")
    assert client.receipts() == []  # in the order of the messages, though the second is not stored
    world.settle()
    assert client.receipts() == ["1", "2"]


def test_a_transient_message_does_not_wait_for_the_disk(client):
    client.publish("1", receipt="1")
    assert client.receipts() == ["1"]


def test_a_commit_is_answered_when_all_of_it_is_on_disk(world, client):
    client.send("BEGIN", transaction="a")
    client.publish("1", persistent="true", transaction="a", receipt="1")
    client.send("COMMIT", transaction="a", receipt="c")
    assert client.receipts() == []
    world.settle()
    assert client.receipts() == ["1", "c"]


def test_disconnect_waits_for_the_receipts_before_it(world, client):
    client.publish("1", persistent="true", receipt="1")
    client.send("DISCONNECT", receipt="d")
    client.send("SEND", destination="/queue/q")
    assert client.receipts() == []
    assert not client.outbox.closed
    world.settle()
    assert client.receipts() == ["1", "d"]
    assert client.outbox.closed


def test_a_client_that_disconnects_need_not_send_heartbeats(world):
    client = StompClient(world).open(heart_beat="1000,0")
    client.publish("1", persistent="true", receipt="1")
    client.send("DISCONNECT", receipt="d")
    world.kept.node.at(60_000)
    assert not client.outbox.closed
    world.settle()
    assert client.receipts() == ["1", "d"]


def test_an_error_does_not_wait_for_the_disk(client):
    client.publish("1", persistent="true", receipt="1")
    client.send("NONSENSE")
    assert client.error()[0] == "Bad command"


def test_messages_are_still_there_after_a_crash(world, client, tmp_path):
    client.publish("kept", persistent="true", custom="x")
    client.publish("lost")
    world.settle()
    world.kept.crash()
    world = KeptWorld(tmp_path)
    client = StompClient(world).open()
    client.send("SUBSCRIBE", destination="/queue/q", id="1")
    world.settle()
    frame = client.take("MESSAGE")
    assert (frame.body, frame.headers["custom"]) == (b"kept", "x")
    world.kept.stop()


def test_a_message_that_cannot_be_stored_is_answered_with_an_error(world, client, monkeypatch):
    pack = packing.pack_each

    def refuse(publishes, offset):
        if any(entry.stored and message.body == b"bad" for _, entry, message in publishes):
            raise OverflowError
        return pack(publishes, offset)

    for module in (packing, unpackable):
        monkeypatch.setattr(module, "pack_each", refuse)
    client.publish("good", persistent="true", receipt="1")
    client.publish("bad", persistent="true", receipt="2")
    for _ in range(3):
        world.settle()
    receipt, error = client.received()
    assert receipt.headers["receipt-id"] == "1"
    assert error.command == "ERROR"
    assert b"the message of '2' could not be stored" in error.body
