"""Confirms and stored messages between a turn and its commit."""

import pytest

from leveret.protocol.amqp import methods as m
from leveret.router.store.files import DiskFiles
from leveret.router.store.journal.journal import JournalFile
from leveret.router.store.journal.records import pack_progress, pack_publish
from leveret.router.store.journal.recovery import recover
from leveret.router.store.metadata.statements import QueueRow, add_queue
from leveret.router.store.opening import DataDirectory, read
from leveret.router.store.store import Store
from leveret.router.store.writer import Commit
from tests.router.amqp.client import publish
from tests.router.amqp.world import World
from tests.router.harness import START, Node


class SlowDisk:
    """A ``Disk`` whose jobs wait until they are let through."""

    def __init__(self):
        self.jobs = []

    def submit(self, job):
        self.jobs.append(job)


def keep(broker):
    """Have a broker keep what it does on a slow disk; return what lets everything through."""
    disk = SlowDisk()
    store = Store(
        disk,
        sync=True,
        sequence=1,
        segment=1,
        next_queue_id=1,
        wall_offset=lambda: 0,
        put_off=lambda: None,
        changed=broker.notify_committed,
    )
    broker.storage = store

    def write():
        while disk.jobs:
            job = disk.jobs.pop(0)
            store.done(job, int(isinstance(job, Commit)), None)

    return write


@pytest.fixture
def node():
    return Node()


@pytest.fixture
def write(node):
    return keep(node.broker)


def publisher(node):
    client = node.client()
    client.session.select_confirms()
    return client


def test_a_message_is_confirmed_when_it_is_on_disk(node, write):
    node.queue(durable=True)
    client = publisher(node)
    client.publish("1", delivery_mode=2)
    node.settle()
    assert client.session.verdicts() == []
    write()
    assert client.session.verdicts() == [(1, False, True)]


def test_a_message_that_was_dropped_is_confirmed_at_once(node, write):
    node.queue(durable=True, max_length=0)
    client = publisher(node)
    client.publish("1", delivery_mode=2)
    node.settle()
    assert client.session.verdicts() == [(1, False, True)]


def test_a_message_that_was_dead_lettered_is_confirmed_when_its_letter_is_on_disk(node, write):
    node.queue(durable=True, max_length=0, dead_letter_exchange="", dead_letter_routing_key="dead")
    node.queue("dead", durable=True)
    client = publisher(node)
    client.publish("1", delivery_mode=2)
    node.settle()
    assert node.contents("dead") == ["1"]
    assert client.session.verdicts() == []
    write()
    assert client.session.verdicts() == [(1, False, True)]


@pytest.mark.parametrize("transactional", [False, True])
def test_an_ack_that_a_crash_may_undo_confirms_nothing(node, write, transactional):
    node.queue(durable=True)
    client, consumer = publisher(node), node.client()
    if transactional:
        consumer.session.select_transactions()
    client.publish("1", delivery_mode=2)
    node.settle()
    consumer.get(no_ack=False)
    consumer.session.ack(1, multiple=False)
    if transactional:
        consumer.session.commit()
    node.settle()
    told = client.session.verdicts()
    assert told == ([] if transactional else [(1, False, True)])
    write()
    assert told + client.session.verdicts() == [(1, False, True)]


def unpaged(queue):
    """How many of its messages would have to move, were their journal file to go."""
    return sum(len(entries) for _, entries in queue.unpaged(0, 1 << 60))


def test_a_dead_letter_that_waits_for_its_turn_is_kept_by_its_old_queue(node, write):
    names = [f"q{number}" for number in range(3)]
    dead = node.queue("dead", durable=True)
    queues = [
        node.queue(name, durable=True, dead_letter_exchange="", dead_letter_routing_key="dead")
        for name in names
    ]
    client = node.client()
    for name in names:
        for _ in range(1000):
            client.publish(key=name, delivery_mode=2, expiration="10")
        client.publish(key=name, delivery_mode=2)
    node.settle()
    write()
    node.broker.now = START + 1000
    node.broker.on_timers()
    turns = 0
    more = True
    while more:
        more = node.broker.scheduler.end_batch()
        turns += 1
        assert sum(map(unpaged, (dead, *queues))) == 3003
    assert turns > 1
    assert unpaged(dead) == 3000


def test_the_delivered_mark_covers_what_was_delivered_by_priority(node, write):
    queue = node.queue(durable=True, max_priority=5)
    client = node.client()
    client.publish("low", delivery_mode=2, priority=1)
    client.publish("high", delivery_mode=2, priority=5)
    client.consume()
    node.settle()
    assert client.seen() == ["high", "low"]
    assert queue.log.delivered == 2


def test_every_answer_to_a_change_waits_for_the_disk():
    world = World()
    write = keep(world.broker)
    client = world.connect()
    for method, answer in (
        (m.QueueDeclare("q", durable=True), m.QueueDeclareOk("q")),
        (m.ExchangeDeclare("x", "topic", durable=True), m.ExchangeDeclareOk()),
        (m.QueueBind("q", "x", "k"), m.QueueBindOk()),
        (m.QueueUnbind("q", "x", "k"), m.QueueUnbindOk()),
        (m.ExchangeDelete("x"), m.ExchangeDeleteOk()),
        (m.QueueDelete("q"), m.QueueDeleteOk(0)),
    ):
        client.send(method)
        client.expect_silence()
        write()
        client.expect(answer)


def test_a_commit_is_answered_when_it_is_on_disk():
    world = World()
    write = keep(world.broker)
    client = world.connect()
    client.send(m.QueueDeclare("q", durable=True), m.TxSelect())
    write()
    client.expect(m.QueueDeclareOk("q"), m.TxSelectOk())
    client.send(publish("q", delivery_mode=2), m.TxCommit())
    client.expect_silence()
    write()
    client.expect(m.TxCommitOk())


def test_each_channel_is_confirmed_once_its_batch_is_on_disk_and_a_closed_one_never():
    world = World()
    write = keep(world.broker)
    client = world.connect()
    client.send(m.QueueDeclare("q", durable=True), m.ConfirmSelect())
    write()
    client.expect(m.QueueDeclareOk("q"), m.ConfirmSelectOk())
    for number in (2, 3):
        client.do(m.ChannelOpen(), m.ConfirmSelect(), channel=number)
    for number in (1, 2, 3):
        client.send(publish("q", delivery_mode=2), channel=number)
    client.do(m.ChannelClose(200, "bye", 0, 0), channel=3)
    client.expect_silence()
    write()
    client.expect(m.BasicAck(1), channel=1)
    client.expect(m.BasicAck(1), channel=2)
    client.expect_silence()


def journal(path, *batches):
    """Write a data directory's first journal file."""
    (path / "journal").mkdir(exist_ok=True)
    file = JournalFile(DiskFiles(), path / "journal", number=1, first=1, synced=0, size=4096)
    for number, parts in enumerate(batches, 1):
        file.append(parts, number, sync=True)
    file.finish()


def test_the_position_of_a_message_that_was_never_written_is_not_given_again(tmp_path):
    journal(tmp_path, [*pack_publish([(1, 0, 0)], b"", b"0"), pack_progress(1, 3, [(3, 2)])])
    queue = recover(DiskFiles(), tmp_path, [1]).queues[1]
    assert list(queue.entries) == [0]
    assert queue.next_position == 5


@pytest.mark.parametrize(("clean", "delivered"), [(True, 1), (False, 3)])
def test_after_a_crash_everything_may_have_been_delivered(tmp_path, clean, delivered):
    directory = DataDirectory(tmp_path)
    directory.metadata.commit([add_queue(QueueRow(1, "/", "q", auto_delete=False, arguments={}))])
    messages = [piece for each in range(3) for piece in pack_publish([(1, each, 0)], b"", b"m")]
    journal(tmp_path, [*messages, pack_progress(1, 1, [])])
    directory.close(clean=clean)
    again = DataDirectory(tmp_path)
    assert (again.stopped is not None) == clean
    assert read(again).recovered.queues[1].delivered == delivered
    again.close(clean=True)


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        (m.QueueDeclare("q", durable=True), m.QueueDeclareOk("q")),
        (m.ExchangeDeclare("x", "topic", durable=True), m.ExchangeDeclareOk()),
    ],
)
def test_a_repeated_declaration_waits_for_the_commit_of_the_first(method, answer):
    world = World()
    write = keep(world.broker)
    first, second = world.connect(), world.connect()
    first.send(method)
    second.send(method)
    first.expect_silence()
    second.expect_silence()
    write()
    first.expect(answer)
    second.expect(answer)
