"""Acknowledging, rejecting, requeueing, recovering, getting: what comes back, where, and how it is marked."""

from conformance.differential.play import Area
from conformance.differential.words import gets, queue, texts
from leveret.protocol.amqp import methods as m

AREA = Area("settling")


def filled(p, count=3, **arguments):
    """A queue with messages "1" to ``count``."""
    a = p.connect()
    a.send(queue(**arguments), *texts("q", *range(1, count + 1)))
    return a


@AREA.scenario
def requeue_puts_back_in_place(p):
    a = filled(p)
    a.send(m.BasicGet("q"), m.BasicGet("q"))
    a.send(m.BasicNack(1))
    a.send(m.BasicGet("q"))
    a.send(m.BasicGet("q"))


@AREA.scenario
def requeue_of_the_second_before_the_first(p):
    a = filled(p, 4)
    a.send(*[m.BasicGet("q")] * 3)
    a.send(m.BasicNack(2))
    a.send(m.BasicNack(1))
    a.send(*gets("q", count=4))


@AREA.scenario
def requeue_multiple_keeps_the_order(p):
    a = filled(p, 5)
    a.send(*[m.BasicGet("q")] * 4)
    a.send(m.BasicNack(3, multiple=True))
    a.send(*gets("q", count=5))


@AREA.scenario
def requeue_to_the_same_consumer_comes_at_once(p):
    a = filled(p, 2)
    a.send(m.BasicConsume("q", "t"))
    a.send(m.BasicReject(1))
    a.send(m.BasicNack(2))
    a.send(m.BasicNack(3))


@AREA.scenario
def requeue_with_prefetch_of_one(p):
    a = filled(p, 3)
    a.send(m.BasicQos(0, 1), m.BasicConsume("q", "t"))
    a.send(m.BasicNack(1))
    a.send(m.BasicAck(2))
    a.send(m.BasicAck(3))


@AREA.scenario
def requeue_goes_to_another_consumer(p):
    a = filled(p, 1)
    b = p.connect()
    a.send(m.BasicQos(0, 1), m.BasicConsume("q", "first"))
    b.send(m.BasicQos(0, 1), m.BasicConsume("q", "second"))
    a.send(m.BasicReject(1))


@AREA.scenario
def requeued_comes_before_what_waits(p):
    a = filled(p, 2)
    a.send(m.BasicGet("q"))
    a.send(*texts("q", 3, 4))
    a.send(m.BasicReject(1))
    a.send(*gets("q", count=4))


@AREA.scenario
def ack_multiple_settles_all_before(p):
    a = filled(p)
    a.send(m.BasicConsume("q", "t"))
    a.send(m.BasicAck(2, multiple=True))
    a.send(m.BasicAck(1))


@AREA.scenario
def ack_of_zero_multiple_settles_everything(p):
    a = filled(p)
    a.send(m.BasicConsume("q", "t"))
    a.send(m.BasicAck(0, multiple=True))
    a.send(m.BasicCancel("t"))
    a.send(m.QueueDeclare("q", passive=True))
    a.send(m.BasicAck(3))


@AREA.scenario
def nack_of_zero_multiple_requeues_everything(p):
    a = filled(p)
    a.send(*[m.BasicGet("q")] * 3)
    a.send(m.BasicNack(0, multiple=True))
    a.send(*gets("q", count=3))


@AREA.scenario
def nack_of_zero_multiple_without_requeue_drops_everything(p):
    a = filled(p)
    a.send(*[m.BasicGet("q")] * 3)
    a.send(m.BasicNack(0, multiple=True, requeue=False))
    a.send(m.QueueDeclare("q", passive=True))


@AREA.cases({"ack": m.BasicAck(2), "nack": m.BasicNack(2), "reject": m.BasicReject(2)})
def settling_twice_is_refused(p, method):
    a = filled(p)
    a.send(*[m.BasicGet("q")] * 3)
    a.send(method)
    a.send(method)
    a.send(m.ChannelOpen(), m.QueueDeclare("q", passive=True))


@AREA.cases({"ack": m.BasicAck(4, True), "nack": m.BasicNack(4, True)})
def settling_multiple_beyond_the_last_is_refused(p, method):
    a = filled(p)
    a.send(*[m.BasicGet("q")] * 3)
    a.send(method)
    a.send(m.ChannelOpen(), *gets("q", count=3))


@AREA.scenario
def settling_multiple_up_to_a_settled_one(p):
    a = filled(p)
    a.send(*[m.BasicGet("q")] * 3)
    a.send(m.BasicAck(2))
    a.send(m.BasicAck(2, multiple=True))
    a.send(m.BasicAck(3, multiple=True))
    a.send(m.QueueDeclare("q", passive=True))


@AREA.scenario
def tags_are_of_their_channel(p):
    a = filled(p).channels(2)
    a.send(m.BasicGet("q"), m.BasicGet("q"))
    a.send(m.BasicGet("q"), channel=2)
    a.send(m.BasicAck(2), channel=2)
    a.send(m.BasicAck(2))


@AREA.scenario
def automatically_acked_deliveries_use_tags_too(p):
    a = filled(p)
    a.send(m.BasicGet("q", True), m.BasicGet("q"))
    a.send(m.BasicAck(1))
    a.send(m.ChannelOpen(), *gets("q", count=2))


@AREA.scenario
def acking_what_was_automatically_acked_in_a_multiple(p):
    a = filled(p)
    a.send(m.BasicGet("q", True), m.BasicGet("q", True))
    a.send(m.BasicAck(2, multiple=True))
    a.send(m.BasicQos())


@AREA.scenario
def settling_multiple_up_to_an_automatically_acked_one(p):
    a = filled(p)
    a.send(m.BasicGet("q"), m.BasicGet("q", True), m.BasicGet("q"))
    a.send(m.BasicAck(2, multiple=True))
    a.send(m.ChannelOpen(), *gets("q", count=3))


@AREA.scenario
def closing_the_channel_requeues(p):
    a = filled(p).channels(2)
    a.send(m.BasicGet("q"), m.BasicGet("q"))
    a.send(m.ChannelClose(200, "bye"))
    a.send(*gets("q", count=3), channel=2)


@AREA.scenario
def hanging_up_requeues(p):
    a = filled(p)
    a.send(m.BasicConsume("q", "t"))
    a.hang_up()
    b = p.connect()
    p.wait(300)
    b.send(*gets("q", count=4))


@AREA.scenario
def cancelling_keeps_what_is_not_acked(p):
    a = filled(p)
    a.send(m.BasicConsume("q", "t"))
    a.send(m.BasicCancel("t"))
    a.send(m.QueueDeclare("q", passive=True))
    a.send(m.BasicAck(1), m.BasicReject(2), m.BasicReject(3, False))
    a.send(*gets("q", count=2))


@AREA.scenario
def reject_without_requeue_drops(p):
    a = filled(p)
    a.send(m.BasicGet("q"))
    a.send(m.BasicReject(1, False))
    a.send(*gets("q", count=3))


@AREA.scenario
def recover_delivers_again(p):
    a = filled(p)
    a.send(m.BasicConsume("q", "t"))
    a.send(m.BasicAck(2))
    a.send(m.BasicRecover(True))


@AREA.scenario
def recover_after_gets_requeues_them(p):
    a = filled(p)
    a.send(m.BasicGet("q"), m.BasicGet("q"))
    a.send(m.BasicRecover(True))
    a.send(*gets("q", count=3))


@AREA.scenario
def recover_async_has_no_answer(p):
    a = filled(p)
    a.send(m.BasicGet("q"), m.BasicGet("q"))
    a.send(m.BasicRecoverAsync(True))
    a.send(*gets("q", count=3))


@AREA.scenario
def recover_may_go_to_another_consumer(p):
    a = filled(p, 1)
    b = p.connect()
    a.send(m.BasicQos(0, 1), m.BasicConsume("q", "a"))
    b.send(m.BasicConsume("q", "b"))
    a.send(m.BasicRecover(True))


@AREA.scenario
def get_counts_what_is_ready(p):
    a = filled(p)
    a.send(m.BasicGet("q"))
    a.send(m.QueueDeclare("q", passive=True))
    a.send(m.BasicGet("q"), m.BasicGet("q"), m.BasicGet("q"))
    a.send(m.QueueDeclare("q", passive=True))


@AREA.scenario
def get_ignores_the_prefetch_count(p):
    a = filled(p)
    a.send(m.BasicQos(0, 1))
    a.send(*[m.BasicGet("q")] * 3)


@AREA.scenario
def get_marks_redelivered_after_a_requeue_only(p):
    a = filled(p, 1)
    a.send(m.BasicGet("q"))
    a.send(m.BasicReject(1))
    a.send(m.BasicGet("q"))
    a.send(m.BasicReject(2))
    a.send(*gets("q", count=2))


@AREA.scenario
def purge_leaves_what_is_not_acked(p):
    a = filled(p)
    a.send(m.BasicGet("q"))
    a.send(m.QueuePurge("q"))
    a.send(m.BasicReject(1))
    a.send(*gets("q", count=2))


@AREA.scenario
def deleting_counts_what_is_ready(p):
    a = filled(p)
    a.send(m.BasicGet("q"))
    a.send(m.QueueDelete("q"))
    a.send(m.BasicAck(1))
    a.send(m.BasicQos())


@AREA.scenario
def settling_after_the_queue_is_gone(p):
    a = filled(p)
    a.send(*[m.BasicGet("q")] * 3)
    a.send(m.QueueDelete("q"))
    a.send(m.BasicReject(1))
    a.send(m.BasicNack(3, multiple=True))
    a.send(queue(), *gets("q"))
    a.send(m.BasicAck(3))


@AREA.scenario
def a_queue_declared_again_is_another_one(p):
    a = filled(p)
    a.send(*[m.BasicGet("q")] * 2)
    a.send(m.QueueDelete("q"), queue(), *texts("q", "new"))
    a.send(m.BasicNack(2, multiple=True))
    a.send(*gets("q", count=2))


@AREA.scenario
def delivery_tags_start_again_on_a_new_channel(p):
    a = filled(p)
    a.send(m.BasicGet("q"))
    a.send(m.ChannelClose(200))
    a.send(m.ChannelOpen(), m.BasicGet("q"))
