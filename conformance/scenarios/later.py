"""What only later versions of RabbitMQ do, as their documentation and their sources say.

``conformance/golden/documented`` holds leveret's answers, checked line by line against what each scenario
names; no such RabbitMQ has been asked, and 3.10 is not.
"""

from conformance.differential.play import Area
from conformance.differential.words import gets, publish, queue
from leveret.protocol.amqp import methods as m

AREA = Area("later")


@AREA.scenario
def quorum_queues_have_a_delivery_limit_of_20(p):
    """Returned 20 times, a message is still delivered; once more, and it is a dead letter.

    https://www.rabbitmq.com/docs/quorum-queues#poison-message-handling: 20 by default since 4.0, and what
    comes back more often than the limit is dropped or dead-lettered. ``return_one`` of rabbit_fifo.erl in 4.0
    compares with ``>``, and ``add_delivery_count_header`` of rabbit_fifo_client.erl tells every return as
    x-delivery-count. Since 4.3 basic.nack is not counted any more, but basic.reject, as here, is
    (https://github.com/rabbitmq/rabbitmq-server/pull/15387).
    """
    a = p.connect()
    a.send(queue("dead"))
    dead = {"x_dead_letter_exchange": "", "x_dead_letter_routing_key": "dead"}
    a.send(queue(durable=True, x_queue_type="quorum", **dead))
    a.send(publish("q", "1"))
    for tag in range(1, 21):
        a.peer.send([m.BasicGet("q")], 1)
        p.settle(quiet=0)
        p.forget(a.peer, m.BasicGetOk)
        a.peer.send([m.BasicReject(tag)], 1)
    a.send(m.BasicGet("q"))
    a.send(m.BasicReject(21))
    a.send(m.BasicGet("q"))
    a.send(*gets("dead"))


@AREA.scenario
def the_last_death_is_told_in_headers(p):
    """https://www.rabbitmq.com/docs/dlx#effects: x-last-death-* since 3.13, set anew by each death, while
    x-first-death-* stay; the latest death is the first in x-death. The exchange is the one that the message
    was published to before it died, here the default one.
    """
    p.tell_later()
    a = p.connect()
    a.send(queue("q3"), queue("q2", x_dead_letter_exchange="", x_dead_letter_routing_key="q3"))
    a.send(queue("q1", x_dead_letter_exchange="", x_dead_letter_routing_key="q2"), publish("q1", "1"))
    a.send(m.BasicGet("q1"))
    a.send(m.BasicReject(1, False))
    a.send(m.BasicGet("q2"))
    a.send(m.BasicReject(2, False))
    a.send(*gets("q3"))


@AREA.scenario
def a_delivery_limit_of_minus_one_is_none(p):
    """https://www.rabbitmq.com/docs/quorum-queues#poison-message-handling: x-delivery-limit=-1 at the
    declaration restores what was before 4.0, no limit at all.
    """
    a = p.connect()
    a.send(queue(durable=True, x_queue_type="quorum", x_delivery_limit=-1))
    a.send(publish("q", "1"))
    for tag in range(1, 31):
        a.peer.send([m.BasicGet("q")], 1)
        p.settle(quiet=0)
        p.forget(a.peer, m.BasicGetOk)
        a.peer.send([m.BasicReject(tag)], 1)
    a.send(m.BasicGet("q"))
