"""Topic exchanges: which patterns match which keys, at the edges of what a word is."""

from conformance.differential.play import Area
from conformance.differential.words import bind, exchange, publish, queue, unbind
from leveret.protocol.amqp import methods as m

AREA = Area("topic")

KEYS = ("", "a", "a.b", "a.b.c", ".", "..", "a.", ".a", "a..b", "b.a", "a.b.c.d.a", "#", "*", "a.#", "A")


@AREA.cases(
    {
        f"{pattern or 'empty'}": pattern
        for pattern in (
            "",
            "#",
            "*",
            "a",
            "a.b",
            "a.*",
            "*.a",
            "a.#",
            "#.a",
            "*.*",
            "#.#",
            "*.#",
            "#.*",
            "a.#.a",
            "#.b.#",
            "*.#.*",
            "a.*.c",
            ".",
            ".*",
            "*.",
            ".#",
            "#.",
            "a..b",
            "a.*.b",
            "a.#.b",
            "#.#.#",
            "a#",
            "*a",
            "**",
            "##",
        )
    }
)
def pattern(p, pattern):
    """One queue, bound with the pattern, gets which of the keys?"""
    a = p.connect()
    a.send(exchange(kind="topic"), queue(), bind(key=pattern))
    a.send(m.BasicConsume("q", "t", no_ack=True))
    a.send(*(publish(key, key, exchange="x") for key in KEYS))


@AREA.scenario
def many_words(p):
    a = p.connect()
    a.send(exchange(kind="topic"), queue(), bind(key="#.z"), bind(key="a.#.a.#.a.#.b"))
    a.send(m.BasicConsume("q", "t", no_ack=True))
    a.send(publish("a." * 8 + "z", "1", exchange="x"), publish("a." * 8 + "b", "2", exchange="x"))
    a.send(publish("a." * 8 + "c", "3", exchange="x"))


@AREA.scenario
def a_pattern_of_255_bytes(p):
    a = p.connect()
    a.send(exchange(kind="topic"), queue(), bind(key="*." * 127 + "*"))
    a.send(publish("." * 127, "1", exchange="x"), publish("." * 126, "2", exchange="x"))
    a.send(m.BasicGet("q", True), m.BasicGet("q", True))


@AREA.scenario
def unbinding_one_of_two_patterns(p):
    a = p.connect()
    a.send(exchange(kind="topic"), queue(), bind(key="a.*"), bind(key="*.b"))
    a.send(unbind(key="a.*"))
    a.send(publish("a.x", "1", exchange="x"), publish("a.b", "2", exchange="x"))
    a.send(m.BasicGet("q", True), m.BasicGet("q", True))


@AREA.scenario
def unbinding_the_last_and_binding_again(p):
    a = p.connect()
    a.send(exchange(kind="topic"), queue(), bind(key="a.#"))
    a.send(unbind(key="a.#"))
    a.send(publish("a.b", "1", exchange="x"))
    a.send(bind(key="a.#"))
    a.send(publish("a.b", "2", exchange="x"))
    a.send(m.BasicGet("q", True), m.BasicGet("q", True))


@AREA.scenario
def several_queues_by_several_patterns(p):
    a = p.connect()
    a.send(exchange(kind="topic"))
    for number, key in enumerate(("a.*", "*.b", "a.b", "#", "a.#.b")):
        a.send(queue(f"q{number}"), bind(f"q{number}", key=key))
    a.send(publish("a.b", "1", exchange="x"))
    for number in range(5):
        a.send(queue(f"q{number}", passive=True))
