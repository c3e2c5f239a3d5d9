"""Consumers: tags, prefetch, exclusivity, priorities, cancelling, and who gets what."""

from conformance.differential.play import Area
from conformance.differential.tables import Typed
from conformance.differential.words import bind, exchange, gets, publish, queue, texts
from leveret.protocol.amqp import methods as m

AREA = Area("consuming")


def set_up(p, count=0, channels=1, **arguments):
    a = p.connect(channels=channels)
    a.send(queue(**arguments), *texts("q", *range(1, count + 1)))
    return a


@AREA.scenario
def a_made_tag_is_told(p):
    a = set_up(p, 1)
    a.send(m.BasicConsume("q"))
    a.send(m.BasicConsume("q"))


@AREA.scenario
def the_last_declared_queue_is_meant_by_no_name(p):
    a = set_up(p, 1)
    a.send(m.QueueDeclare(""))
    a.send(publish("q", "not here"))
    a.send(m.BasicConsume("", "t"))
    a.send(m.QueueDeclare("q", passive=True))
    a.send(m.BasicGet(""))


@AREA.scenario
def a_made_queue_name_is_told(p):
    a = p.connect()
    a.send(m.QueueDeclare(""), m.QueueDeclare("", exclusive=True))
    a.send(m.QueueBind("", "amq.fanout"))
    a.send(publish(exchange="amq.fanout", body=b"x"))
    a.send(m.BasicGet(""))


@AREA.scenario
def tags_are_of_their_channel(p):
    a = set_up(p, channels=2)
    a.send(m.BasicConsume("q", "t"))
    a.send(m.BasicConsume("q", "t"), channel=2)
    a.send(m.BasicCancel("t"))
    a.send(publish("q", "1"), publish("q", "2"))


@AREA.scenario
def tags_may_be_used_again_after_cancelling(p):
    a = set_up(p, 1)
    a.send(m.BasicConsume("q", "t"))
    a.send(m.BasicCancel("t"), m.BasicConsume("q", "t"))
    a.send(publish("q", "2"))


@AREA.cases({"unicode": "größe", "long": "t" * 255, "spaces": " t t ", "dots": "a.b.#"})
def any_text_is_a_tag(p, tag):
    a = set_up(p, 1)
    a.send(m.BasicConsume("q", tag))
    a.send(m.BasicCancel(tag))


@AREA.scenario
def deliveries_go_round(p):
    a = set_up(p)
    a.send(m.BasicConsume("q", "t1"), m.BasicConsume("q", "t2"), m.BasicConsume("q", "t3"))
    for number in range(5):
        a.send(publish("q", str(number)))


@AREA.scenario
def deliveries_go_round_over_connections(p):
    a = set_up(p)
    b, c = p.connect(), p.connect()
    a.send(m.BasicConsume("q", "t1"))
    b.send(m.BasicConsume("q", "t2"))
    for number in range(4):
        c.send(publish("q", str(number)))


@AREA.scenario
def a_full_consumer_is_passed_over(p):
    a = set_up(p)
    a.send(m.BasicQos(0, 1), m.BasicConsume("q", "t1"))
    a.send(m.BasicQos(0, 0), m.BasicConsume("q", "t2"))
    for number in range(4):
        a.send(publish("q", str(number)))


@AREA.scenario
def prefetch_counts_for_each_consumer(p):
    a = set_up(p, 6)
    a.send(m.BasicQos(0, 2), m.BasicConsume("q", "t1"))
    a.send(m.BasicConsume("q", "t2"))
    a.send(m.BasicAck(1))
    a.send(m.BasicAck(4, multiple=True))


@AREA.scenario
def global_prefetch_counts_for_the_channel(p):
    a = set_up(p, 6)
    a.send(m.BasicQos(0, 3, True), m.BasicConsume("q", "t1"))
    a.send(m.BasicConsume("q", "t2"))
    a.send(m.BasicAck(2, multiple=True))


@AREA.scenario
def global_and_own_prefetch_both_hold(p):
    a = set_up(p, 6)
    a.send(m.BasicQos(0, 2), m.BasicConsume("q", "t1"))
    a.send(m.BasicQos(0, 3, True))
    a.send(m.BasicConsume("q", "t2"))
    a.send(m.BasicAck(3, multiple=True))


@AREA.scenario
def raising_the_global_prefetch_lets_more_come(p):
    a = set_up(p, 5)
    a.send(m.BasicQos(0, 1, True), m.BasicConsume("q", "t"))
    a.send(m.BasicQos(0, 3, True))
    a.send(m.BasicQos(0, 0, True))


@AREA.scenario
def lowering_the_global_prefetch_takes_nothing_back(p):
    a = set_up(p, 5)
    a.send(m.BasicQos(0, 3, True), m.BasicConsume("q", "t"))
    a.send(m.BasicQos(0, 1, True))
    a.send(m.BasicAck(1), m.BasicAck(2))
    a.send(m.BasicAck(3))


@AREA.scenario
def own_prefetch_changes_nothing_for_who_consumes_already(p):
    a = set_up(p, 5)
    a.send(m.BasicQos(0, 1), m.BasicConsume("q", "t"))
    a.send(m.BasicQos(0, 4))
    a.send(m.BasicAck(1))
    a.send(m.BasicConsume("q", "t2"))


@AREA.scenario
def global_prefetch_over_two_queues(p):
    a = set_up(p, 2)
    a.send(queue("q2"), *texts("q2", "a", "b", "c"))
    a.send(m.BasicQos(0, 2, True), m.BasicConsume("q", "t1"))
    a.send(m.BasicConsume("q2", "t2"))
    a.send(m.BasicAck(1))
    a.send(m.BasicAck(2))
    a.send(m.BasicAck(3))


@AREA.scenario
def global_prefetch_does_not_count_automatic_acks(p):
    a = set_up(p, 3)
    a.send(m.BasicQos(0, 1, True), m.BasicConsume("q", "t", no_ack=True))
    a.send(publish("q", "4"))


@AREA.scenario
def prefetch_does_not_hold_automatic_acks(p):
    a = set_up(p, 3)
    a.send(m.BasicQos(0, 1), m.BasicConsume("q", "t", no_ack=True))


@AREA.scenario
def gets_count_against_the_global_prefetch(p):
    a = set_up(p, 4)
    a.send(m.BasicQos(0, 2, True), m.BasicGet("q"))
    a.send(m.BasicConsume("q", "t"))
    a.send(m.BasicAck(1))


@AREA.scenario
def unlimited_prefetch_after_a_limit(p):
    a = set_up(p, 4)
    a.send(m.BasicQos(0, 1), m.BasicQos(0, 0), m.BasicConsume("q", "t"))


@AREA.scenario
def an_exclusive_consumer_keeps_others_out(p):
    a = set_up(p, channels=2)
    a.send(m.BasicConsume("q", "t", exclusive=True))
    a.send(m.BasicConsume("q", "t2"), channel=2)
    a.send(m.BasicCancel("t"))
    a.send(m.ChannelOpen(), m.BasicConsume("q", "t2"), channel=2)


@AREA.scenario
def an_exclusive_consumer_of_an_exclusive_queue(p):
    a = p.connect()
    a.send(queue(exclusive=True), m.BasicConsume("q", "t", exclusive=True))
    a.send(publish("q", "1"))


@AREA.scenario
def get_beside_an_exclusive_consumer(p):
    a = set_up(p, 2, channels=2)
    a.send(m.BasicQos(0, 1), m.BasicConsume("q", "t", exclusive=True))
    a.send(m.BasicGet("q"), channel=2)


@AREA.scenario
def the_higher_priority_is_served_first(p):
    a = set_up(p)
    a.send(m.BasicQos(0, 1), m.BasicConsume("q", "low", arguments={"x-priority": -1}))
    a.send(m.BasicConsume("q", "middle"))
    a.send(m.BasicConsume("q", "high", arguments={"x-priority": 10}))
    a.send(publish("q", "1"))
    a.send(publish("q", "2"))
    a.send(publish("q", "3"))
    a.send(publish("q", "4"))
    a.send(m.BasicAck(1))


@AREA.scenario
def equal_priorities_take_turns(p):
    a = set_up(p)
    for tag in ("t1", "t2"):
        a.send(m.BasicConsume("q", tag, arguments={"x-priority": 5}))
    a.send(m.BasicConsume("q", "t3"))
    for number in range(4):
        a.send(publish("q", str(number)))


@AREA.scenario
def a_priority_of_a_byte(p):
    a = set_up(p)
    a.send(m.BasicConsume("q", "low"))
    a.send(m.BasicConsume("q", "high", arguments={"x-priority": Typed("b", 3)}))
    a.send(publish("q", "1"), publish("q", "2"))


@AREA.scenario
def cancelling_is_told_when_the_queue_is_deleted(p):
    a = set_up(p, channels=2)
    a.send(m.BasicConsume("q", "t"), m.BasicConsume("q", "t2"))
    a.send(m.QueueDelete("q"), channel=2)
    a.send(m.BasicCancel("t"))


@AREA.scenario
def cancelling_is_not_told_without_the_capability(p):
    a = set_up(p)
    b = p.connect(capabilities={})
    b.send(m.BasicConsume("q", "t"))
    a.send(m.QueueDelete("q"))
    b.send(m.BasicQos())


@AREA.scenario
def cancelling_is_told_by_the_deleting_channel_itself(p):
    a = set_up(p, 1)
    a.send(m.BasicConsume("q", "t"))
    a.send(m.QueueDelete("q"))
    a.send(m.BasicAck(1))
    a.send(m.BasicConsume("q", "t"))


@AREA.scenario
def nothing_comes_after_cancel_ok(p):
    a = set_up(p)
    a.send(m.BasicConsume("q", "t", no_ack=True))
    a.send(*texts("q", 1, 2, 3))
    a.send(m.BasicCancel("t"))
    a.send(*texts("q", 4, 5))
    a.send(m.QueueDeclare("q", passive=True))


@AREA.scenario
def nowait_consume_and_cancel(p):
    a = set_up(p, 1)
    a.send(m.BasicConsume("q", "t", nowait=True))
    a.send(m.BasicCancel("t", nowait=True))
    a.send(publish("q", "2"))
    a.send(m.QueueDeclare("q", passive=True))


@AREA.scenario
def nowait_consume_without_a_tag(p):
    a = set_up(p, 1)
    a.send(m.BasicConsume("q", "", nowait=True))
    a.send(m.BasicQos())


@AREA.scenario
def declare_counts_consumers(p):
    a = set_up(p)
    b = p.connect()
    a.send(m.BasicConsume("q", "t1"), m.BasicConsume("q", "t2"))
    b.send(m.BasicConsume("q", "t1"))
    a.send(m.QueueDeclare("q", passive=True))
    b.send(m.BasicCancel("t1"))
    a.send(m.QueueDeclare("q", passive=True))


@AREA.scenario
def no_local_is_ignored(p):
    a = set_up(p)
    a.send(m.BasicConsume("q", "t", no_local=True))
    a.send(publish("q", "1"))


@AREA.scenario
def closing_the_channel_cancels(p):
    a = set_up(p, channels=2)
    a.send(m.BasicConsume("q", "t"))
    a.send(m.ChannelClose(200, "bye"))
    a.send(publish("q", "1"), channel=2)
    a.send(m.QueueDeclare("q", passive=True), channel=2)


@AREA.scenario
def what_comes_first_goes_first_to_a_new_consumer(p):
    a = set_up(p, 3)
    a.send(m.BasicConsume("q", "t", no_ack=True))
    a.send(*texts("q", 4, 5))


@AREA.scenario
def large_deliveries_are_whole(p):
    a = set_up(p)
    a.send(m.BasicConsume("q", "t", no_ack=True))
    a.send(publish("q", b"x" * 300_000))
    a.send(publish("q", b"y" * 131_064), publish("q", b"z" * 131_065))


@AREA.scenario
def a_receiver_with_small_frames(p):
    a = set_up(p)
    b = p.connect(frame_max=4096)
    b.send(m.BasicConsume("q", "t", no_ack=True))
    a.send(publish("q", b"x" * 10_000))
    p.note(f"body frames: {b.peer.frames[3]}")


@AREA.scenario
def a_body_of_exactly_one_frame(p):
    a = set_up(p)
    b = p.connect(frame_max=4096)
    b.send(m.BasicConsume("q", "t", no_ack=True))
    for size in (4088, 4089):
        a.send(publish("q", b"x" * size))
        p.note(f"body frames: {b.peer.frames[3]}")


@AREA.scenario
def empty_bodies_have_no_body_frame(p):
    a = set_up(p)
    a.send(m.BasicConsume("q", "t", no_ack=True))
    a.send(publish("q"))
    p.note(f"body frames: {a.peer.frames[3]}")


@AREA.scenario
def consuming_a_queue_twice_by_two_channels(p):
    a = set_up(p, channels=3)
    a.send(m.BasicConsume("q", "t"))
    a.send(m.BasicConsume("q", "t"), channel=2)
    a.send(*texts("q", 1, 2, 3), channel=3)


# -- single active consumer ----------------------------------------------------------------------------------


def single(p, **more):
    return set_up(p, x_single_active_consumer=True, **more)


@AREA.scenario
def single_active_the_first_gets_all(p):
    a = single(p)
    b = p.connect()
    a.send(m.BasicConsume("q", "t1"))
    b.send(m.BasicConsume("q", "t2"))
    a.send(*texts("q", 1, 2, 3))


@AREA.scenario
def single_active_the_next_takes_over(p):
    a = single(p)
    b, c = p.connect(), p.connect()
    b.send(m.BasicConsume("q", "t1"))
    c.send(m.BasicConsume("q", "t2"))
    a.send(*texts("q", 1, 2))
    b.send(m.BasicCancel("t1"))
    a.send(publish("q", "3"))
    b.hang_up()
    p.wait(200)


@AREA.scenario
def single_active_is_cancelled_while_messages_are_ready(p):
    a = single(p)
    b = p.connect()
    a.send(m.BasicQos(0, 1), m.BasicConsume("q", "t1"))
    b.send(m.BasicConsume("q", "t2"))
    a.send(*texts("q", 1, 2, 3))
    a.send(m.BasicCancel("t1"))
    a.send(publish("q", "4"))
    a.send(m.BasicNack(1, False, True))


@AREA.scenario
def single_active_priority_takes_no_over(p):
    a = single(p)
    b = p.connect()
    a.send(m.BasicConsume("q", "low"))
    b.send(m.BasicConsume("q", "high", arguments={"x-priority": 10}))
    a.send(publish("q", "1"))
    a.send(m.BasicCancel("low"))
    a.send(publish("q", "2"))


@AREA.scenario
def single_active_successor_by_priority(p):
    a = single(p)
    b = p.connect(channels=3)
    b.send(m.BasicConsume("q", "first"))
    b.send(m.BasicConsume("q", "second"), channel=2)
    b.send(m.BasicConsume("q", "third", arguments={"x-priority": 1}), channel=3)
    b.send(m.BasicCancel("first"))
    a.send(publish("q", "1"))


@AREA.scenario
def single_active_waits_for_its_prefetch(p):
    a = single(p)
    b = p.connect()
    a.send(m.BasicQos(0, 1), m.BasicConsume("q", "t1"))
    b.send(m.BasicConsume("q", "t2"))
    a.send(*texts("q", 1, 2))
    a.send(m.BasicAck(1))


@AREA.scenario
def single_active_on_a_queue_with_messages(p):
    a = single(p, count=3)
    b = p.connect()
    a.send(m.BasicConsume("q", "t1"))
    b.send(m.BasicConsume("q", "t2"))
    a.send(m.ChannelClose(200))


@AREA.scenario
def single_active_reject_comes_back_to_it(p):
    a = single(p, count=1)
    b = p.connect()
    a.send(m.BasicConsume("q", "t1"))
    b.send(m.BasicConsume("q", "t2"))
    a.send(m.BasicReject(1))


@AREA.scenario
def bound_queue_delivers_what_the_exchange_got(p):
    a = set_up(p)
    a.send(exchange(kind="fanout"), bind())
    a.send(m.BasicConsume("q", "t", no_ack=True))
    a.send(publish("any", "1", exchange="x", headers={"h": 1}, content_type="text/plain"))
    a.send(*gets("q"))
