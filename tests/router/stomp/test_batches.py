"""Frames in one read do what they do in reads of their own, see ``tests/router/amqp/test_batches.py``."""

from collections import defaultdict
from random import Random

import pytest

from tests.router.amqp.world import World
from tests.router.late_storage import LateStorage
from tests.router.stomp.client import StompClient

QUEUES = {
    "plain": {},
    "priority": {"x-max-priority": 5},
    "short": {"x-max-length": 2},
    "now": {"x-message-ttl": 0},
    "refusing": {"x-max-length": 2, "x-overflow": "reject-publish"},
}
ROUNDS, FRAMES = 4, 12


class Side:
    """A broker, and two clients: ``actor`` says everything, ``watcher`` subscribes."""

    def __init__(self, storage=None):
        self.world = World(storage)
        for name, arguments in QUEUES.items():
            self.world.vhost.declare_queue(name, arguments=arguments)
        self.actor = StompClient(self.world).open()
        self.watcher = StompClient(self.world).open()
        self.held = {}  # the actor's messages: what ACK calls them, by subscription and body

    def settle(self):
        """Have everything on disk, where there is one."""
        if isinstance(self.world.broker.storage, LateStorage):
            self.world.commit()

    def seen(self):
        return [self._seen(self.actor), self._seen(self.watcher)]

    def _seen(self, client):
        messages, receipts, errors = defaultdict(list), [], []
        for frame in client.received():
            headers = frame.headers
            if frame.command == "MESSAGE":
                subscription = headers["subscription"]
                messages[subscription].append((frame.body, headers["redelivered"]))
                if client is self.actor and "ack" in headers:
                    self.held[subscription, frame.body] = headers["ack"]
            elif frame.command == "ERROR":
                errors.append((headers["message"], frame.body))
            elif headers["receipt-id"].startswith(("sent", "settled")):
                receipts.append((headers["receipt-id"],))  # no promise about deliveries
            else:
                told = sorted((key, len(some)) for key, some in messages.items())
                receipts.append((headers["receipt-id"], told))
        return dict(messages), sorted(receipts), errors

    def state(self):
        return {
            name: ([(entry.message.body, entry.returns) for entry in queue.ready], queue.unacked)
            for name, queue in self.world.vhost.queues.items()
        }


class Frames:
    """Frames that make sense to the actor of ``side`` as (command, body, headers)."""

    def __init__(self, seed, side):
        self.random = Random(seed)
        self.names = self.random.sample(list(QUEUES), 2)
        self.side = side
        self.number = 0

    def subscribe(self):
        self.number += 1
        headers = {
            "destination": f"/amq/queue/{self.random.choice(self.names)}",
            "id": f"s{self.number}",
            "ack": self.random.choice(("auto", "client-individual", "client-individual")),
            "prefetch-count": str(self.random.randint(1, 3)),
        }
        return "SUBSCRIBE", b"", headers

    def batch(self):
        return [self.frame() for _ in range(self.random.randint(2, FRAMES))]

    def frame(self):
        random = self.random
        roll = random.random()
        self.number += 1
        if roll < 0.55:
            name = random.choice(self.names)
            headers = {"destination": f"/amq/queue/{name}"}
            if random.random() < 0.3:
                headers["priority"] = str(random.randint(0, 5))
            if random.random() < 0.2:
                headers["expiration"] = "0"
            if random.random() < 0.3 and name != "refusing":  # a refusal ends the connection, a batch later
                headers["receipt"] = f"sent-{self.number}"
            return "SEND", b"%d" % self.number, headers
        held = self.side.held
        if roll < 0.75 and held:
            key = random.choice(list(held))
            del held[key]
            return random.choice(("ACK", "ACK", "NACK")), key, {"receipt": f"settled-{self.number}"}
        subscribed = list(self.side.actor.connection._conversation.subscriptions.values())
        if roll < 0.85 and subscribed:
            headers = {"id": random.choice(subscribed).id, "receipt": f"unsubscribed-{self.number}"}
            return "UNSUBSCRIBE", b"", headers
        if roll < 0.87:
            return "SEND", b"refused", {"destination": "/amq/queue/missing", "expiration": "x"}
        if roll < 0.92:  # declares a durable queue, so that its receipt waits for the disk
            headers = {"destination": "/queue/durable", "receipt": f"subscribed-{self.number}"}
            return "SUBSCRIBE", b"", {**headers, "id": f"d{self.number}"}
        command, body, headers = self.subscribe()
        return command, body, {**headers, "receipt": f"subscribed-{self.number}"}


def packed(side, frame):
    command, body, headers = frame
    if isinstance(body, tuple):
        body, headers = b"", {**headers, "id": side.known[body]}
    return side.actor.packed(command, body, **underscored(headers))


def underscored(headers):
    return {name.replace("-", "_"): value for name, value in headers.items()}


def check(seed, storage=None):
    apart, together = Side(), Side(storage)
    frames = Frames(seed, apart)
    first = [frames.subscribe() for _ in range(frames.random.randint(1, 4))]
    for number, (command, body, headers) in enumerate(first):
        for side in (apart, together):
            client = side.watcher if number % 2 else side.actor
            client.send(command, body, **underscored(headers))
    for number in range(ROUNDS):
        if apart.actor.outbox.closed:
            break
        for side in (apart, together):
            side.known = dict(side.held)
        batch = frames.batch()
        for frame in batch:
            apart.actor.send_raw(packed(apart, frame))
        together.actor.send_raw(b"".join(packed(together, frame) for frame in batch))
        together.settle()
        told = f"seed {seed}, round {number}: {batch}"
        assert together.seen() == apart.seen(), told
        assert together.state() == apart.state(), told


@pytest.mark.parametrize("seed", range(100))
def test_frames_in_one_read_do_what_they_do_in_reads_of_their_own(seed):
    check(seed)


@pytest.mark.parametrize("seed", range(100))
def test_frames_behind_receipts_that_wait_for_the_disk_do_the_same(seed):
    check(seed, LateStorage())


def test_a_subscription_to_a_new_queue_has_its_messages_before_it_ends():
    world = World(LateStorage())
    client = StompClient(world).open()
    frames = [
        client.packed("SUBSCRIBE", destination="/queue/q", id="1", receipt="subscribed"),
        *[client.packed("SEND", b"%d" % number, destination="/queue/q") for number in range(3)],
        client.packed("UNSUBSCRIBE", id="1", receipt="unsubscribed"),
    ]
    client.send_raw(b"".join(frames))
    assert client.received() == []
    world.commit()
    came = [frame.headers.get("receipt-id", frame.body) for frame in client.received()]
    assert came == ["subscribed", b"0", b"1", b"2", "unsubscribed"]


def test_the_receipt_of_disconnect_waits_for_a_change_that_wanted_none():
    world = World(LateStorage())
    client = StompClient(world).open()
    client.send("SUBSCRIBE", destination="/queue/q", id="1")
    client.send("DISCONNECT", receipt="bye")
    assert client.received() == []
    world.commit()
    assert client.receipts() == ["bye"]
    assert client.outbox.closed


def refused(world):
    """A client whose receipt waits for the disk, and after that an error."""
    client = StompClient(world).open()
    client.send("SUBSCRIBE", destination="/queue/q", id="1", receipt="subscribed")
    client.send("UNSUBSCRIBE", id="2")
    client.send("SEND", b"late", destination="/queue/q")
    assert client.received() == []
    return client


def test_an_error_is_sent_after_receipts_that_wait_for_the_disk():
    world = World(LateStorage())
    client = refused(world)
    world.commit()
    assert [frame.command for frame in client.received()] == ["RECEIPT", "ERROR"]
    assert client.outbox.closed
    assert world.broker.clients == {}
    assert len(world.vhost.queues["q"].ready) == 0


def test_a_disk_that_never_answers_keeps_no_refused_connection():
    world = World(LateStorage())
    client = refused(world)
    world.advance(world.settings.server.shutdown_timeout)
    assert client.received() == []
    assert client.outbox.closed
    assert world.broker.clients == {}
