"""Where messages go: default exchange, bindings, exchange to exchange, alternates, CC and BCC."""

from conformance.differential.play import Area
from conformance.differential.words import bind, e2e, exchange, gets, publish, queue, texts, unbind
from leveret.protocol.amqp import methods as m

AREA = Area("routing")


def bound(p, kind, *keys, **arguments):
    """An exchange of this type with the queues q0, q1, ... bound with the keys."""
    a = p.connect()
    a.send(exchange(kind=kind))
    for number, key in enumerate(keys):
        a.send(queue(f"q{number}"), bind(f"q{number}", key=key, **arguments))
    return a


def told(a, count):
    """How many messages each queue holds."""
    for number in range(count):
        a.send(queue(f"q{number}", passive=True))


# -- default exchange ----------------------------------------------------------------------------------------


@AREA.scenario
def the_default_exchange_routes_to_the_queue_of_that_name(p):
    a = p.connect()
    a.send(queue(), queue("q2"))
    a.send(publish("q", "1"), publish("q2", "2"), publish("nope", "3"))
    a.send(*gets("q", "q2"))


@AREA.cases(
    {
        "bind": bind("q", ""),
        "unbind": unbind("q", ""),
        "e2e": e2e("amq.direct", ""),
        "to it": e2e("", "amq.direct"),
    }
)
def the_default_exchange_cannot_be_bound(p, method):
    a = p.connect()
    a.send(queue())
    a.send(method)


@AREA.scenario
def a_message_tells_exchange_and_key(p):
    a = bound(p, "direct", "k")
    a.send(publish("k", "1", exchange="x"), publish("q0", "2"))
    a.send(*gets("q0", count=2))


# -- direct and fanout ---------------------------------------------------------------------------------------


@AREA.scenario
def direct_keys_are_compared_whole(p):
    a = bound(p, "direct", "a", "a.b", "", "*", "#")
    for key in ("a", "a.b", "", "*", "#", "A"):
        a.send(publish(key, key, exchange="x"))
    told(a, 5)


@AREA.scenario
def direct_to_several_queues(p):
    a = bound(p, "direct", "k", "k", "k", "other")
    a.send(publish("k", "1", exchange="x"))
    told(a, 4)


@AREA.scenario
def fanout_ignores_keys(p):
    a = bound(p, "fanout", "", "a", "b")
    a.send(publish("z", "1", exchange="x"))
    told(a, 3)


@AREA.scenario
def bound_twice_is_routed_once(p):
    a = bound(p, "direct", "k")
    a.send(bind("q0", key="k"), bind("q0", key="k", a=1))
    a.send(publish("k", "1", exchange="x"))
    told(a, 1)


@AREA.scenario
def unbinding_one_of_two(p):
    a = bound(p, "direct", "a")
    a.send(bind("q0", key="b"))
    a.send(unbind("q0", key="a"))
    a.send(publish("a", "1", exchange="x"), publish("b", "2", exchange="x"))
    told(a, 1)


@AREA.cases(
    {
        "key": unbind("q0", key="other"),
        "arguments": unbind("q0", key="k", a=1),
        "queue": unbind("nope", key="k"),
        "exchange": unbind("q0", "nope", "k"),
    }
)
def unbinding_what_is_not_bound(p, method):
    a = bound(p, "direct", "k")
    a.send(method)
    a.send(publish("k", "1", exchange="x"))
    told(a, 1)


@AREA.scenario
def unbinding_tells_bindings_by_their_arguments(p):
    a = bound(p, "direct", "k", a=1)
    a.send(bind("q0", key="k", a=2))
    a.send(unbind("q0", key="k", a=1))
    a.send(publish("k", "1", exchange="x"))
    a.send(unbind("q0", key="k", a=2))
    a.send(publish("k", "2", exchange="x"))
    told(a, 1)


@AREA.scenario
def deleting_a_queue_undoes_its_bindings(p):
    a = bound(p, "direct", "k")
    a.send(m.QueueDelete("q0"), queue("q0"))
    a.send(publish("k", "1", exchange="x"))
    told(a, 1)


@AREA.scenario
def deleting_an_exchange_undoes_its_bindings(p):
    a = bound(p, "direct", "k")
    a.send(m.ExchangeDelete("x"), exchange())
    a.send(publish("k", "1", exchange="x"))
    told(a, 1)


@AREA.scenario
def a_key_of_255_bytes(p):
    a = bound(p, "direct", "k" * 255, "k" * 254)
    a.send(publish("k" * 255, "1", exchange="x"))
    a.send(*gets("q0", "q1"))


@AREA.scenario
def keys_of_any_text(p):
    a = bound(p, "direct", "größe", "\n", " ")
    a.send(
        publish("größe", "1", exchange="x"), publish("\n", "2", exchange="x"), publish(" ", "3", exchange="x")
    )
    a.send(*gets("q0", "q1", "q2"))


# -- exchange to exchange ------------------------------------------------------------------------------------


@AREA.scenario
def through_a_chain(p):
    a = p.connect()
    a.send(exchange("a", "topic"), exchange("b", "fanout"), exchange("c", "direct"), queue())
    a.send(e2e("b", "a", "k.*"), e2e("c", "b"), bind("q", "c", "k.1"))
    a.send(publish("k.1", "1", exchange="a"), publish("k.2", "2", exchange="a"))
    a.send(*gets("q", count=2))


@AREA.scenario
def through_a_cycle(p):
    a = p.connect()
    a.send(exchange("a", "fanout"), exchange("b", "fanout"), queue())
    a.send(e2e("b", "a"), e2e("a", "b"), bind("q", "b"))
    a.send(publish("k", "1", exchange="a"))
    a.send(*gets("q", count=2))


@AREA.scenario
def bound_to_itself(p):
    a = p.connect()
    a.send(exchange("a", "fanout"), queue(), e2e("a", "a"), bind("q", "a"))
    a.send(publish("k", "1", exchange="a"))
    a.send(*gets("q", count=2))


@AREA.scenario
def two_ways_to_one_queue(p):
    a = p.connect()
    a.send(exchange("a", "fanout"), exchange("b", "fanout"), exchange("c", "fanout"), queue())
    a.send(e2e("b", "a"), e2e("c", "a"), bind("q", "b"), bind("q", "c"), bind("q", "a"))
    a.send(publish("k", "1", exchange="a"))
    a.send(*gets("q", count=2))


@AREA.scenario
def exchange_unbind(p):
    a = p.connect()
    a.send(exchange("a", "fanout"), exchange("b", "fanout"), queue(), e2e("b", "a"), bind("q", "b"))
    a.send(m.ExchangeUnbind("b", "a"))
    a.send(publish("k", "1", exchange="a"))
    a.send(queue(passive=True))


@AREA.scenario
def deleting_the_middle_of_a_chain(p):
    a = p.connect()
    a.send(exchange("a", "fanout"), exchange("b", "fanout"), queue(), e2e("b", "a"), bind("q", "b"))
    a.send(m.ExchangeDelete("b"))
    a.send(publish("k", "1", exchange="a"))
    a.send(exchange("b", "fanout"), bind("q", "b"))
    a.send(publish("k", "2", exchange="a"))
    a.send(queue(passive=True))


@AREA.scenario
def internal_exchanges_are_reached_through_others(p):
    a = p.connect()
    a.send(exchange("a", "fanout"), exchange("b", "fanout", internal=True), queue())
    a.send(e2e("b", "a"), bind("q", "b"))
    a.send(publish("k", "1", exchange="a"))
    a.send(*gets("q"))
    a.send(publish("k", "2", exchange="b"))


@AREA.cases({"source": e2e("a", "nope"), "destination": e2e("nope", "a"), "both": e2e("nope", "nopes")})
def binding_exchanges_that_are_not_there(p, method):
    a = p.connect()
    a.send(exchange("a", "fanout"))
    a.send(method)


# -- alternate exchanges -------------------------------------------------------------------------------------


@AREA.scenario
def alternate_takes_what_goes_nowhere(p):
    a = p.connect()
    a.send(exchange("ae", "fanout"), exchange("x", alternate_exchange="ae"), queue(), queue("rest"))
    a.send(bind(key="k"), bind("rest", "ae"))
    a.send(publish("k", "1", exchange="x"), publish("z", "2", exchange="x"))
    a.send(*gets("q", "rest", count=2))


@AREA.scenario
def alternate_counts_as_routed(p):
    a = p.connect()
    a.send(exchange("ae", "fanout"), exchange("x", alternate_exchange="ae"), queue(), bind("q", "ae"))
    a.send(publish("z", "1", exchange="x", mandatory=True))
    a.send(unbind("q", "ae"))
    a.send(publish("z", "2", exchange="x", mandatory=True))


@AREA.scenario
def alternate_that_is_not_there(p):
    a = p.connect()
    a.send(exchange("x", alternate_exchange="nope"))
    a.send(publish("z", "1", exchange="x", mandatory=True))


@AREA.scenario
def alternates_in_a_cycle(p):
    a = p.connect()
    a.send(exchange("a", alternate_exchange="b"), exchange("b", alternate_exchange="a"))
    a.send(publish("z", "1", exchange="a", mandatory=True))


@AREA.scenario
def alternate_of_an_exchange_in_between(p):
    a = p.connect()
    a.send(exchange("ae", "fanout"), exchange("a", "fanout"), exchange("b", alternate_exchange="ae"), queue())
    a.send(e2e("b", "a"), bind("q", "ae"))
    a.send(publish("z", "1", exchange="a"))
    a.send(*gets("q"))


@AREA.scenario
def alternate_is_the_default_exchange(p):
    a = p.connect()
    a.send(exchange("x", "direct", alternate_exchange=""), queue())
    a.send(publish("q", "1", exchange="x", mandatory=True))
    a.send(*gets("q"))


# -- CC and BCC ----------------------------------------------------------------------------------------------


@AREA.scenario
def cc_and_bcc_are_more_keys(p):
    a = bound(p, "direct", "a", "b", "c")
    a.send(publish("a", "1", exchange="x", headers={"CC": ["b"], "BCC": ["c"], "h": 1}))
    a.send(*gets("q0", "q1", "q2"))


@AREA.scenario
def cc_on_the_default_exchange(p):
    a = p.connect()
    a.send(queue("q1"), queue("q2"))
    a.send(publish("q1", "1", headers={"CC": ["q2", "q1", "nope"]}))
    a.send(*gets("q1", "q2", count=2))


@AREA.scenario
def cc_alone_routes(p):
    a = p.connect()
    a.send(queue())
    a.send(publish("nope", "1", mandatory=True, headers={"CC": ["q"]}))
    a.send(*gets("q"))


@AREA.scenario
def cc_with_something_else_than_texts(p):
    a = p.connect()
    a.send(queue())
    a.send(publish("q", "1", headers={"CC": ["q", 1]}))
    a.send(queue(passive=True))


@AREA.scenario
def bcc_is_removed_even_if_alone(p):
    a = p.connect()
    a.send(queue())
    a.send(publish("nope", "1", headers={"BCC": ["q"]}))
    a.send(*gets("q"))


@AREA.scenario
def cc_in_lower_case_means_nothing(p):
    a = p.connect()
    a.send(queue(), queue("q2"))
    a.send(publish("q", "1", headers={"cc": ["q2"]}))
    a.send(*gets("q", "q2"))


# -- publishing ----------------------------------------------------------------------------------------------


@AREA.scenario
def an_exchange_that_was_deleted(p):
    a = bound(p, "direct", "k")
    a.send(*texts("k", 1, exchange="x"))
    a.send(m.ExchangeDelete("x"))
    a.send(*texts("k", 2, exchange="x"))


@AREA.scenario
def if_unused_with_a_binding_and_without(p):
    a = bound(p, "direct", "k")
    a.send(unbind("q0", key="k"))
    a.send(m.ExchangeDelete("x", if_unused=True))


@AREA.scenario
def a_binding_of_a_newly_declared_queue_counts_at_once(p):
    a = p.connect()
    a.send(queue(), bind("q", "amq.topic", "a.#"), publish("a.b", "1", exchange="amq.topic"))
    a.send(*gets("q"))
