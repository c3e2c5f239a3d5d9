"""Time to live: of messages, of queues' messages, both, and what the head of a queue has to do with it."""

from conformance.differential.play import Area
from conformance.differential.words import gets, publish, queue, texts
from leveret.protocol.amqp import methods as m

AREA = Area("expiring")

DEAD = {"x_dead_letter_exchange": "", "x_dead_letter_routing_key": "dead"}


def ready(p, **arguments):
    a = p.connect()
    a.send(queue("dead"), queue(**arguments))
    return a


@AREA.scenario
def the_queues_ttl(p):
    a = ready(p, x_message_ttl=1500)
    a.send(*texts("q", 1, 2))
    a.send(queue(passive=True))
    p.wait(2000)
    a.send(queue(passive=True))


@AREA.scenario
def the_messages_own(p):
    a = ready(p)
    a.send(publish("q", "1", expiration="200"))
    p.wait(500)
    a.send(m.BasicGet("q"))


@AREA.cases({"own is shorter": (5000, "200"), "own is longer": (200, "5000")})
def the_shorter_one_counts(p, times):
    ttl, own = times
    a = ready(p, x_message_ttl=ttl)
    a.send(publish("q", "1", expiration=own))
    p.wait(500)
    a.send(m.BasicGet("q"))


@AREA.scenario
def dead_letters_of_expired(p):
    a = ready(p, x_message_ttl=200, **DEAD)
    a.send(*texts("q", 1, 2))
    p.wait(500)
    a.send(*gets("dead", count=3))


@AREA.scenario
def own_expiration_is_taken_off_the_dead_letter(p):
    a = ready(p, **DEAD)
    a.send(publish("q", "1", expiration="200", content_type="text/plain"))
    p.wait(500)
    a.send(*gets("dead"))


@AREA.scenario
def none_waits_for_a_consumer_that_is_there(p):
    a = ready(p, x_message_ttl=0)
    a.send(m.BasicConsume("q", "t"))
    a.send(publish("q", "1"))


@AREA.scenario
def a_ttl_of_zero_without_a_consumer(p):
    a = ready(p, x_message_ttl=0, **DEAD)
    a.send(publish("q", "1"))
    a.send(queue(passive=True))
    a.send(*gets("dead"))


@AREA.scenario
def an_expiration_of_zero_is_taken_by_who_waits(p):
    a = ready(p)
    a.send(m.BasicConsume("q", "t", no_ack=True))
    a.send(publish("q", "1", expiration="0"))


@AREA.scenario
def what_is_unacked_does_not_expire(p):
    a = ready(p, x_message_ttl=1500)
    a.send(*texts("q", 1))
    a.send(m.BasicGet("q"))
    p.wait(2000)
    a.send(m.BasicAck(1))
    a.send(queue(passive=True))


@AREA.scenario
def what_is_requeued_late_expires(p):
    a = ready(p, x_message_ttl=1500, **DEAD)
    a.send(*texts("q", 1))
    a.send(m.BasicGet("q"))
    p.wait(2000)
    a.send(m.BasicReject(1))
    a.send(queue(passive=True))
    a.send(*gets("dead"))


@AREA.scenario
def a_longer_one_at_the_head(p):
    """RabbitMQ looks at the head of a queue only."""
    a = ready(p, **DEAD)
    a.send(publish("q", "long", expiration="60000"), publish("q", "short", expiration="200"))
    p.wait(500)
    a.send(queue(passive=True))
    a.send(*gets("q", count=2))
    a.send(*gets("dead"))


@AREA.scenario
def to_a_full_consumer(p):
    a = ready(p, x_message_ttl=1500)
    a.send(m.BasicQos(0, 1), m.BasicConsume("q", "t"))
    a.send(*texts("q", 1, 2))
    p.wait(2000)
    a.send(m.BasicAck(1))
    a.send(queue(passive=True))


@AREA.scenario
def in_a_priority_queue(p):
    a = ready(p, x_max_priority=5, x_message_ttl=200, **DEAD)
    a.send(publish("q", "low", priority=1), publish("q", "high", priority=5))
    p.wait(500)
    a.send(*gets("dead", count=2))


@AREA.needing(policies={"ttl": ("^q$", {"message-ttl": 200}, "queues")})
def by_policy(p):
    a = ready(p)
    a.send(*texts("q", 1))
    p.wait(500)
    a.send(queue(passive=True))


@AREA.needing(policies={"ttl": ("^q$", {"message-ttl": 200}, "queues")})
def policy_and_argument(p):
    a = ready(p, x_message_ttl=60000)
    a.send(*texts("q", 1))
    p.wait(500)
    a.send(queue(passive=True))
