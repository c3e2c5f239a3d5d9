"""Dead letters: every reason, what is written into x-death, keys, cycles, several hops."""

from conformance.differential.play import Area
from conformance.differential.words import bind, exchange, gets, publish, queue, texts
from leveret.protocol.amqp import methods as m

AREA = Area("dead_lettering")

DEAD = {"x_dead_letter_exchange": "", "x_dead_letter_routing_key": "dead"}


def ready(p, **arguments):
    """A queue whose dead letters go to "dead"."""
    a = p.connect()
    a.send(queue("dead"), queue(**{**DEAD, **arguments}))
    return a


@AREA.cases(
    {
        "reject": m.BasicReject(1, False),
        "nack": m.BasicNack(1, False, False),
        "nack multiple": m.BasicNack(1, True, False),
    }
)
def rejected(p, method):
    a = ready(p)
    a.send(publish("q", "1", content_type="text/plain", headers={"h": 1}))
    a.send(m.BasicGet("q"))
    a.send(method)
    a.send(*gets("dead"))


@AREA.scenario
def expired(p):
    a = ready(p)
    a.send(publish("q", "1", expiration="100", headers={"h": 1}))
    p.wait(400)
    a.send(*gets("dead"))


@AREA.scenario
def over_the_length(p):
    a = ready(p, x_max_length=1)
    a.send(*texts("q", 1, 2, 3))
    a.send(*gets("dead", count=2))
    a.send(*gets("q"))


@AREA.scenario
def reject_publish_dlx(p):
    a = ready(p, x_max_length=1, x_overflow="reject-publish-dlx")
    a.send(*texts("q", 1, 2))
    a.send(*gets("dead"))


@AREA.scenario
def beyond_the_delivery_limit(p):
    a = p.connect()
    a.send(queue("dead"))
    a.send(queue(durable=True, x_queue_type="quorum", x_delivery_limit=1, **DEAD))
    a.send(publish("q", "1"))
    a.send(m.BasicGet("q"))
    a.send(m.BasicReject(1))
    a.send(m.BasicGet("q"))
    a.send(m.BasicReject(2))
    p.wait(300)
    a.send(m.BasicGet("q"), *gets("dead"))


@AREA.scenario
def not_when_purged_or_deleted(p):
    a = ready(p)
    a.send(*texts("q", 1, 2))
    a.send(m.QueuePurge("q"))
    a.send(*texts("q", 3))
    a.send(m.QueueDelete("q"))
    a.send(queue("dead", passive=True))


@AREA.scenario
def the_old_key_is_kept_without_a_new_one(p):
    a = p.connect()
    a.send(exchange("dlx", "topic"), queue("dead"), bind("dead", "dlx", "#"))
    a.send(queue(x_dead_letter_exchange="dlx"), bind("q", "amq.direct", "some.key"))
    a.send(publish("some.key", "1", exchange="amq.direct"))
    a.send(m.BasicGet("q"))
    a.send(m.BasicReject(1, False))
    a.send(*gets("dead"))


@AREA.scenario
def cc_goes_along_without_a_new_key(p):
    a = p.connect()
    a.send(
        exchange("dlx", "direct"),
        queue("dead"),
        queue("cc"),
        bind("dead", "dlx", "q"),
        bind("cc", "dlx", "cc"),
    )
    a.send(queue(x_dead_letter_exchange="dlx"))
    a.send(publish("q", "1", headers={"CC": ["cc"], "BCC": ["hidden"]}))
    a.send(m.BasicGet("q"))
    a.send(m.BasicReject(1, False))
    a.send(*gets("dead", "cc"))


@AREA.scenario
def bcc_without_a_new_key(p):
    a = p.connect()
    a.send(queue("hidden"), queue(x_dead_letter_exchange=""))
    a.send(publish("q", "1", headers={"BCC": ["hidden"]}))
    a.send(*gets("hidden"))
    a.send(m.BasicGet("q"))
    a.send(m.BasicReject(2, False))
    a.send(*gets("hidden"))


@AREA.scenario
def bcc_over_several_hops(p):
    a = p.connect()
    a.send(exchange("dlx", "topic"), queue("hidden"), bind("hidden", "dlx", "hidden"))
    a.send(queue("q2", x_dead_letter_exchange=""), bind("q2", "dlx", "q"))
    a.send(queue(x_dead_letter_exchange="dlx"))
    a.send(publish("q", "1", headers={"BCC": ["hidden"], "h": 1}))
    a.send(m.BasicGet("q"))
    a.send(m.BasicReject(1, False))
    a.send(*gets("hidden"))
    a.send(m.BasicGet("q2"))
    a.send(m.BasicReject(3, False))
    a.send(*gets("hidden", "q"))


@AREA.scenario
def bcc_is_dropped_with_a_new_key(p):
    a = ready(p)
    a.send(queue("q2", x_dead_letter_exchange=""), bind("q2", "amq.direct", "dead"))
    a.send(
        queue("hidden"), queue("q1", x_dead_letter_exchange="amq.direct", x_dead_letter_routing_key="dead")
    )
    a.send(publish("q1", "1", headers={"BCC": ["hidden"]}))
    a.send(*gets("hidden"))
    a.send(m.BasicGet("q1"))
    a.send(m.BasicReject(2, False))
    a.send(m.BasicGet("q2"))
    a.send(m.BasicReject(3, False))
    a.send(*gets("hidden", "dead"))


@AREA.scenario
def cc_is_dropped_with_a_new_key(p):
    a = ready(p)
    a.send(queue("cc"))
    a.send(publish("q", "1", headers={"CC": ["other"]}))
    a.send(m.BasicGet("q"))
    a.send(m.BasicReject(1, False))
    a.send(*gets("dead"))


@AREA.scenario
def several_hops(p):
    a = p.connect()
    a.send(queue("q3"))
    a.send(queue("q2", x_dead_letter_exchange="", x_dead_letter_routing_key="q3"))
    a.send(queue("q1", x_dead_letter_exchange="", x_dead_letter_routing_key="q2"))
    a.send(publish("q1", "1"))
    a.send(m.BasicGet("q1"))
    a.send(m.BasicReject(1, False))
    a.send(m.BasicGet("q2"))
    a.send(m.BasicReject(2, False))
    a.send(*gets("q3"))


@AREA.scenario
def the_same_queue_twice_is_counted(p):
    a = p.connect()
    a.send(queue("q1", x_dead_letter_exchange="", x_dead_letter_routing_key="q2"))
    a.send(queue("q2", x_dead_letter_exchange="", x_dead_letter_routing_key="q1"))
    a.send(publish("q1", "1"))
    for tag, name in enumerate(("q1", "q2", "q1", "q2"), start=1):
        a.send(m.BasicGet(name))
        a.send(m.BasicReject(tag, False))
    a.send(*gets("q1"))


@AREA.scenario
def two_reasons_at_one_queue(p):
    a = p.connect()
    a.send(queue("q1", x_dead_letter_exchange="", x_dead_letter_routing_key="q2"))
    a.send(queue("q2", x_dead_letter_exchange="", x_dead_letter_routing_key="q1"))
    a.send(publish("q1", "1", expiration="100"))
    p.wait(400)
    a.send(m.BasicGet("q2"))
    a.send(m.BasicReject(1, False))
    a.send(m.BasicGet("q1"))
    a.send(m.BasicReject(2, False))
    a.send(*gets("q2"))


@AREA.scenario
def a_cycle_without_rejection_is_cut(p):
    a = p.connect()
    a.send(queue("q1", x_message_ttl=50, x_dead_letter_exchange="", x_dead_letter_routing_key="q2"))
    a.send(queue("q2", x_message_ttl=50, x_dead_letter_exchange="", x_dead_letter_routing_key="q1"))
    a.send(publish("q1", "1"))
    p.wait(600)
    a.send(queue("q1", passive=True), queue("q2", passive=True))


@AREA.scenario
def to_itself_by_expiry_is_cut(p):
    a = p.connect()
    a.send(queue("q", x_message_ttl=50, x_dead_letter_exchange="", x_dead_letter_routing_key="q"))
    a.send(publish("q", "1"))
    p.wait(400)
    a.send(queue(passive=True))


@AREA.scenario
def to_itself_by_rejection_goes_on(p):
    a = p.connect()
    a.send(queue("q", x_dead_letter_exchange="", x_dead_letter_routing_key="q"))
    a.send(publish("q", "1"))
    a.send(m.BasicGet("q"))
    a.send(m.BasicReject(1, False))
    a.send(m.BasicGet("q"))
    a.send(m.BasicReject(2, False))
    a.send(*gets("q"))


@AREA.scenario
def to_several_queues(p):
    a = p.connect()
    a.send(exchange("dlx", "fanout"), queue("d1"), queue("d2"), bind("d1", "dlx"), bind("d2", "dlx"))
    a.send(queue(x_dead_letter_exchange="dlx"), publish("q", "1"))
    a.send(m.BasicGet("q"))
    a.send(m.BasicReject(1, False))
    a.send(*gets("d1", "d2"))


@AREA.scenario
def in_the_order_of_the_queue(p):
    a = ready(p)
    a.send(*texts("q", 1, 2, 3, 4))
    a.send(*[m.BasicGet("q")] * 4)
    a.send(m.BasicNack(4, True, False))
    a.send(*gets("dead", count=4))


@AREA.scenario
def mandatory_does_not_hold_for_dead_letters(p):
    a = p.connect()
    a.send(queue(x_dead_letter_exchange="", x_dead_letter_routing_key="nope"))
    a.send(publish("q", "1", mandatory=True))
    a.send(m.BasicGet("q"))
    a.send(m.BasicReject(1, False))


@AREA.scenario
def through_an_alternate_exchange(p):
    a = p.connect()
    a.send(
        exchange("ae", "fanout"),
        exchange("dlx", "direct", alternate_exchange="ae"),
        queue("dead"),
        bind("dead", "ae"),
    )
    a.send(queue(x_dead_letter_exchange="dlx"), publish("q", "1"))
    a.send(m.BasicGet("q"))
    a.send(m.BasicReject(1, False))
    a.send(*gets("dead"))


@AREA.scenario
def the_clients_own_x_death_is_replaced_or_kept(p):
    a = ready(p)
    a.send(publish("q", "1", headers={"x-death": "mine", "x-first-death-queue": "mine"}))
    a.send(m.BasicGet("q"))
    a.send(m.BasicReject(1, False))
    a.send(*gets("dead"))


MANY = 1 << 40  # a count of 64 bits, as RabbitMQ's own; a smaller one would be sent in 32
OWN, OTHER = {"queue": "q", "reason": "rejected"}, {"queue": "x", "reason": "expired"}


@AREA.cases(
    {
        "another without a count": [OTHER],
        "another with text for a count": [{**OTHER, "count": "three"}],
        "another with other fields": [{**OTHER, "count": MANY, "a": "b", "time": "t", "routing-keys": 5}],
        "another without a queue": [{"reason": "rejected", "count": MANY}],
        "another with a number for a queue": [{"queue": 5, "reason": "rejected", "count": MANY}],
        "an empty one": [{}],
        "its own without a count": [OWN],
        "its own with a negative count": [{**OWN, "count": -5}],
        "its own with other fields": [{**OWN, "count": 2, "a": "b", "exchange": 5}],
        "its own twice": [{**OWN, "count": 2}, {**OWN, "count": 3}],
        "its own three times without a count": [OWN, OWN, OWN],
        "another twice": [{**OTHER, "count": MANY}, {**OTHER, "count": MANY + 1}],
        "another twice without a count": [OTHER, OTHER],
        "its own behind another": [OTHER, {**OWN, "count": 1}],
        "its own before another": [OWN, OTHER],
        "its own between others": [{**OTHER, "queue": "y"}, OWN, {**OTHER, "count": MANY + 1}],
        "its own before another with text for a count": [OWN, {**OTHER, "count": "three"}],
    }
)
def deaths_that_a_client_wrote(p, deaths):
    a = ready(p)
    a.send(publish("q", "1", headers={"x-death": deaths}))
    a.send(m.BasicGet("q"))
    a.send(m.BasicReject(1, False))
    a.send(*gets("dead"))


@AREA.scenario
def all_properties_go_along(p):
    a = ready(p)
    a.send(
        publish(
            "q",
            "1",
            content_type="a/b",
            correlation_id="c",
            reply_to="r",
            message_id="m",
            type="t",
            timestamp=5,
            app_id="a",
            priority=3,
            delivery_mode=2,
            user_id="guest",
        )
    )
    a.send(m.BasicGet("q"))
    a.send(m.BasicReject(1, False))
    a.send(*gets("dead"))


@AREA.needing(
    policies={"dlx": ("^q$", {"dead-letter-exchange": "", "dead-letter-routing-key": "dead"}, "queues")}
)
def by_policy(p):
    a = p.connect()
    a.send(queue("dead"), queue(), publish("q", "1"))
    a.send(m.BasicGet("q"))
    a.send(m.BasicReject(1, False))
    a.send(*gets("dead"))


@AREA.needing(
    policies={"dlx": ("^q$", {"dead-letter-exchange": "", "dead-letter-routing-key": "other"}, "queues")}
)
def argument_before_policy(p):
    a = ready(p)
    a.send(publish("q", "1"))
    a.send(m.BasicGet("q"))
    a.send(m.BasicReject(1, False))
    a.send(*gets("dead"))
