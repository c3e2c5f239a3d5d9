"""A queue with messages on disk, as clients see it: commands wait, and the order is kept."""

import pytest

from leveret.protocol.amqp import methods as m
from leveret.router.persistence.api import NoStorage
from leveret.router.queue import page_out
from tests.router.amqp.client import publish
from tests.router.queue.fake_pager import FakePager

HEAD, PAGE = 2, 4
DAMAGE = "queue 'q' in vhost '/' stands still: segments/0000000001.segment is damaged at offset 0"


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    """A few messages make a page."""
    monkeypatch.setattr(page_out, "HEAD", HEAD)
    monkeypatch.setattr(page_out, "PAGE_MESSAGES", PAGE)
    monkeypatch.setattr(page_out, "FEW", 2)


@pytest.fixture
def pager(world):
    world.broker.storage = NoStorage()
    world.broker.storage.pager = FakePager()
    return world.broker.storage.pager


@pytest.fixture
def client(world, pager):
    """One whose queue q has two messages in memory, 0 and 1, and four on disk, 2 to 5."""
    client = world.connect(channels=2)
    client.call(m.QueueDeclare("q"))
    client.send(*(publish("q", b"%d" % number) for number in range(HEAD + PAGE)))
    world.vhost.queues["q"].paging.page_out(1)
    pager.finish_writing()
    return client


def land(world, pager):
    pager.land()
    world.flush()


def get(client, *, channel=1):
    return client.take_content(m.BasicGetOk, channel).body


def gets(count):
    return [m.BasicGet("q", no_ack=True)] * count


def paused(client):
    return client.transport.outbox.paused


def test_a_get_of_what_is_on_disk_waits_until_it_was_read(world, pager, client):
    client.send(*gets(HEAD + 1))
    assert [get(client) for _ in range(HEAD)] == [b"0", b"1"]
    client.expect_silence()
    assert paused(client)
    land(world, pager)
    assert get(client) == b"2"
    assert not paused(client)


def test_everything_behind_a_get_that_waits_comes_after_it(world, pager, client):
    client.send(*gets(HEAD))
    for _ in range(HEAD):
        get(client)
    client.send(*gets(2), publish("q", b"last"), m.QueueDeclare("q", passive=True))
    client.send(m.QueueDeclare("other"), channel=2)
    client.expect_silence()
    assert "other" not in world.vhost.queues
    land(world, pager)
    assert [get(client), get(client)] == [b"2", b"3"]
    client.expect(m.QueueDeclareOk("q", 3))
    client.expect(m.QueueDeclareOk("other"), channel=2)


def test_a_get_that_waits_delays_no_other_client(world, pager, client):
    client.send(*gets(HEAD + 1))
    other = world.connect()
    other.call(m.QueueDeclare("other"))
    other.send(publish("other", b"x"), m.BasicGet("other"))
    assert get(other) == b"x"


def test_two_clients_that_wait_are_served_in_their_order(world, pager, client):
    client.send(*gets(HEAD + 1))
    other = world.connect()
    other.send(m.BasicGet("q"))
    other.expect_silence()
    land(world, pager)
    assert [get(client) for _ in range(HEAD + 1)][-1] == b"2"
    assert get(other) == b"3"


def test_a_get_that_waits_finds_nothing_once_the_queue_is_purged(world, pager, client):
    client.send(*gets(HEAD + 1))
    for _ in range(HEAD):
        get(client)
    other = world.connect()
    other.send(m.QueuePurge("q"))
    other.expect(m.QueuePurgeOk(PAGE))
    client.expect(m.BasicGetEmpty())
    assert not paused(client)


def test_a_get_that_waits_is_refused_once_the_queue_is_deleted(world, pager, client):
    client.send(*gets(HEAD + 1), m.QueueDeclare("other"))
    for _ in range(HEAD):
        get(client)
    world.connect().call(m.QueueDelete("q"))
    assert client.take(m.ChannelClose).reply_code == 404
    client.send(m.QueueDeclare("other"), channel=2)
    client.expect(m.QueueDeclareOk("other"), channel=2)


def test_a_client_that_is_lost_while_its_get_waits_takes_nothing(world, pager, client):
    client.send(*gets(HEAD + 1))
    client.transport.connection.lost()
    land(world, pager)
    assert len(world.vhost.queues["q"].ready) == PAGE


def test_a_damaged_page_ends_the_connection_that_gets_it_and_names_the_file(world, pager, client):
    client.send(*gets(HEAD + 1))
    for _ in range(HEAD):
        get(client)
    other = world.connect()
    queue = world.vhost.queues["q"]
    queue.paging.unreadable(queue.ready.runs[0], DAMAGE)
    world.broker.scheduler.end_batch()
    close = client.take(m.ConnectionClose, channel=0)
    assert close.reply_code == 541
    assert DAMAGE in close.reply_text
    client.send(m.ConnectionCloseOk(), channel=0)
    client.expect_end()
    other.send(m.BasicGet("q"))
    assert other.take(m.ConnectionClose, channel=0).reply_code == 541
    third = world.connect()
    third.send(m.QueueDeclare("q", passive=True))
    third.expect(m.QueueDeclareOk("q", PAGE))


def test_a_consumer_of_a_damaged_queue_keeps_its_connection(world, pager, client):
    world.vhost.queues["q"].ready.runs[0].damage = DAMAGE
    client.send(m.BasicConsume("q", "c", no_ack=True))
    client.expect(m.BasicConsumeOk("c"))
    assert [client.take_content(m.BasicDeliver).body for _ in range(HEAD)] == [b"0", b"1"]
    client.expect_silence()
    client.call(m.QueueDeclare("other"))
