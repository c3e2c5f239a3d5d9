"""Bounds on the number of Python calls for a message.

Nothing is timed. A call of a Python function is what a message mostly pays for, and it is the same number on
every machine; what C does is not counted. Who lowers a number lowers its bound here; who must raise one says
why in the commit.
"""

import sys

import pytest

from leveret.protocol.amqp import methods as m
from leveret.router.bench.load import RAGGED, VARIED
from leveret.router.core_bench.measure import set_up
from leveret.router.core_bench.workloads import WORKLOADS
from tests.router.amqp.client import publish

COUNT = 500  # messages in one read, as a flood brings them


def calls(action) -> int:
    """How many Python functions ``action`` calls."""
    found = 0

    def count(frame, event, argument):
        nonlocal found
        found += event == "call"

    sys.setprofile(count)
    try:
        action()
    finally:
        sys.setprofile(None)
    return found


def publishes(*keys):
    """COUNT publishes of 100 bytes to these queues in turn."""
    contents = [publish(keys[number % len(keys)], b"x" * 100) for number in range(COUNT)]
    return b"".join(content.frames(1) for content in contents)


def acks(every, first):
    """Acknowledgements of COUNT deliveries from the tag ``first`` on."""
    tags = range(first - 1 + every, first + COUNT, every)
    return b"".join(packed_ack(tag, every > 1) for tag in tags)


def packed_ack(tag, multiple):
    return b"\x01\x00\x01\x00\x00\x00\x0d\x00\x3c\x00\x50" + tag.to_bytes(8) + bytes([multiple, 0xCE])


def walk(client, data, *acknowledged):
    """Calls a message, from the bytes of its publish to those of its delivery, and through its ack. What is
    made once for a connection is there already.
    """
    connection, outbox, broker = client.transport.connection, client.transport.outbox, client.transport.broker

    def once(answer):
        for piece in (data, answer):
            connection.receive(piece)
            while broker.scheduler.end_batch():
                pass

    once(acknowledged[0])
    outbox.data.clear()
    return calls(lambda: once(acknowledged[1])) / COUNT, outbox


@pytest.mark.parametrize(
    ("keys", "every", "bound"),
    [
        pytest.param("q", 0, 0.3, id="automatic ack"),
        pytest.param("q", 100, 0.3, id="an ack every 100"),
        pytest.param("q", 1, 0.3, id="each acked singly"),
        pytest.param("qr", 0, 4.3, id="queues in turn, automatic ack"),
        pytest.param("qr", 1, 4.3, id="queues in turn, each acked singly"),
    ],
)
def test_publish_deliver_and_ack(connect, keys, every, bound):
    client = connect()
    for name in keys:
        client.do(m.QueueDeclare(name), m.BasicQos(0, 1000), m.BasicConsume(name, name, no_ack=not every))
    answers = [acks(every, first) if every else b"" for first in (1, COUNT + 1)]
    found, outbox = walk(client, publishes(*keys), *answers)
    assert sum(map(len, outbox.data)) > 100 * COUNT  # they did arrive
    assert bound - 0.5 < found <= bound


# Calls for each message of traffic in which all messages differ, with lengths that differ too, as those that
# clients send (ragged), or with equal ones (varied).
BOUNDS = {
    ("auto-ack", RAGGED): 1.8,
    ("ack-each", RAGGED): 2.3,
    ("durable", RAGGED): 4.5,
    ("queues-1", RAGGED): 33.4,
    ("queues-4", RAGGED): 15.7,
    ("auto-ack", VARIED): 0.6,
    ("ack-each", VARIED): 0.9,
    ("durable", VARIED): 3.2,
    ("stream-append", RAGGED): 3.4,
    ("stream-append", VARIED): 3.5,
    ("stream-read", RAGGED): 3.3,
    ("stream-read", VARIED): 2.9,
}


@pytest.mark.parametrize(("name", "kind"), BOUNDS)
def test_publish_deliver_and_ack_of_messages_that_differ(name, kind):
    """In reads of the size that the server has, with a store of which only the files are not written."""
    setup = set_up(WORKLOADS[name], kind)
    made = 0
    for read in list(setup.script.reads()):
        setup.prepare(read)
        made += calls(lambda read=read: setup.run(read))
    found = made / setup.script.count
    assert BOUNDS[name, kind] - 0.5 < found <= BOUNDS[name, kind]
