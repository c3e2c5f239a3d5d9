"""Exchanges that choose: where messages go is arbitrary, how they are spread is not."""

from conformance.differential.play import Area
from conformance.differential.words import exchange, publish, queue
from leveret.protocol.amqp import methods as m

AREA = Area("hashing")


def spread(p, a, queues, messages, **options):
    """Publish with different keys; how many each queue got."""
    a.send(*(publish(f"key-{number}", "x", exchange="x", **options) for number in range(messages)))
    counts = []
    for number in range(queues):
        a.peer.send([queue(f"q{number}", passive=True)], 1)
        p.settle(quiet=0)
        counts.append(a.peer.last(m.QueueDeclareOk).message_count)
        p.forget(a.peer, m.QueueDeclareOk)
    return counts


def bound(p, kind, weights, **arguments):
    a = p.connect()
    a.send(exchange(kind=kind, **arguments))
    for number, weight in enumerate(weights):
        a.send(queue(f"q{number}"), m.QueueBind(f"q{number}", "x", weight))
    return a


def within(count, expected, share=0.5):
    return abs(count - expected) <= expected * share


@AREA.scenario
def consistent_hash_spreads_by_weight(p):
    a = bound(p, "x-consistent-hash", ("10", "20", "30"))
    counts = spread(p, a, 3, 1200)
    p.note(f"all arrive: {sum(counts)}")
    near = [within(count, 200 * weight) for count, weight in zip(counts, (1, 2, 3), strict=True)]
    p.note(f"near 1:2:3: {near}")


@AREA.scenario
def consistent_hash_of_one_key_is_one_queue(p):
    a = bound(p, "x-consistent-hash", ("1", "1", "1"))
    a.send(*(publish("same", "x", exchange="x") for _ in range(50)))
    counts = []
    for number in range(3):
        a.peer.send([queue(f"q{number}", passive=True)], 1)
        p.settle(quiet=0)
        counts.append(a.peer.last(m.QueueDeclareOk).message_count)
        p.forget(a.peer, m.QueueDeclareOk)
    p.note(f"{sorted(counts)}")


@AREA.scenario
def consistent_hash_of_a_header(p):
    a = bound(p, "x-consistent-hash", ("1", "1"), hash_header="h")
    counts = spread(p, a, 2, 50, headers={"h": "same"})
    p.note(f"{sorted(counts)}")


@AREA.scenario
def consistent_hash_of_a_property(p):
    a = bound(p, "x-consistent-hash", ("1", "1"), hash_property="message_id")
    counts = spread(p, a, 2, 50, message_id="same")
    p.note(f"{sorted(counts)}")


@AREA.cases({"text": "abc", "negative": "-1", "zero": "0", "empty": "", "float": "1.5"})
def consistent_hash_weights(p, weight):
    a = p.connect()
    a.send(exchange(kind="x-consistent-hash"), queue())
    a.send(m.QueueBind("q", "x", weight))


@AREA.cases(
    {
        "both": {"hash_header": "h", "hash_property": "message_id"},
        "unknown property": {"hash_property": "nope"},
    }
)
def consistent_hash_arguments(p, arguments):
    p.connect().send(exchange(kind="x-consistent-hash", **arguments))


@AREA.scenario
def consistent_hash_without_bindings(p):
    a = p.connect()
    a.send(exchange(kind="x-consistent-hash"))
    a.send(publish("k", "x", exchange="x", mandatory=True))


@AREA.scenario
def modulus_hash_spreads(p):
    a = bound(p, "x-modulus-hash", ("", "", ""))
    counts = spread(p, a, 3, 900)
    p.note(f"all arrive: {sum(counts)}; near thirds: {[within(count, 300) for count in counts]}")


@AREA.scenario
def random_spreads(p):
    a = bound(p, "x-random", ("", "", ""))
    counts = spread(p, a, 3, 900)
    p.note(f"all arrive: {sum(counts)}; near thirds: {[within(count, 300) for count in counts]}")


@AREA.scenario
def random_without_bindings(p):
    a = p.connect()
    a.send(exchange(kind="x-random"))
    a.send(publish("k", "x", exchange="x", mandatory=True))


@AREA.cases(
    {
        "default": {},
        "two": {"x_recent_history_length": 2},
        "zero": {"x_recent_history_length": 0},
        "text": {"x_recent_history_length": "a"},
        "negative": {"x_recent_history_length": -1},
    }
)
def recent_history(p, arguments):
    a = p.connect()
    a.send(exchange(kind="x-recent-history", **arguments))
    a.send(*(publish("k", str(number), exchange="x") for number in range(25)))
    a.send(queue())
    a.send(m.QueueBind("q", "x"))
    a.send(m.BasicConsume("q", "t", no_ack=True))
    a.send(publish("k", "after", exchange="x"))


@AREA.scenario
def recent_history_leaves_out_what_asks_for_it(p):
    a = p.connect()
    a.send(exchange(kind="x-recent-history"))
    a.send(publish("k", "no", exchange="x", headers={"x-recent-history-no-store": True}))
    a.send(publish("k", "yes", exchange="x"))
    a.send(queue(), m.QueueBind("q", "x"))
    a.send(m.BasicConsume("q", "t", no_ack=True))
