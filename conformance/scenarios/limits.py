"""Length limits with each overflow, priorities, delivery counts of quorum queues."""

from conformance.differential.play import Area
from conformance.differential.words import gets, publish, queue, texts
from leveret.protocol.amqp import methods as m

AREA = Area("limits")


def ready(p, **arguments):
    a = p.connect()
    a.send(queue(**arguments))
    return a


@AREA.scenario
def drop_head_drops_the_oldest(p):
    a = ready(p, x_max_length=2)
    a.send(*texts("q", 1, 2, 3, 4))
    a.send(*gets("q", count=3))


@AREA.scenario
def drop_head_confirms_all(p):
    a = ready(p, x_max_length=1)
    a.send(m.ConfirmSelect())
    a.send(*texts("q", 1, 2, 3))


@AREA.scenario
def bytes_count_bodies_only(p):
    a = ready(p, x_max_length_bytes=10)
    a.send(publish("q", "12345", headers={"h": "x" * 100}), publish("q", "67890"), publish("q", "a"))
    a.send(*gets("q", count=3))


@AREA.scenario
def one_that_is_too_large_alone(p):
    a = ready(p, x_max_length_bytes=10)
    a.send(publish("q", "12345"))
    a.send(publish("q", "x" * 11))
    a.send(queue(passive=True))


@AREA.scenario
def both_limits(p):
    a = ready(p, x_max_length=3, x_max_length_bytes=6)
    a.send(*texts("q", "aaa", "bbb", "c", "d"))
    a.send(*gets("q", count=4))


@AREA.scenario
def unacked_do_not_count(p):
    a = ready(p, x_max_length=2)
    a.send(*texts("q", 1, 2))
    a.send(m.BasicGet("q"), m.BasicGet("q"))
    a.send(*texts("q", 3, 4))
    a.send(m.BasicNack(2, multiple=True))
    a.send(*gets("q", count=4))


@AREA.scenario
def a_length_of_zero_with_a_consumer(p):
    a = ready(p, x_max_length=0)
    a.send(m.BasicConsume("q", "t", no_ack=True))
    a.send(publish("q", "1"))


@AREA.scenario
def a_length_of_zero_without(p):
    a = ready(p, x_max_length=0)
    a.send(publish("q", "1"))
    a.send(queue(passive=True))


@AREA.scenario
def reject_publish_refuses(p):
    a = ready(p, x_max_length=2, x_overflow="reject-publish")
    a.send(m.ConfirmSelect())
    for number in range(4):
        a.send(publish("q", str(number)))
    a.send(*gets("q", count=3))
    a.send(publish("q", "again"))


@AREA.scenario
def reject_publish_without_confirms_is_silent(p):
    a = ready(p, x_max_length=1, x_overflow="reject-publish")
    a.send(*texts("q", 1))
    a.send(*texts("q", 2))
    a.send(*gets("q", count=2))


@AREA.scenario
def reject_publish_by_bytes(p):
    a = ready(p, x_max_length_bytes=5, x_overflow="reject-publish")
    a.send(m.ConfirmSelect())
    a.send(publish("q", "123"))
    a.send(publish("q", "456"))
    a.send(publish("q", "789"))


@AREA.scenario
def one_of_two_queues_refuses(p):
    a = ready(p, x_max_length=1, x_overflow="reject-publish")
    a.send(queue("q2"), m.QueueBind("q", "amq.fanout"), m.QueueBind("q2", "amq.fanout"), m.ConfirmSelect())
    a.send(publish("", "1", exchange="amq.fanout"))
    a.send(publish("", "2", exchange="amq.fanout"))
    a.send(queue("q2", passive=True))


@AREA.scenario
def reject_publish_with_a_consumer_that_takes(p):
    a = ready(p, x_max_length=1, x_overflow="reject-publish")
    a.send(m.ConfirmSelect(), m.BasicConsume("q", "t"))
    a.send(publish("q", "1"))
    a.send(publish("q", "2"))


@AREA.needing(policies={"short": ("^q$", {"max-length": 1, "overflow": "reject-publish"}, "queues")})
def by_policy(p):
    a = ready(p)
    a.send(m.ConfirmSelect())
    a.send(publish("q", "1"))
    a.send(publish("q", "2"))


@AREA.needing(policies={"short": ("^q$", {"max-length": 1}, "queues")})
def the_smaller_of_policy_and_argument(p):
    a = ready(p, x_max_length=3)
    a.send(*texts("q", 1, 2, 3))
    a.send(queue(passive=True))


# -- priorities ----------------------------------------------------------------------------------------------


@AREA.scenario
def higher_priorities_first(p):
    a = ready(p, x_max_priority=5)
    for number, priority in enumerate((1, 5, 3, 5, 0, 4)):
        a.send(publish("q", f"{number} of {priority}", priority=priority))
    a.send(*gets("q", count=6))


@AREA.scenario
def above_the_highest_is_the_highest(p):
    a = ready(p, x_max_priority=3)
    a.send(publish("q", "three", priority=3), publish("q", "nine", priority=9), publish("q", "none"))
    a.send(*gets("q", count=3))


@AREA.scenario
def no_priority_is_the_lowest(p):
    a = ready(p, x_max_priority=3)
    a.send(publish("q", "none"), publish("q", "zero", priority=0), publish("q", "one", priority=1))
    a.send(*gets("q", count=3))


@AREA.scenario
def without_a_maximum_priorities_mean_nothing(p):
    a = ready(p)
    a.send(publish("q", "low", priority=1), publish("q", "high", priority=9))
    a.send(*gets("q", count=2))


@AREA.scenario
def a_requeued_one_comes_back_by_priority(p):
    a = ready(p, x_max_priority=5)
    a.send(publish("q", "low", priority=1), publish("q", "high", priority=5))
    a.send(m.BasicGet("q"), m.BasicGet("q"))
    a.send(m.BasicNack(2, multiple=True))
    a.send(*gets("q", count=2))


@AREA.scenario
def the_limit_drops_the_lowest_priority(p):
    a = ready(p, x_max_priority=5, x_max_length=2)
    a.send(
        publish("q", "high", priority=5), publish("q", "low", priority=1), publish("q", "middle", priority=3)
    )
    a.send(*gets("q", count=3))


@AREA.scenario
def what_is_delivered_already_is_not_overtaken(p):
    a = ready(p, x_max_priority=5)
    a.send(m.BasicQos(0, 2), m.BasicConsume("q", "t"))
    a.send(publish("q", "1", priority=1), publish("q", "2", priority=1))
    a.send(publish("q", "3", priority=1))
    a.send(publish("q", "4", priority=5))
    a.send(m.BasicAck(1))
    a.send(m.BasicAck(2))


# -- quorum queues -------------------------------------------------------------------------------------------


def quorum(p, **arguments):
    return ready(p, **{"durable": True, "x_queue_type": "quorum", **arguments})


@AREA.scenario
def deliveries_are_counted_in_a_header(p):
    a = quorum(p)
    a.send(publish("q", "1", headers={"h": 1}), publish("q", "2"))
    a.send(m.BasicGet("q"))
    a.send(m.BasicReject(1))
    p.wait(200)
    a.send(m.BasicGet("q"))
    a.send(m.BasicAck(2))
    a.send(m.BasicGet("q"))


@AREA.scenario
def over_the_limit_is_dropped(p):
    a = quorum(p, x_delivery_limit=2)
    a.send(publish("q", "1"))
    for tag in (1, 2, 3):
        a.send(m.BasicGet("q"))
        a.send(m.BasicReject(tag))
        p.wait(200)
    a.send(m.BasicGet("q"))


@AREA.scenario
def quorum_length_drops_the_head(p):
    a = quorum(p, x_max_length=2)
    for number in range(4):
        a.send(publish("q", str(number)))
    p.wait(200)
    a.send(*gets("q", count=3))


@AREA.scenario
def quorum_consumers(p):
    a = quorum(p)
    a.send(m.BasicQos(0, 2), m.BasicConsume("q", "t"))
    a.send(*texts("q", 1, 2, 3))
    p.wait(200)
    a.send(m.BasicAck(1))
    a.send(m.BasicNack(2, False, False))
