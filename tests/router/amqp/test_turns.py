"""Work that continues in later turns, and its intermediate states as clients see them."""

from math import inf

import pytest

from leveret.protocol.amqp import methods as m
from leveret.protocol.amqp.connection import FRAMES
from leveret.protocol.amqp.encode import HEARTBEAT
from leveret.router.exchange import routing
from leveret.router.session.incoming import WIDE
from leveret.router.session.subscriptions import CANCELLED
from leveret.router.session.unacked import PIECE
from leveret.router.vhost.deletion import FEW
from tests.router.amqp.client import packed, publish
from tests.router.amqp.world import finish

QUEUES = 3 * WIDE


@pytest.fixture
def steps(world):
    return world.one_slice_a_turn()


def lengths(world):
    return [len(queue.ready) for queue in world.vhost.queues.values()]


@pytest.fixture
def wide(connect):
    """A client, and amq.fanout with many queues."""
    client = connect()
    client.do(m.ConfirmSelect())
    for number in range(QUEUES):
        client.do(m.QueueDeclare(f"q{number}"), m.QueueBind(f"q{number}", "amq.fanout"))
    return client


def test_a_publish_to_many_queues_is_confirmed_when_all_have_it(world, wide, steps):
    wide.send(publish("", b"x", exchange="amq.fanout"))
    assert sum(lengths(world)) == WIDE
    steps()
    assert sum(lengths(world)) == 2 * WIDE
    assert wide.next() is None
    finish(steps)
    assert lengths(world) == [1] * QUEUES
    wide.expect(m.BasicAck(1, False))


def test_commands_behind_a_publish_to_many_queues_wait(world, wide, steps):
    wide.send(publish("", b"x", exchange="amq.fanout"), m.QueueDeclare(f"q{QUEUES - 1}", passive=True))
    assert wide.next() is None
    finish(steps)
    told = [wide.next()[1], wide.next()[1]]
    assert m.QueueDeclareOk(f"q{QUEUES - 1}", 1, 0) in told


def test_a_publish_to_many_queues_reaches_all_though_its_publisher_goes(world, wide, steps):
    wide.send(publish("", b"x", exchange="amq.fanout"))
    wide.transport.connection.lost()
    finish(steps)
    assert lengths(world) == [1] * QUEUES


def test_a_queue_that_is_deleted_in_the_midst_of_a_publish_gets_nothing(world, wide, steps):
    wide.send(publish("", b"x", exchange="amq.fanout"))
    gone = world.vhost.queues[f"q{QUEUES - 1}"]
    world.vhost.delete_queue(gone)
    finish(steps)
    assert lengths(world) == [1] * (QUEUES - 1)
    assert len(gone.ready) == 0
    wide.expect(m.BasicAck(1, False))


@pytest.fixture
def holder(connect):
    """A client that holds more messages than are settled at a time."""
    client = connect()
    client.do(m.QueueDeclare("q"), m.BasicConsume("q", "c"))
    client.send(*[publish("q", b"%d" % number) for number in range(3 * PIECE)])
    for _ in range(3 * PIECE):
        client.take_content(m.BasicDeliver)
    client.do(m.BasicCancel("c"))
    return client


def test_a_get_waits_until_all_messages_that_are_requeued_are_back(world, connect, holder, steps):
    other = connect()
    holder.send(m.BasicNack(0, True, True))
    other.send(publish("q", b"behind"), m.BasicGet("q", True))
    assert 0 < world.vhost.queues["q"].unacked < 3 * PIECE
    assert other.next() is None
    finish(steps)
    assert other.take_content(m.BasicGetOk).body == b"0"
    assert [entry.message.body for entry in world.vhost.queues["q"].ready][-1] == b"behind"


@pytest.mark.slow
@pytest.mark.parametrize("end", ["nack", "channel", "connection"])
def test_a_connection_that_ends_while_its_messages_go_back_loses_none(world, holder, steps, end):
    holder.send(m.BasicNack(3 * PIECE, True, True) if end == "nack" else m.ChannelClose(200))
    if end == "connection":
        holder.transport.connection.lost()
    finish(steps)
    queue = world.vhost.queues["q"]
    assert [int(entry.message.body) for entry in queue.ready] == list(range(3 * PIECE))
    assert (queue.unacked, queue.awaits_disk()) == (0, False)


def test_messages_that_are_acknowledged_do_not_come_back_though_their_client_goes(world, holder, steps):
    holder.send(m.BasicAck(3 * PIECE, True))
    holder.transport.connection.lost()
    finish(steps)
    assert (len(world.vhost.queues["q"].ready), world.vhost.queues["q"].unacked) == (0, 0)


def test_a_commit_is_answered_when_all_of_it_is_done(world, connect, steps):
    client = connect()
    world.broker.budget.clock = None
    client.transport.send(packed(m.TxSelect(), 1) + packed(m.QueueDeclare("q"), 1))
    world.broker.scheduler.end_batch()
    client.expect(m.TxSelectOk())
    client.take(m.QueueDeclareOk)
    client.send(*[publish("q", b"x") for _ in range(1000)])
    world.broker.budget.clock = lambda: inf
    finish(steps)
    client.send(m.TxCommit(), m.QueueDeclare("q", passive=True))
    assert client.next() is None
    assert finish(steps) > 3
    client.expect(m.TxCommitOk())
    client.expect(m.QueueDeclareOk("q", 1000, 0))


@pytest.mark.parametrize(
    "tiny", [packed(m.BasicQos(0, 1, False), 1), HEARTBEAT], ids=["methods", "heartbeats"]
)
def test_tiny_frames_of_one_read_are_handled_in_several_turns(world, connect, tiny):
    """Parsing alone of what a client that sent large messages may send in one read would take 40 ms."""
    client = connect()
    client.transport.connection.receive(tiny * 3 * FRAMES + packed(m.QueueDeclare("q"), 1))
    turns = 0
    while "q" not in world.vhost.queues:
        turns += 1
        world.broker.scheduler.end_batch()
    assert turns >= 3
    while not isinstance(client.next()[1], m.QueueDeclareOk):
        pass
    client.call(m.QueueDeclare("q"))


def test_a_connection_that_is_closed_amid_many_frames_reads_the_rest(world, connect):
    client = connect()
    fault = HEARTBEAT * FRAMES + packed(m.QueueDeclare("q"), 0)
    client.transport.connection.receive(
        fault + HEARTBEAT * FRAMES + packed(m.ConnectionClose(200, "", 0, 0), 0)
    )
    for _ in range(5):
        world.broker.scheduler.end_batch()
    client.take(m.ConnectionClose, channel=0)
    client.take(m.ConnectionCloseOk, channel=0)
    client.expect_end()


BUSY = 5


@pytest.fixture
def turns(world, steps):
    """The same, where what clients send are turns of their own."""
    world.flush = lambda: world.broker.scheduler.end_batch(left_over=False)
    return steps


@pytest.fixture
def backlogs(connect):
    """A client whose queues have more messages than they deliver in many turns."""
    client = connect()
    for number in range(BUSY):
        client.do(m.QueueDeclare(f"q{number}"))
        client.send(*[publish(f"q{number}", b"x")] * 10_000)
    return client


@pytest.fixture
def dead_letters(world, connect):
    """Call it to have a queue send more dead letters, to several queues each, than are sent in many turns."""
    client = connect()
    client.do(m.QueueDeclare("q", arguments={"x-dead-letter-exchange": "amq.fanout"}))
    for number in range(BUSY):
        client.do(m.QueueDeclare(f"q{number}"), m.QueueBind(f"q{number}", "amq.fanout"))
    client.do(m.BasicConsume("q", "c"))
    client.send(*[publish("q", b"x")] * 3000)
    for _ in range(3000):
        client.take_content(m.BasicDeliver)
    return lambda: client.send(m.BasicNack(0, True, False))


@pytest.mark.slow
def test_a_command_does_not_wait_for_queues_that_others_keep_busy(world, connect, backlogs, turns):
    other = connect()
    backlogs.send(*[m.BasicConsume(f"q{number}", f"c{number}", no_ack=True) for number in range(BUSY)])
    for _ in range(BUSY):
        turns()
    for _ in range(3):
        other.send(m.QueueDeclare("mine"))
        other.send(publish("mine", b"x"))
        other.send(m.BasicGet("mine", True))
        other.send(m.QueuePurge("mine"))
        for _ in range(2):
            turns()
        other.expect(m.QueueDeclareOk("mine", 0, 0))
        assert other.take_content(m.BasicGetOk).body == b"x"
        other.expect(m.QueuePurgeOk(0))
    assert all(lengths(world)[:BUSY])


def test_a_command_does_not_wait_for_dead_letters_of_others(world, connect, dead_letters, turns):
    other = connect()
    dead_letters()
    for _ in range(3):
        other.send(m.QueueDeclare("mine"), publish("mine", b"x"), m.BasicGet("mine", True))
        for _ in range(9):  # some of them for the publish, whose route may take long
            turns()
        other.take(m.QueueDeclareOk)
        other.take_content(m.BasicGetOk)
    assert world.broker.dead_letters.pending


@pytest.fixture
def reader(connect):
    """A client whose queue has more messages than it delivers in some turns."""
    client = connect()
    client.do(m.QueueDeclare("r"))
    client.send(*[publish("r", b"x")] * 10_000)
    return client


def test_dead_letters_keep_no_queue_from_delivering_what_it_has_left(world, reader, dead_letters, turns):
    dead_letters()
    reader.send(m.BasicConsume("r", "c", no_ack=True))
    left = len(world.vhost.queues["r"].ready)
    assert left > 0
    for _ in range(3 * BUSY):
        turns()
    assert len(world.vhost.queues["r"].ready) < left
    assert world.broker.dead_letters.pending


def test_a_command_waits_for_the_queues_that_its_own_client_has_touched(world, connect, turns):
    client = connect()
    world.broker.budget.clock = None
    client.send(*[m.QueueDeclare(f"q{number}") for number in range(BUSY)])
    client.send(*[m.BasicConsume(f"q{number}", f"c{number}", no_ack=True) for number in range(BUSY)])
    world.broker.budget.clock = lambda: inf
    while client.next() is not None:
        pass
    client.send(*[publish(f"q{number}", b"x") for number in range(BUSY)], m.QueuePurge(f"q{BUSY - 1}"))
    finish(turns)
    for _ in range(BUSY):
        client.take_content(m.BasicDeliver)
    client.expect(m.QueuePurgeOk(0))


def test_a_refusal_waits_for_what_its_client_has_published_before(world, connect, turns):
    client = connect()
    world.broker.budget.clock = None
    client.send(*[m.QueueDeclare(f"q{number}") for number in range(BUSY)])
    client.send(*[m.BasicConsume(f"q{number}", f"c{number}", no_ack=True) for number in range(BUSY)])
    world.broker.budget.clock = lambda: inf
    while client.next() is not None:
        pass
    client.send(*[publish(f"q{number}", b"x") for number in range(BUSY)], publish("q", b"x", exchange="none"))
    finish(turns)
    for _ in range(BUSY):
        client.take_content(m.BasicDeliver)
    assert client.take(m.ChannelClose).reply_code == 404
    client.send(m.ChannelCloseOk(), m.ChannelOpen(), m.QueueDeclare("q0", passive=True))
    finish(turns)
    client.expect(m.ChannelOpenOk())
    client.expect(m.QueueDeclareOk("q0", 0, 0))


def test_commands_that_may_take_long_are_handled_one_a_turn_when_they_do(world, connect, turns):
    client = connect()
    selectors = [{"x-selector": f"a = {number}"} for number in range(BUSY)]
    client.send(m.QueueDeclare("q"))
    client.send(*[m.QueueBind("q", "amq.topic", "k", False, each) for each in selectors])
    for number in range(1, BUSY):
        assert len(world.vhost.exchanges["amq.topic"].bindings) == number
        turns()
    finish(turns)
    client.expect(m.QueueDeclareOk("q", 0, 0), *[m.QueueBindOk()] * BUSY)


def test_heartbeats_are_not_missed_while_commands_wait_for_later_turns(world, wide, steps):
    connection = wide.transport.connection
    wide.send(publish("", b"x", exchange="amq.fanout"))
    world.broker.now += 600_000
    connection.on_timer(world.broker.now)
    assert not connection.finished
    finish(steps)
    connection.on_timer(world.broker.now)
    assert not connection.finished


def test_dead_letters_of_one_client_do_not_keep_others_waiting(world, connect, steps):
    world.broker.budget.clock = None
    client, other = connect(), connect()
    to_dead = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"}
    client.send(m.QueueDeclare("dead"), m.QueueDeclare("q", arguments=to_dead))
    client.send(*[publish("q", b"x") for _ in range(200)])
    steps()
    world.broker.budget.clock = lambda: inf
    client.send(m.QueuePurge("dead"), *[m.BasicGet("q")] * 200)
    finish(steps)
    client.send(m.BasicNack(0, True, False))
    other.send(m.BasicGet("dead"))
    turns = 0
    while (answer := other.next()) is None:
        steps()
        turns += 1
    assert not isinstance(answer[1], m.BasicGetEmpty)
    assert turns < 10
    assert len(world.vhost.queues["dead"].ready) < 50
    finish(steps)
    assert len(world.vhost.queues["dead"].ready) == 199


BOUND = 3 * FEW


@pytest.fixture
def bound(connect):
    """A client, and queue q with many bindings to exchange x."""
    client = connect()
    client.do(m.ExchangeDeclare("x", "direct"), m.QueueDeclare("q"))
    for number in range(BOUND):
        client.do(m.QueueBind("q", "x", f"key {number}"))
    client.send(publish("q", b"message"))
    return client


@pytest.mark.parametrize(
    ("delete", "answer"),
    [(m.QueueDelete("q"), m.QueueDeleteOk(1)), (m.ExchangeDelete("x"), m.ExchangeDeleteOk())],
)
def test_what_has_many_bindings_loses_them_before_it_is_deleted(world, bound, steps, delete, answer):
    bound.send(delete)
    assert len(world.vhost.exchanges["x"].bindings) == BOUND - FEW
    assert "q" in world.vhost.queues
    assert bound.next() is None
    finish(steps)
    bound.expect(answer)
    gone = "q" if delete == m.QueueDelete("q") else "x"
    assert gone not in {**world.vhost.queues, **world.vhost.exchanges}
    assert not world.vhost.graph.sources


@pytest.mark.parametrize(
    "refused", [m.QueueDelete("q", if_empty=True), m.ExchangeDelete("x", if_unused=True)], ids=str
)
def test_refused_deletion_takes_no_binding_away(world, bound, steps, refused):
    bound.send(refused)
    finish(steps)
    bound.take(m.ChannelClose)
    assert len(world.vhost.exchanges["x"].bindings) == BOUND


def test_two_clients_may_delete_a_queue_with_many_bindings(world, connect, bound, steps):
    other = connect()
    bound.send(m.QueueDelete("q"))
    other.send(m.QueueDelete("q"))
    finish(steps)
    counts = sorted(client.take(m.QueueDeleteOk).message_count for client in (bound, other))
    assert counts == [0, 1]


def test_queue_of_a_deleted_name_keeps_its_own_bindings(world, bound, steps):
    bound.send(m.QueueDelete("q"), m.QueueDeclare("q"), m.QueueBind("q", "x", "key 0"))
    finish(steps)
    assert len(world.vhost.exchanges["x"].bindings) == 1


@pytest.mark.parametrize("end", ["close", "loss"])
def test_exclusive_queues_are_deleted_in_turns(world, connect, steps, end):
    client = connect()
    for number in range(50):
        client.do(m.QueueDeclare(f"mine {number}", exclusive=True))
    if end == "loss":
        client.transport.connection.lost()
    else:
        client.send(m.ConnectionClose(200, "", 0, 0), channel=0)
        assert client.next() is None
    assert 0 < len(world.vhost.queues) < 50
    finish(steps)
    assert not world.vhost.queues
    if end == "close":
        client.take(m.ConnectionCloseOk, channel=0)
    assert client.transport.connection.finished


def test_client_that_is_lost_while_its_close_is_unanswered_leaves_nothing(world, connect, steps):
    client = connect()
    for number in range(50):
        client.do(m.QueueDeclare(f"mine {number}", exclusive=True))
    client.send(m.ConnectionClose(200, "", 0, 0), channel=0)
    client.transport.connection.lost()
    finish(steps)
    assert not world.vhost.queues
    assert client.transport.connection not in world.broker.clients


def test_consumers_of_a_closed_channel_end_in_turns_and_get_nothing(world, connect, steps):
    client, other = connect(), connect()
    client.do(m.QueueDeclare("q"))
    count = 3 * CANCELLED
    for number in range(count):
        client.do(m.BasicConsume("q", f"tag {number}", no_ack=True))
    client.send(m.ChannelClose(200, "", 0, 0))
    other.send(publish("q", b"x"))
    assert 0 < len(world.vhost.queues["q"].consumers) < count
    finish(steps)
    assert not len(world.vhost.queues["q"].consumers)
    assert len(world.vhost.queues["q"].ready) == 1


def test_chain_of_auto_delete_exchanges_is_deleted_in_turns(world, connect, steps):
    client, count = connect(), 3000  # more than Python's stack is deep
    for number in range(count):
        client.do(m.ExchangeDeclare(f"x{number}", "fanout", auto_delete=True))
        if number:
            client.do(m.ExchangeBind(f"x{number}", f"x{number - 1}"))
    client.send(m.ExchangeDelete(f"x{count - 1}"))
    finish(steps)
    client.take(m.ExchangeDeleteOk)
    assert not [name for name in world.vhost.exchanges if name.startswith("x")]


# -- routing -----------------------------------------------------------------------------------------------


@pytest.fixture
def chain(connect, monkeypatch):
    """A client, and exchanges x0 to x3 bound one to the next, which are looked at one in each slice; the last
    leads to the queue ``q``.
    """
    monkeypatch.setattr(routing, "STEPS", 1)
    client = connect()
    client.do(m.ConfirmSelect(), m.QueueDeclare("q"), m.QueueDeclare("other"))
    for number in range(4):
        client.do(m.ExchangeDeclare(f"x{number}", "fanout"))
    for number in range(3):
        client.do(m.ExchangeBind(f"x{number + 1}", f"x{number}"))
    client.do(m.QueueBind("q", "x3"))
    return client


def bodies(world, name="q"):
    return [entry.message.body for entry in world.vhost.queues[name].ready]


def test_publishes_of_which_one_is_routed_in_slices_keep_their_order(world, chain, steps):
    chain.send(publish("a", b"1", exchange="x0"), publish("q", b"2"), publish("b", b"3", exchange="x0"))
    assert bodies(world) == []
    finish(steps)
    assert bodies(world) == [b"1", b"2", b"3"]
    chain.expect(m.BasicAck(2, True), m.BasicAck(3, False))


def test_a_message_is_enqueued_though_its_publisher_goes_while_it_is_routed(world, chain, steps):
    chain.send(publish("a", b"1", exchange="x0"))
    chain.transport.connection.lost()
    finish(steps)
    assert bodies(world) == [b"1"]


def test_an_unroutable_message_of_a_publisher_that_goes_is_dropped(world, chain, connect, steps):
    other = connect()
    other.send(m.QueueUnbind("q", "x3"))
    chain.send(publish("a", b"1", exchange="x0", mandatory=True))
    chain.transport.connection.lost()
    finish(steps)
    assert bodies(world) == []


def test_a_plan_that_is_outdated_when_it_is_made_is_not_kept(world, chain, connect, steps):
    chain.send(publish("a", b"1", exchange="x0"))
    while not world.vhost.exchanges["x0"].planned:
        steps()
    connect().send(m.QueueBind("other", "x0"))
    finish(steps)
    chain.send(publish("a", b"2", exchange="x0"))
    finish(steps)
    assert (bodies(world), bodies(world, "other")) == ([b"1", b"2"], [b"2"])
    world.vhost.routes.count()
    assert world.vhost.exchanges["x0"].published == 2


def test_what_is_refused_is_refused_before_it_is_routed(world, chain, steps):
    chain.send(publish("a", b"1", exchange="x0", expiration="soon"))
    assert chain.take(m.ChannelClose).reply_code == 406
    assert world.vhost.routes.plans == {}


def test_a_queue_that_is_deleted_while_a_message_is_routed_gets_nothing(world, chain, connect, steps):
    gone = world.vhost.queues["other"]
    connect().do(m.QueueBind("other", "x0"))
    chain.send(publish("a", b"1", exchange="x0"))
    world.vhost.delete_queue(gone)
    finish(steps)
    assert (bodies(world), len(gone.ready)) == ([b"1"], 0)
    chain.expect(m.BasicAck(1, False))


def test_a_transaction_with_messages_that_are_routed_in_slices_is_done_in_order(world, chain, connect, steps):
    client = connect()
    client.send(m.TxSelect())
    for number, key in enumerate("abc"):
        client.send(publish(key, b"%d" % number, exchange="x0"))
        finish(steps)
    assert bodies(world) == []
    client.send(m.TxCommit())
    finish(steps)
    assert bodies(world) == [b"0", b"1", b"2"]


def test_the_commands_behind_a_route_that_was_worked_out_wait_once_the_turn_took_long(world, connect):
    client = connect()
    client.do(m.QueueDeclare("q"), m.QueueBind("q", "amq.headers", arguments={"x-match": "any", "a": 1}))
    messages = [publish("", b"%d" % n, exchange="amq.headers", headers={"a": 1, "n": n}) for n in range(5)]
    ticks = iter(range(100))
    world.broker.budget.clock = lambda: next(ticks)
    world.broker.budget.begin(2)  # spent when it is asked the third time
    client.transport.connection.receive(b"".join(packed(each, 1) for each in messages))
    assert bodies(world) == [b"0", b"1", b"2"]
    world.broker.budget.clock = None
    world.flush()
    assert bodies(world) == [b"0", b"1", b"2", b"3", b"4"]


# -- transactions ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("single", [False, True])
def test_a_rollback_is_answered_when_all_is_held_again(world, connect, holder, steps, single):
    count = 3 * PIECE
    holder.send(m.TxSelect())
    for tag in range(count, 0, -1) if single else [0]:
        holder.send(m.BasicAck(tag, not single))
        finish(steps)
    holder.expect(m.TxSelectOk())
    holder.send(m.TxRollback(), m.BasicNack(0, True, True), m.TxCommit())
    assert holder.next() is None
    assert finish(steps) > 3
    holder.expect(m.TxRollbackOk(), m.TxCommitOk())
    assert [int(body) for body in bodies(world)] == list(range(count))


@pytest.mark.parametrize("when", ["before", "during"])
def test_a_transaction_of_a_client_that_goes_is_rolled_back(world, connect, holder, steps, when):
    holder.send(m.TxSelect(), m.BasicAck(0, True))
    finish(steps)
    holder.send(publish("q", b"never"))
    if when == "during":
        holder.send(m.TxRollback())
    holder.transport.connection.lost()
    finish(steps)
    assert [int(body) for body in bodies(world)] == list(range(3 * PIECE))
    assert world.vhost.queues["q"].unacked == 0


def test_many_acknowledgements_in_one_read_go_on_in_later_turns(world, holder, steps):
    count = 3 * PIECE
    holder.send(*[m.BasicAck(tag, False) for tag in range(count, 0, -1)], m.QueueDeclare("q", passive=True))
    assert 0 < world.vhost.queues["q"].unacked < count
    assert holder.next() is None
    finish(steps)
    holder.expect(m.QueueDeclareOk("q", 0, 0))
    assert world.vhost.queues["q"].unacked == 0


def test_an_unknown_tag_behind_many_acknowledgements_closes_the_channel_when_they_are_settled(
    world, holder, steps
):
    count = 3 * PIECE
    holder.send(*[m.BasicAck(tag, False) for tag in [*range(1, count), count + 7]])
    finish(steps)
    assert "unknown delivery tag" in holder.take(m.ChannelClose).reply_text
    assert (bodies(world), world.vhost.queues["q"].unacked) == ([b"%d" % (count - 1)], 0)


# -- exchanges that take messages once ---------------------------------------------------------------------


@pytest.fixture
def once(connect, wide):
    """A client, and the exchange ``x``, which takes messages once, before many queues."""
    wide.do(m.ExchangeDeclare("x", "fanout", durable=True, arguments={"x-message-deduplication": True}))
    wide.do(*[m.QueueBind(f"q{number}", "x") for number in range(QUEUES)])
    return wide


def identified(body):
    return publish("", body, exchange="x", headers={"x-deduplication-header": "same"})


def test_a_message_like_one_that_is_being_enqueued_is_taken_for_a_duplicate(world, connect, once, steps):
    other = connect()
    other.send(m.ConfirmSelect())
    once.send(identified(b"first"))
    other.send(identified(b"second"))
    assert 0 < sum(lengths(world)) < QUEUES
    finish(steps)
    assert lengths(world) == [1] * QUEUES
    assert bodies(world, f"q{QUEUES - 1}") == [b"first"]
    once.expect(m.BasicAck(1, False))
    other.expect(m.ConfirmSelectOk(), m.BasicAck(1, False))


def test_a_message_like_one_that_is_refused_meanwhile_is_taken(world, connect, once, steps):
    other = connect()
    other.send(
        m.QueueDeclare("full", arguments={"x-max-length": 1, "x-overflow": "reject-publish"}),
        m.QueueBind("full", "x"),
        publish("full", b"in the way"),
    )
    finish(steps)
    once.send(identified(b"first"))
    other.send(identified(b"second"))
    finish(steps)
    once.expect(m.BasicNack(1, False))
    assert lengths(world)[:QUEUES] == [2] * QUEUES


# -- selectors ---------------------------------------------------------------------------------------------

LONG = " OR ".join(f"a{number} = {number}" for number in range(200))


@pytest.mark.parametrize("kind", ["queue", "exchange"])
def test_a_binding_with_a_long_selector_is_answered_when_it_is_there(world, connect, steps, kind):
    client = connect()
    client.send(m.QueueDeclare("q"), m.QueueBind("q", "amq.direct", "k"))
    finish(steps)
    arguments = {"x-selector": LONG}
    bind = (
        m.QueueBind("q", "amq.fanout", "", arguments=arguments)
        if kind == "queue"
        else m.ExchangeBind("amq.direct", "amq.fanout", "", arguments=arguments)
    )
    client.send(bind, publish("k", b"1", exchange="amq.fanout", headers={"a7": 7}))
    assert finish(steps) > 5
    client.expect(m.QueueDeclareOk("q", 0, 0), m.QueueBindOk())
    client.expect(m.QueueBindOk() if kind == "queue" else m.ExchangeBindOk())
    assert bodies(world) == [b"1"]


def test_a_queue_that_is_deleted_while_its_selector_is_compiled_is_not_bound(world, connect, steps):
    client, other = connect(), connect()
    client.send(m.QueueDeclare("q"), m.QueueBind("q", "amq.fanout", arguments={"x-selector": LONG}))
    other.send(m.QueueDelete("q"))
    finish(steps)
    client.expect(m.QueueDeclareOk("q", 0, 0))
    close = client.take(m.ChannelClose)
    assert (close.reply_code, close.reply_text) == (404, "NOT_FOUND - no queue 'q' in vhost '/'")
    assert not world.vhost.exchanges["amq.fanout"].bindings
    other.expect(m.QueueDeleteOk(0))
