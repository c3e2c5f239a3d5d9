"""Policies that are set, changed and cleared while there are messages: what becomes of old and new ones."""

from conformance.differential.play import Area
from conformance.differential.words import bind, gets, publish, queue, texts
from leveret.protocol.amqp import methods as m

AREA = Area("changing_policies")
PATTERN = "^q$"
KINDS = {"classic": {}, "quorum": {"durable": True, "x_queue_type": "quorum"}}


def ready(p, bodies=(1, 2, 3, 4), **options):
    """A queue with messages, and one for dead letters."""
    a = p.connect()
    a.send(queue("dead"), bind("dead", "amq.fanout"), queue(**options))
    if bodies:
        a.send(*texts("q", *bodies))
    p.wait(200)
    return a


def count(a):
    """How many messages there are."""
    a.send(queue(passive=True))


# -- length --------------------------------------------------------------------------------------------------


@AREA.cases(KINDS)
def a_length_for_messages_that_are_there(p, kind):
    a = ready(p, **kind)
    p.set_policy("p", PATTERN, {"max-length": 2})
    a.send(*texts("q", 5))
    p.wait(200)
    a.send(*gets("q", count=4))


@AREA.cases(KINDS)
def a_length_in_bytes_for_messages_that_are_there(p, kind):
    a = ready(p, ("aaaa", "bbbb", "cccc"), **kind)
    p.set_policy("p", PATTERN, {"max-length-bytes": 9})
    a.send(*texts("q", "d"))
    p.wait(200)
    a.send(*gets("q", count=4))


@AREA.scenario
def a_length_and_no_new_message(p):
    a = ready(p)
    p.set_policy("p", PATTERN, {"max-length": 2})
    p.wait(300)
    count(a)


@AREA.scenario
def a_length_that_grows(p):
    a = ready(p, ())
    p.set_policy("p", PATTERN, {"max-length": 1})
    a.send(*texts("q", 1, 2))
    p.set_policy("p", PATTERN, {"max-length": 3})
    a.send(*texts("q", 3, 4, 5))
    a.send(*gets("q", count=4))


@AREA.scenario
def a_length_that_is_cleared(p):
    a = ready(p, ())
    p.set_policy("p", PATTERN, {"max-length": 1})
    a.send(*texts("q", 1, 2))
    p.clear_policy("p")
    a.send(*texts("q", 3, 4))
    a.send(*gets("q", count=4))


@AREA.scenario
def what_is_unacknowledged_does_not_count(p):
    a = ready(p)
    a.send(m.BasicGet("q"), m.BasicGet("q"))
    p.set_policy("p", PATTERN, {"max-length": 1})
    a.send(*texts("q", 5))
    count(a)
    a.send(m.BasicNack(2, True))
    p.wait(200)
    a.send(*gets("q", count=4))


@AREA.scenario
def what_is_dropped_becomes_a_dead_letter(p):
    a = ready(p)
    p.set_policy("p", PATTERN, {"max-length": 2, "dead-letter-exchange": "amq.fanout"})
    a.send(*texts("q", 5))
    p.wait(200)
    a.send(*gets("dead", count=4))


@AREA.scenario
def an_overflow_that_changes(p):
    a = ready(p, (1, 2))
    a.send(m.ConfirmSelect())
    p.set_policy("p", PATTERN, {"max-length": 2, "overflow": "reject-publish"})
    a.send(publish("q", "3"))
    p.set_policy("p", PATTERN, {"max-length": 2, "overflow": "drop-head"})
    a.send(publish("q", "4"))
    p.clear_policy("p")
    a.send(publish("q", "5"))
    a.send(*gets("q", count=4))


@AREA.scenario
def an_argument_that_is_smaller_stays(p):
    a = ready(p, (), x_max_length=2)
    p.set_policy("p", PATTERN, {"max-length": 3})
    a.send(*texts("q", 1, 2, 3, 4))
    a.send(*gets("q", count=3))
    p.set_policy("p", PATTERN, {"max-length": 1})
    a.send(*texts("q", 5, 6, 7))
    a.send(*gets("q", count=3))


# -- time ----------------------------------------------------------------------------------------------------


@AREA.scenario
def a_ttl_for_messages_that_are_there(p):
    a = ready(p)
    p.set_policy("p", PATTERN, {"message-ttl": 300})
    p.wait(700)
    count(a)


@AREA.scenario
def a_ttl_and_a_new_message_behind(p):
    a = ready(p, (1,))
    p.set_policy("p", PATTERN, {"message-ttl": 600})
    a.send(*texts("q", 2))
    p.wait(1500)
    count(a)


@AREA.scenario
def a_ttl_that_grows(p):
    a = ready(p, ())
    p.set_policy("p", PATTERN, {"message-ttl": 1500})
    a.send(*texts("q", 1))
    p.set_policy("p", PATTERN, {"message-ttl": 60_000})
    a.send(*texts("q", 2))
    p.wait(2000)
    a.send(*gets("q", count=2))


@AREA.scenario
def a_ttl_that_shrinks(p):
    a = ready(p, ())
    p.set_policy("p", PATTERN, {"message-ttl": 60_000})
    a.send(*texts("q", 1))
    p.set_policy("p", PATTERN, {"message-ttl": 300})
    a.send(*texts("q", 2))
    p.wait(1000)
    count(a)
    a.send(*gets("q", count=2))


@AREA.scenario
def a_ttl_that_is_cleared(p):
    a = ready(p, ())
    p.set_policy("p", PATTERN, {"message-ttl": 1500})
    a.send(*texts("q", 1))
    p.clear_policy("p")
    p.wait(2000)
    count(a)


@AREA.scenario
def expired_messages_become_dead_letters(p):
    a = ready(p, (1, 2))
    p.set_policy("p", PATTERN, {"message-ttl": 300, "dead-letter-exchange": "amq.fanout"})
    p.wait(1000)
    a.send(*gets("dead", count=2))


@AREA.scenario
def expiry_of_a_queue_that_was_used(p):
    a = ready(p)
    p.set_policy("p", PATTERN, {"expires": 300})
    p.wait(1000)
    count(a)


@AREA.scenario
def expiry_that_is_cleared_in_time(p):
    a = ready(p)
    p.set_policy("p", PATTERN, {"expires": 2000})
    p.clear_policy("p")
    p.wait(2500)
    count(a)


@AREA.scenario
def expiry_with_a_consumer(p):
    a = ready(p, ())
    a.send(m.BasicConsume("q", "t"))
    p.set_policy("p", PATTERN, {"expires": 300})
    p.wait(800)
    a.send(publish("q", "1"))
    a.send(m.BasicCancel("t"))
    p.wait(800)
    count(a)


# -- dead letters --------------------------------------------------------------------------------------------


@AREA.cases(KINDS)
def a_dead_letter_exchange_for_messages_that_are_there(p, kind):
    a = ready(p, (1, 2), **kind)
    a.send(m.BasicGet("q"))
    p.set_policy("p", PATTERN, {"dead-letter-exchange": "amq.fanout", "dead-letter-routing-key": "k"})
    a.send(m.BasicReject(1, False))
    a.send(m.BasicGet("q"))
    a.send(m.BasicReject(2, False))
    p.wait(200)
    a.send(*gets("dead", count=2))


@AREA.scenario
def a_dead_letter_exchange_that_is_cleared(p):
    a = ready(p, ())
    p.set_policy("p", PATTERN, {"dead-letter-exchange": "amq.fanout"})
    a.send(*texts("q", 1))
    a.send(m.BasicGet("q"))
    p.clear_policy("p")
    a.send(m.BasicReject(1, False))
    p.wait(200)
    a.send(*gets("dead"))


@AREA.scenario
def an_argument_wins(p):
    a = ready(p, (1,), x_dead_letter_exchange="", x_dead_letter_routing_key="other")
    a.send(queue("other"))
    p.set_policy("p", PATTERN, {"dead-letter-exchange": "amq.fanout", "dead-letter-routing-key": "k"})
    a.send(m.BasicGet("q"))
    a.send(m.BasicReject(1, False))
    p.wait(200)
    a.send(*gets("dead", "other"))


# -- which policy --------------------------------------------------------------------------------------------


@AREA.scenario
def one_of_higher_priority_takes_its_place(p):
    a = ready(p, ())
    p.set_policy("low", PATTERN, {"max-length": 1}, 1)
    p.set_policy("high", PATTERN, {"message-ttl": 60_000}, 2)
    a.send(*texts("q", 1, 2, 3))
    count(a)
    p.clear_policy("high")
    a.send(*texts("q", 4))
    a.send(*gets("q", count=2))


@AREA.scenario
def a_pattern_that_no_longer_matches(p):
    a = ready(p, ())
    p.set_policy("p", PATTERN, {"max-length": 1})
    a.send(*texts("q", 1, 2))
    p.set_policy("p", "^other$", {"max-length": 1})
    a.send(*texts("q", 3, 4))
    a.send(*gets("q", count=4))


@AREA.scenario
def a_delivery_limit_that_is_set(p):
    a = ready(p, (1,), durable=True, x_queue_type="quorum")
    a.send(m.BasicGet("q"))
    a.send(m.BasicReject(1))
    p.wait(200)
    p.set_policy("p", PATTERN, {"delivery-limit": 2})
    for tag in (2, 3):
        a.send(m.BasicGet("q"))
        a.send(m.BasicReject(tag))
        p.wait(200)
    a.send(m.BasicGet("q"))


@AREA.scenario
def a_stream_that_is_limited(p):
    a = p.connect()
    a.send(queue(durable=True, x_queue_type="stream"), m.ConfirmSelect())
    for number in range(3):
        a.send(publish("q", str(number)))
    p.set_policy("p", PATTERN, {"max-age": "1s", "max-length-bytes": 100, "max-length": 1})
    p.wait(1500)
    a.send(publish("q", "3"))
    a.send(m.BasicQos(0, 10), m.BasicConsume("q", "t", arguments={"x-stream-offset": "first"}))
