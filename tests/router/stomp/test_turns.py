"""Work that continues in later turns: transactions, and ACK and NACK of many messages."""

import pytest

from leveret.protocol.stomp.frames import Frame
from leveret.router.session.unacked import PIECE
from tests.router.amqp.world import World, finish
from tests.router.stomp.client import StompClient

RECEIPT = Frame("RECEIPT", {"receipt-id": "done"})


@pytest.fixture
def world():
    return World()


@pytest.fixture
def client(world):
    return StompClient(world).open()


@pytest.fixture
def steps(world):
    return world.one_slice_a_turn()


def bodies(world, name="q"):
    return [int(entry.message.body) for entry in world.vhost.queues[name].ready]


def transact(client, count=5):
    client.send("BEGIN", transaction="t")
    for number in range(count):
        client.publish(str(number), transaction="t", receipt=f"r{number}")


def hold(world, client, count):
    """Have a client hold messages; return their ack headers."""
    client.subscribe(ack="client")
    other = StompClient(world).open()
    for number in range(count):
        other.publish(str(number))
    finish(world.broker.scheduler.end_batch)
    frames = client.received()
    assert len(frames) == count
    return [frame.headers["ack"] for frame in frames]


def test_a_commit_is_answered_when_all_of_it_is_done(world, client, steps):
    transact(client)
    finish(steps)
    client.send_raw(
        client.packed("COMMIT", transaction="t", receipt="done")
        + client.packed("SEND", b"5", destination="/queue/q", receipt="behind")
    )
    assert client.received() == []
    assert finish(steps) > 3
    assert client.receipts() == [*(f"r{number}" for number in range(5)), "done", "behind"]
    assert bodies(world) == [0, 1, 2, 3, 4, 5]


def test_receipts_of_one_commit_are_written_at_once(world, client):
    transact(client, 50)
    client.send("COMMIT", transaction="t", receipt="done")
    assert len(client.outbox.data) == 2
    assert client.receipts() == [*(f"r{number}" for number in range(50)), "done"]


def test_receipts_of_one_batch_are_written_at_once(world, client):
    frames = [client.packed("SEND", destination="/queue/q", receipt=f"r{number}") for number in range(50)]
    client.send_raw(b"".join(frames))
    assert len(client.outbox.data) == 1
    assert client.receipts() == [f"r{number}" for number in range(50)]


def test_a_commit_of_a_client_that_goes_before_its_frames_are_handled_does_nothing(world, client, steps):
    client.publish("-1")
    transact(client)
    finish(steps)
    client.send("COMMIT", transaction="t")
    client.connection.lost()
    finish(steps)
    assert bodies(world) == [-1]


def test_a_commit_with_a_frame_that_is_refused_does_nothing(world, client, steps):
    client.publish("-1")
    transact(client)
    client.send("ACK", id="nonsense", transaction="t")
    finish(steps)
    client.received()
    client.send("COMMIT", transaction="t", receipt="done")
    finish(steps)
    assert client.error()[0] == "Invalid header"
    assert bodies(world) == [-1]


def test_what_a_refused_commit_has_settled_goes_back(world, client, steps):
    acks = hold(world, client, 3)
    client.send("UNSUBSCRIBE", id="1")
    client.send("BEGIN", transaction="t")
    for ack in [*acks, acks[0]]:
        client.send("ACK", id=ack, transaction="t")
    finish(steps)
    client.send("COMMIT", transaction="t")
    finish(steps)
    assert client.error()[0] == "precondition_failed"
    assert (bodies(world), world.vhost.queues["q"].unacked) == ([0, 1, 2], 0)


def test_an_aborted_transaction_leaves_nothing(world, client, steps):
    transact(client, 600)
    finish(steps)
    client.send("ABORT", transaction="t", receipt="done")
    finish(steps)
    assert client.received() == [RECEIPT]
    assert (world.vhost.queues, list(world.broker.backlog.works)) == ({}, [])


@pytest.mark.parametrize(("command", "left"), [("ACK", []), ("NACK", list(range(3 * PIECE)))])
def test_settling_many_is_answered_when_all_are_settled(world, client, steps, command, left):
    acks = hold(world, client, 3 * PIECE)
    client.send_raw(
        client.packed(command, id=acks[-1], receipt="done") + client.packed("UNSUBSCRIBE", id="1")
    )
    assert client.received() == []
    assert 0 < world.vhost.queues["q"].unacked < 3 * PIECE
    finish(steps)
    frames = client.received()
    assert frames[0] == RECEIPT
    redelivered = [int(frame.body) for frame in frames[1:]]
    assert redelivered + bodies(world) == left


def test_acknowledging_a_message_in_the_middle_settles_those_before_it(world, client):
    acks = hold(world, client, 9)
    for place, left in ((4, 4), (5, 3), (8, 0)):
        client.send("ACK", id=acks[place])
        assert world.vhost.queues["q"].unacked == left
    client.send("ACK", id=acks[3])
    assert client.error()[0] == "precondition_failed"


def test_frames_with_long_heads_are_handled_in_turns_of_their_own(world, client, steps):
    long = client.packed("SEND", b"1", destination="/queue/q", **{f"h{n}": ":" * 100 for n in range(40)})
    short = client.packed("SEND", b"2", destination="/queue/q")
    client.connection.receive(long + long + short + short)
    assert bodies(world) == [1]
    finish(steps)
    assert bodies(world) == [1, 1, 2, 2]


MANY = {f"h{number}": "x" * 10 for number in range(900)}


def fill(world, *messages):
    """Have another client publish messages with so many headers each."""
    other = StompClient(world).open()
    for body, headers in enumerate(messages):
        other.publish(str(body), **headers)


def test_messages_with_many_headers_are_written_in_later_turns_and_in_order(world, client, steps):
    fill(world, {}, MANY, {}, MANY, {})
    finish(steps)
    client.send_raw(
        client.packed("SUBSCRIBE", destination="/queue/q", id="1", ack="client", receipt="subscribed")
    )
    assert [frame.command for frame in client.received()] == ["RECEIPT"]
    steps()
    assert client.bodies() == ["0"]
    client.send("SEND", destination="/queue/other", receipt="behind")
    client.send("SUBSCRIBE", destination="/queue/other", id="2")
    turns = finish(steps)
    frames = client.received()
    assert [frame.body for frame in frames if frame.command == "MESSAGE"] == [b"1", b"2", b"3", b"4", b""]
    assert [frame.command for frame in frames].index("RECEIPT") == 4
    assert turns > 6
    assert all(frames[place].headers.items() >= MANY.items() for place in (0, 2))
    client.send("ACK", id=frames[3].headers["ack"])
    assert world.vhost.queues["q"].unacked == 0


def test_messages_are_written_once_however_turns_and_publishes_alternate(world, client, steps):
    client.subscribe(ack="client")
    other = StompClient(world).open()
    for number in range(40):
        other.publish(str(number), **(MANY if number % 3 else {}))
        for _ in range(number % 5):
            steps()
    finish(steps)
    assert client.bodies() == [str(number) for number in range(40)]


@pytest.mark.parametrize("command", ["DISCONNECT", "NONSENSE", None])
def test_messages_that_wait_to_be_written_are_requeued_when_the_client_goes(world, client, steps, command):
    fill(world, {}, MANY, MANY)
    finish(steps)
    client.subscribe(ack="client")
    client.send("SEND", destination="/queue/other", receipt="sent")
    if command is None:
        client.connection.lost()
    else:
        client.send(command, receipt="last")
    finish(steps)
    assert (bodies(world), world.vhost.queues["q"].unacked) == ([0, 1, 2], 0)
    commands = [frame.command for frame in client.received()]
    assert (
        commands
        == {
            "DISCONNECT": ["MESSAGE", "RECEIPT", "RECEIPT"],
            "NONSENSE": ["MESSAGE", "RECEIPT", "ERROR"],
            None: [],
        }[command]
    )


def test_an_exception_while_a_message_is_written_later_ends_its_client_only(
    world, client, steps, monkeypatch
):
    fill(world, MANY)
    finish(steps)
    client.subscribe(ack="client")
    monkeypatch.setattr("leveret.router.stomp.message_writer.lines_in_slices", lambda *_: 1 / 0)
    finish(steps)
    assert client.outbox.closed
    assert bodies(world) == [0]
    monkeypatch.undo()
    other = StompClient(world).open()
    other.subscribe()
    finish(steps)
    assert other.bodies() == ["0"]
