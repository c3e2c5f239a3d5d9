"""Alarms block a connection from its next publish on."""

import pytest

from leveret.protocol.amqp import methods as m
from leveret.protocol.amqp.codec import method_frame
from leveret.protocol.amqp.encode import HEARTBEAT
from leveret.protocol.amqp.message import Message
from leveret.protocol.amqp.properties import Properties
from leveret.protocol.errors import ConnectionForced
from leveret.router.broker.alarms import DISK, MEMORY, STORE
from tests.router.amqp.client import CAPABILITIES, publish

TOLD = {"capabilities": {**CAPABILITIES, "connection.blocked": True}}


@pytest.fixture
def join(world):
    """Connect a client with the capability connection.blocked, and declare the queue q."""

    def join(**options):
        client = world.connect(login=TOLD, **options)
        client.call(m.QueueDeclare("q"))
        return client

    return join


def alarm(world, name=MEMORY, *, raised=True):
    world.broker.alarms.set(name, raised=raised)


def paused(client):
    return client.transport.outbox.paused


def test_a_publisher_is_notified_once_and_not_read_from(world, join):
    client = join()
    alarm(world)
    client.send(publish("q"), publish("q"))
    client.expect(m.ConnectionBlocked("low on memory"), channel=0)
    client.expect_silence()
    assert paused(client)


def test_an_earlier_publisher_is_blocked_by_its_next_publish(world, join):
    client = join()
    client.send(publish("q"))
    alarm(world)
    client.expect_silence()
    assert not paused(client)
    client.send(publish("q"))
    client.expect(m.ConnectionBlocked("low on memory"), channel=0)


def test_a_connection_opened_during_an_alarm_works_until_it_publishes(world, join):
    alarm(world, DISK)
    client = join()
    client.do(m.QueueDeclare("other"), m.BasicConsume("other", "c"), m.BasicCancel("c"))
    assert not paused(client)
    client.send(publish("q"))
    client.expect(m.ConnectionBlocked("low on disk"), channel=0)


def test_a_connection_that_only_consumes_is_not_blocked(world, join):
    publisher, consumer = join(), join()
    consumer.do(m.BasicConsume("q", "c"))
    publisher.send(publish("q", b"one"), publish("q", b"two"))
    alarm(world)
    for _ in range(2):
        tag = consumer.take_content(m.BasicDeliver).method.delivery_tag
        consumer.send(m.BasicAck(tag))
    consumer.send(m.BasicGet("q"))
    consumer.take(m.BasicGetEmpty)
    assert not paused(consumer)


def test_what_was_read_with_the_publish_is_handled(world, join):
    client = join()
    alarm(world)
    client.send(publish("q"), m.QueueDeclare("q", passive=True))
    client.expect(m.QueueDeclareOk("q", 1, 0))
    client.expect(m.ConnectionBlocked("low on memory"), channel=0)


def test_a_publish_that_has_only_begun_counts(world, join):
    client = join()
    alarm(world)
    whole = publish("q", b"body").frames(1)
    client.send_raw(whole[:-12])
    client.expect(m.ConnectionBlocked("low on memory"), channel=0)


def test_a_publish_in_a_transaction_counts(world, join):
    client = join()
    client.call(m.TxSelect())
    alarm(world)
    client.send(publish("q"))
    assert paused(client)


def test_a_publisher_without_the_capability_is_blocked_without_a_notification(world):
    client = world.connect()
    client.call(m.QueueDeclare("q"))
    alarm(world)
    client.send(publish("q"))
    assert paused(client)
    alarm(world, raised=False)
    assert not paused(client)
    client.expect_silence()


def test_a_second_alarm_is_not_notified_and_clearing_the_last_one_unblocks(world, join):
    client = join()
    alarm(world)
    client.send(publish("q"))
    client.expect(m.ConnectionBlocked("low on memory"), channel=0)
    alarm(world, DISK)
    alarm(world, raised=False)
    client.expect_silence()
    assert paused(client)
    alarm(world, DISK, raised=False)
    client.expect(m.ConnectionUnblocked(), channel=0)
    assert not paused(client)


def test_an_unblocked_client_is_blocked_by_the_next_alarm(world, join):
    client = join()
    for _ in range(2):
        alarm(world, STORE)
        client.send(publish("q"))
        client.expect(m.ConnectionBlocked("writing to disk failed"), channel=0)
        alarm(world, STORE, raised=False)
        client.expect(m.ConnectionUnblocked(), channel=0)


def test_deliveries_and_heartbeats_to_a_blocked_client_go_out(world, join):
    client = join(heartbeat=10)
    client.do(m.BasicConsume("q", "c", no_ack=True))
    alarm(world)
    client.send(publish("q", b"own"))
    client.expect(m.ConnectionBlocked("low on memory"), channel=0)
    assert client.take_content(m.BasicDeliver).body == b"own"
    letter = Message.build("", "q", Properties(), b"dead letter")
    world.vhost.queues["q"].enqueue(letter, world.broker.now)
    world.flush()
    assert client.take_content(m.BasicDeliver).body == b"dead letter"
    world.advance(5000)
    assert client.transport.outbox.data == [HEARTBEAT]


def test_heartbeats_of_a_blocked_client_are_not_expected_until_it_is_unblocked(world, join):
    client = join(heartbeat=10)
    alarm(world)
    client.send(publish("q"))
    world.advance(100_000)
    assert not client.transport.hung_up()
    alarm(world, raised=False)
    world.advance(19_000)
    assert not client.transport.hung_up()
    world.advance(6_000)
    assert client.transport.hung_up()


def test_a_blocked_client_that_the_broker_closes_is_read_from_until_close_ok(world, join):
    client = join()
    alarm(world)
    client.send(publish("q"))
    client.expect(m.ConnectionBlocked("low on memory"), channel=0)
    for each in list(world.broker.clients):
        each.end(ConnectionForced("bye"))
    client.take(m.ConnectionClose, channel=0)
    assert not paused(client)
    client.send(publish("q"), m.QueueDeclare("late"))
    assert not paused(client)
    client.send_raw(method_frame(0, m.ConnectionCloseOk()))
    client.expect_end()
    alarm(world, raised=False)


def test_nothing_is_kept_of_a_blocked_client_that_is_lost(world, join):
    client = join()
    alarm(world)
    client.send(publish("q"))
    connection = client.transport.connection
    connection.lost()
    assert not world.broker.alarms.blocks(connection)
    alarm(world, raised=False)


def test_the_client_is_notified_ahead_of_replies_that_wait_for_the_disk(world, join):
    client = join()
    storage = world.broker.storage
    connection = client.transport.connection
    connection.replies._position = storage.committed_batch + 1  # as after a change that is not on disk yet
    alarm(world, STORE)
    client.send(m.QueueDeclare("q", passive=True), publish("q"))
    client.expect(m.ConnectionBlocked("writing to disk failed"), channel=0)
    client.expect_silence()
