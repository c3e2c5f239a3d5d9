"""STOMP: which queues subscriptions make, and what is left of them when they end."""

from itertools import product

from conformance.differential.play import Area
from conformance.differential.stomp import StompConnection
from conformance.differential.words import publish, queue

AREA = Area("stomp_durable")

OWN = ("/topic/a", "/exchange/amq.topic/a")  # the subscription makes a queue of its own
SHARED = ("/queue/q", "/amq/queue/q")
WITH_SHARED = ("plain", "durable", "durable, stays", "not durable")
SUBSCRIPTIONS = {
    "plain": {},
    "durable": {"durable": "true"},
    "persistent": {"persistent": "true"},
    "durable, stays": {"durable": "true", "auto_delete": "false"},
    "stays": {"auto_delete": "false"},
    "exclusive": {"exclusive": "true"},
    "not exclusive": {"exclusive": "false"},
    "named": {"x_queue_name": "mine"},
    "named, stays": {"x_queue_name": "mine", "auto_delete": "false"},
    "named, durable, stays": {"x_queue_name": "mine", "durable": "true", "auto_delete": "false"},
    "durable in capitals": {"durable": "True", "auto_delete": "False"},
    "not durable": {"durable": "false"},
    "not durable, stays": {"durable": "false", "auto_delete": "false"},
    "durable, exclusive": {"durable": "true", "exclusive": "true"},
}
ENDS = {
    "UNSUBSCRIBE": {},
    "UNSUBSCRIBE durable": {"durable": "true"},
    "UNSUBSCRIBE durable in capitals": {"durable": "True"},
    "UNSUBSCRIBE persistent": {"persistent": "true"},
    "UNSUBSCRIBE not durable": {"durable": "false"},
    "UNSUBSCRIBE named": {"x_queue_name": "mine"},
    "UNSUBSCRIBE durable, named": {"durable": "true", "x_queue_name": "mine"},
    "UNSUBSCRIBE durable, named otherwise": {"durable": "true", "x_queue_name": "other"},
    "DISCONNECT": None,
    "hang up": None,
}


def ended(destination, headers, end):
    def script(p):
        a = p.connect()
        a.send(queue("other", durable=True), publish("other", "x"))
        if destination == "/amq/queue/q":
            a.send(queue("q", durable=True))
        s = StompConnection(p).open()
        s.send("SUBSCRIBE", destination=destination, id="1", **headers)
        p.show_queues()
        if end == "hang up":
            s.hang_up()
        elif end == "DISCONNECT":
            s.send("DISCONNECT")
        else:
            s.send("UNSUBSCRIBE", id="1", **ENDS[end])
        p.wait(150)
        p.show_queues()

    return script


for (what, headers), destination, end in product(SUBSCRIPTIONS.items(), OWN + SHARED, ENDS):
    if destination in OWN or what in WITH_SHARED:
        AREA.add(f"{end}[{what}, {destination}]", ended(destination, headers, end))


@AREA.scenario
def one_that_is_not_durable_by_the_id_of_one_that_is(p):
    s = StompConnection(p).open()
    s.send("SUBSCRIBE", destination="/topic/a", id="1", durable="true", auto_delete="false")
    s.send("DISCONNECT")
    p.wait(150)
    t = StompConnection(p).open()
    t.send("SUBSCRIBE", destination="/topic/a", id="1")
    t.send("UNSUBSCRIBE", id="1", durable="true")
    p.wait(150)
    p.show_queues()


@AREA.cases({"topic": "/topic/a", "exchange": "/exchange/amq.topic/a"})
def the_same_id_at_another_destination(p, destination):
    s = StompConnection(p).open()
    s.send("SUBSCRIBE", destination=destination, id="1", durable="true", auto_delete="false")
    t = StompConnection(p).open()
    t.send("SUBSCRIBE", destination="/topic/b", id="1", durable="true", auto_delete="false")
    u = StompConnection(p).open()
    u.send("SUBSCRIBE", destination="/exchange/amq.fanout/a", id="1", durable="true", auto_delete="false")
    p.show_queues()
