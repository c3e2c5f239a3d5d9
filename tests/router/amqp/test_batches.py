"""Deliveries are put off to the end of a read, and clients cannot see that.

Two brokers get the same random commands: one gets each in a read of its own, the other gets many in one read.
Both must answer alike, deliver the same messages to the same consumers, and keep the same messages in the
same order. The order of deliveries of *different* queues, and that of confirms and returns among deliveries,
is not compared: a RabbitMQ queue is a process of its own, so nothing is promised of it.

The same is demanded of a broker that has to write changes to a disk, and whose replies wait for it meanwhile.
"""

from collections import Counter, defaultdict
from math import inf
from random import Random

import pytest

from leveret.protocol.amqp import methods as m
from leveret.router.amqp import connection
from leveret.router.queue import limits
from leveret.router.queue.dispatch import DRAIN
from leveret.router.session import deliveries, incoming, settling
from leveret.router.session.reply_gate import HELD_MAX
from leveret.router.vhost.death_headers import deaths_of
from tests.router.amqp.client import Content, packed, publish
from tests.router.amqp.world import World
from tests.router.late_storage import LateStorage

QUEUES = {
    "plain": {},
    "priority": {"x-max-priority": 5},
    "short": {"x-max-length": 2, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"},
    "small": {"x-max-length-bytes": 9},
    "refusing": {"x-max-length": 2, "x-overflow": "reject-publish"},
    "now": {"x-message-ttl": 0, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"},
    "single": {"x-single-active-consumer": True},
    "quorum": {"x-queue-type": "quorum", "x-delivery-limit": 1},
    "dead": {},
}
KNOWN = [name for name in QUEUES if name != "dead"]  # dead letters of several queues come in any order
PLAIN, CONFIRMING, SHARING, TRANSACTIONAL = CHANNELS = (1, 2, 3, 4)
UNORDERED = (m.BasicAck, m.BasicNack)  # confirms
ROUNDS, COMMANDS = 4, 14


class Side:
    """A broker with its queues, and two clients: ``actor`` says everything, ``watcher`` consumes."""

    def __init__(self, storage=None):
        self.world = World(storage)
        self.actor = self.world.connect(channels=len(CHANNELS))
        self.watcher = self.world.connect(channels=2)
        for name, arguments in QUEUES.items():
            self.actor.send(m.QueueDeclare(name, durable=True, arguments=arguments))
        for name in ("plain", "short", "priority"):
            self.actor.send(m.QueueBind(name, "amq.fanout"))
        self.settle()
        self.actor.send(m.ConfirmSelect(), channel=CONFIRMING)
        self.actor.send(m.TxSelect(), channel=TRANSACTIONAL)
        self.seen()

    def settle(self):
        """Have everything on disk, where there is one."""
        if isinstance(self.world.broker.storage, LateStorage):
            self.world.commit()

    def session(self, client, channel):
        found = client.transport.connection.channels.open.get(channel)
        return None if found is None else found.session

    def held(self, channel):
        """The actor's unacknowledged messages on a channel: delivery tags by queue, consumer and body."""
        session = self.session(self.actor, channel)
        return {
            (
                consumer.queue.name if consumer else source.name,
                consumer and consumer.tag,
                entry.message.body,
            ): tag
            for tag, (source, consumer, entry) in (session.unacked if session else ())
        }

    def seen(self):
        """What both clients have been sent since the last look, as far as its order is promised."""
        return [seen(client) for client in (self.actor, self.watcher)]

    def state(self):
        """What every queue holds, and who holds what of it."""
        queues = {}
        for name, queue in self.world.vhost.queues.items():
            if name == "dead":  # dead letters of different queues come in any order
                ready = Counter(letter(entry.message) for entry in queue.ready)
            else:
                ready = [(entry.message.body, entry.returns) for entry in queue.ready]
            queues[name] = ready, queue.unacked, len(queue.consumers)
        return queues, [sorted(map(repr, self.held(channel))) for channel in CHANNELS]


def letter(message):
    return message.body, *((death["queue"], death["reason"], death["count"]) for death in deaths_of(message))


def seen(client):
    replies, deliveries, returns = defaultdict(list), defaultdict(list), defaultdict(list)
    while (found := client.next()) is not None:
        channel, came = found
        if isinstance(came, Content) and isinstance(came.method, m.BasicDeliver):
            tag = came.method.consumer_tag
            content = came.body, came.method.redelivered
            deliveries[channel, tag].append(content)
        elif isinstance(came, Content) and isinstance(came.method, m.BasicReturn):
            returns[channel].append(came.body)
        elif isinstance(came, Content):  # get-ok: its delivery tag depends on what was delivered before
            before = {key: len(some) for key, some in deliveries.items()}
            replies[channel].append((came.method.redelivered, came.method.message_count, came.body, before))
        elif not isinstance(came, UNORDERED):
            before = {key: len(some) for key, some in deliveries.items()}
            replies[channel].append((without_tags(came), before))
    return dict(replies), dict(deliveries), dict(returns)


def without_tags(reply):
    """A reply that does not say which delivery tag was unknown: tags depend on the order of deliveries."""
    if isinstance(reply, m.ChannelClose) and "unknown delivery tag" in reply.reply_text:
        return m.ChannelClose(reply.reply_code, "unknown delivery tag", reply.class_id, reply.method_id)
    return reply


class Commands:
    """Commands that make sense to a client that has seen what has come to ``side`` so far."""

    def __init__(self, seed, side):
        self.random = Random(seed)
        self.names = self.random.sample(KNOWN, 3)  # few, so that commands meet
        self.side = side
        self.bodies = 0
        self.tags = 0

    def setup(self):
        """Consumers of both clients: (client, channel, command) each."""
        random = self.random
        made = [("actor", SHARING, m.BasicQos(0, random.randint(1, 3), True))]
        for client, channels in (("watcher", (1, 2)), ("actor", CHANNELS)):
            for channel in channels:
                for _ in range(random.randint(0, 3)):
                    made.append((client, channel, m.BasicQos(0, random.choice((1, 1, 2, 3)))))
                    made.append((client, channel, self.consume(channel if client == "actor" else 0)))
        return made

    def consume(self, channel):
        names = [name for name in self.names if not (channel == SHARING and name == "quorum")]
        name = self.random.choice(names or ["plain"])
        self.tags += 1
        arguments = {"x-priority": 1} if self.random.random() < 0.2 else {}
        no_ack = self.random.random() < 0.2
        return m.BasicConsume(name, f"{name}-{self.tags}", no_ack=no_ack, arguments=arguments)

    def publish(self):
        random = self.random
        self.bodies += 1
        properties = {}
        if random.random() < 0.3:
            properties["priority"] = random.randint(0, 5)
        if random.random() < 0.2:
            properties["expiration"] = random.choice(("0", "1000"))
        exchange, key = (
            ("amq.fanout", "") if random.random() < 0.1 else ("", random.choice([*self.names, "nowhere"]))
        )
        body = b"%d" % self.bodies
        return publish(key, body, exchange=exchange, mandatory=random.random() < 0.3, **properties)

    def batch(self):
        """(channel, command) pairs. A tuple stands for a command that settles the message it names."""
        held = {channel: list(self.side.held(channel)) for channel in CHANNELS}
        tags = [
            (channel, tag)
            for channel in CHANNELS
            if (session := self.side.session(self.side.actor, channel)) is not None
            for tag in session.consumers
        ]
        made = []
        for _ in range(self.random.randint(2, COMMANDS)):
            channel = self.random.choice(CHANNELS)
            made.append((channel, self.command(channel, held[channel], tags)))
        return made

    def command(self, channel, held, tags):
        random = self.random
        name = random.choice([*self.names, "dead"])
        roll = random.random()
        if roll < 0.45:
            return self.publish()
        if roll < 0.65 and held:
            key = held.pop(random.randrange(len(held)))
            verb = random.choice(("ack", "ack", "ack", "nack", "reject"))
            return verb, key
        other = [
            m.BasicGet(random.choice(self.names), random.random() < 0.5),
            m.QueuePurge(name),
            m.QueueDeclare(name, passive=True),
            m.BasicQos(0, random.randint(1, 3), channel == SHARING),
            m.BasicAck(0, True),
            m.BasicNack(0, True, True),
            m.BasicRecover(True),
            self.consume(channel),
            m.QueueUnbind("plain", "amq.fanout"),
            m.QueueBind("plain", "amq.fanout"),
        ]
        if channel == TRANSACTIONAL:
            other += [m.TxCommit(), m.TxCommit(), m.TxRollback()]
        rare = [
            m.QueueDelete(name, if_empty=random.random() < 0.5, if_unused=random.random() < 0.5),
            publish("q", b"refused", exchange="missing"),
            m.ChannelClose(200),
        ]
        mine = [tag for number, tag in tags if number == channel]
        if mine and roll < 0.75:
            return m.BasicCancel(random.choice(mine))
        return random.choice(rare if roll > 0.97 else other)


def resolve(side, batch):
    """The same commands with the delivery tags that the messages have on this side."""
    tags = {channel: side.held(channel) for channel in CHANNELS}
    verbs = {
        "ack": m.BasicAck,
        "nack": lambda tag: m.BasicNack(tag, False, True),
        "reject": lambda tag: m.BasicReject(tag, False),
    }
    return [
        (channel, verbs[each[0]](tags[channel][each[1]]) if isinstance(each, tuple) else each)
        for channel, each in batch
    ]


def check(seed, storage=None, spent=None):
    """``spent`` says by chance whether a turn of the side that gets all at once has taken long enough."""
    apart, together = Side(), Side(storage)
    if spent is not None:
        together.world.broker.budget.clock = lambda: inf if spent.random() < 0.5 else -inf
    commands = Commands(seed, apart)
    for name, channel, command in commands.setup():
        for side in (apart, together):
            getattr(side, name).send(command, channel=channel)
    for number in range(ROUNDS):
        batch = commands.batch()
        one_by_one, at_once = resolve(apart, batch), resolve(together, batch)
        for channel, command in one_by_one:
            apart.actor.send(command, channel=channel)
        together.actor.send_raw(b"".join(packed(command, channel) for channel, command in at_once))
        together.settle()
        told = f"seed {seed}, round {number}: {at_once}"
        assert together.seen() == apart.seen(), told
        assert together.state() == apart.state(), told


@pytest.mark.parametrize("seed", range(150))
def test_commands_in_one_read_do_what_they_do_in_reads_of_their_own(seed):
    check(seed)


@pytest.mark.parametrize("seed", range(150))
def test_commands_behind_replies_that_wait_for_the_disk_do_the_same(seed):
    check(seed, LateStorage())


@pytest.mark.parametrize("seed", range(150))
def test_commands_of_which_any_goes_on_in_later_turns_do_the_same(seed, monkeypatch):
    """But for a large transaction, whose messages are seen one by one."""
    for where, name in (
        (connection, "FEW"),
        (deliveries, "PIECE"),
        (settling, "PIECE"),
        (incoming, "WIDE"),
        (limits, "SLICE"),
    ):
        monkeypatch.setattr(where, name, 1)
    check(seed, spent=Random(seed))


def test_a_stream_counts_what_was_published_before_it_is_asked(connect):
    client = connect()
    client.do(m.QueueDeclare("s", durable=True, arguments={"x-queue-type": "stream"}))
    client.do(m.BasicQos(0, 10), m.BasicConsume("s", "reader"))
    client.send(*[publish("s", b"%d" % number) for number in range(3)], m.QueueDeclare("s", passive=True))
    for _ in range(3):
        client.take_content(m.BasicDeliver)
    client.expect(m.QueueDeclareOk("s", 3, 1))


def test_a_get_behind_more_publishes_than_a_queue_delivers_in_a_round_finds_nothing(connect):
    client = connect()
    client.do(m.QueueDeclare("q"), m.BasicConsume("q", "c", no_ack=True))
    count = DRAIN + DRAIN // 2
    client.send(*[publish("q", b"x")] * count, m.BasicGet("q", True))
    for _ in range(count):
        client.take_content(m.BasicDeliver)
    client.expect(m.BasicGetEmpty())


def test_a_delivery_that_fails_while_catching_up_ends_its_own_connection_only(world, connect):
    broken, client = connect(), connect()
    client.do(m.QueueDeclare("q"))
    broken.do(m.BasicConsume("q", "c"))
    channel = broken.transport.connection.channels.open[1]
    channel.write_deliveries = lambda *_: 1 / 0
    client.send(publish("q", b"x"), m.QueueDeclare("q", passive=True))
    client.expect(m.QueueDeclareOk("q", 1, 0))
    broken.take(m.ConnectionClose, channel=0)


# -- replies that wait for the disk ------------------------------------------------------------------------


@pytest.fixture
def disk():
    """A world whose replies to changes wait until it commits."""
    return World(LateStorage())


OPERATIONS = {
    "get": (m.BasicGet("q", True), m.BasicGetEmpty()),
    "purge": (m.QueuePurge("q"), m.QueuePurgeOk(0)),
    "passive declare": (m.QueueDeclare("q", passive=True), m.QueueDeclareOk("q", 0, 1)),
    "delete if empty": (m.QueueDelete("q", if_empty=True), m.QueueDeleteOk(0)),
}


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_consumer_behind_a_declaration_has_its_messages_before_an_operation(disk, operation):
    client = disk.connect()
    command, reply = OPERATIONS[operation]
    client.send(m.QueueDeclare("q", durable=True), m.BasicConsume("q", "c"))
    client.send(*[publish("q", b"%d" % number) for number in range(3)], command)
    client.expect_silence()
    disk.commit()
    client.expect(m.QueueDeclareOk("q", 0, 0), m.BasicConsumeOk("c"))
    assert [client.take_content(m.BasicDeliver).body for _ in range(3)] == [b"0", b"1", b"2"]
    client.expect(reply)
    if operation == "delete if empty":
        client.expect(m.BasicCancel("c", nowait=True))
    client.expect_silence()


def test_a_consumer_whose_replies_wait_keeps_its_turn(disk):
    slow, quick = disk.connect(), disk.connect()
    slow.send(m.QueueDeclare("q"), m.BasicConsume("q", "slow"))
    quick.send(m.BasicConsume("q", "quick"))
    slow.send(m.QueueDeclare("other", durable=True))
    quick.send(*[publish("q", b"%d" % number) for number in range(4)])
    disk.commit()
    quick.expect(m.BasicConsumeOk("quick"))
    assert [quick.take_content(m.BasicDeliver).body for _ in range(2)] == [b"1", b"3"]
    slow.expect(m.QueueDeclareOk("q", 0, 0), m.BasicConsumeOk("slow"), m.QueueDeclareOk("other", 0, 0))
    assert [slow.take_content(m.BasicDeliver).body for _ in range(2)] == [b"0", b"2"]


def test_deliveries_that_wait_for_the_disk_have_a_bound(disk):
    client = disk.connect()
    body = bytes(100_000)
    client.send(m.QueueDeclare("q", durable=True), m.BasicConsume("q", "c", no_ack=True))
    for _ in range(40):
        client.send(publish("q", body))
    assert client.transport.connection.replies.size < 2 * HELD_MAX
    disk.commit()
    assert client.transport.connection.replies.size == 0
    client.expect(m.QueueDeclareOk("q", 0, 0), m.BasicConsumeOk("c"))
    for _ in range(40):
        client.take_content(m.BasicDeliver)


def test_replies_that_wait_for_the_disk_are_sent_before_close_ok(disk):
    client = disk.connect()
    client.send_raw(
        packed(m.QueueDeclare("q", durable=True), 1)
        + packed(m.ConnectionClose(200), 0)
        + packed(m.QueueDeclare("late"), 1)
    )
    client.expect_silence()
    assert not client.transport.hung_up()
    disk.commit()
    client.expect(m.QueueDeclareOk("q", 0, 0))
    client.expect(m.ConnectionCloseOk(), channel=0)
    client.expect_end()
    assert list(disk.vhost.queues) == ["q"]
    assert disk.broker.clients == {}


def test_close_ok_behind_a_change_that_wanted_no_reply(disk):
    client = disk.connect()
    client.send(m.QueueDeclare("q", durable=True, nowait=True))
    client.send(m.ConnectionClose(200), channel=0)
    disk.commit()
    client.expect(m.ConnectionCloseOk(), channel=0)
    client.expect_end()


def test_a_disk_that_never_answers_keeps_no_closed_connection(disk):
    client = disk.connect()
    client.send(m.QueueDeclare("q", durable=True))
    client.send(m.ConnectionClose(200), channel=0)
    disk.advance(disk.settings.server.shutdown_timeout)
    client.expect_end()
    assert disk.broker.clients == {}


def test_basic_cancel_is_sent_after_a_change_without_a_reply(disk):
    client, other = disk.connect(), disk.connect()
    client.send(m.QueueDeclare("q"), m.BasicConsume("q", "c"))
    client.send(m.QueueDeclare("durable", durable=True, nowait=True))
    other.send(m.QueueDelete("q"))
    disk.commit()
    client.expect(m.QueueDeclareOk("q", 0, 0), m.BasicConsumeOk("c"), m.BasicCancel("c", nowait=True))
    other.expect(m.QueueDeleteOk(0))
