"""How long queues and exchanges live: exclusive, auto-delete, expiry, deletion on conditions."""

from conformance.differential.play import Area
from conformance.differential.words import bind, e2e, exchange, gets, publish, queue, texts, unbind
from leveret.protocol.amqp import methods as m

AREA = Area("lifecycles")


@AREA.scenario
def exclusive_queues_go_with_their_connection(p):
    a, b = p.connect(), p.connect()
    a.send(queue(exclusive=True))
    b.send(queue(passive=True))
    a.hang_up()
    p.wait(300)
    b.send(m.ChannelOpen(), queue(passive=True))


@AREA.scenario
def exclusive_queues_stay_when_their_channel_is_closed(p):
    a = p.connect(channels=2)
    a.send(queue(exclusive=True))
    a.send(m.ChannelClose(200))
    a.send(queue(passive=True), channel=2)


@AREA.scenario
def exclusive_queues_go_when_the_connection_is_closed_in_order(p):
    a, b = p.connect(), p.connect()
    a.send(queue(exclusive=True, durable=True))
    a.send(m.ConnectionClose(200), channel=0)
    p.wait(200)
    b.send(queue(passive=True))


@AREA.scenario
def exclusive_queues_take_what_others_publish(p):
    a, b = p.connect(), p.connect()
    a.send(queue(exclusive=True), m.BasicConsume("q", "t"))
    b.send(publish("q", "1", mandatory=True))


@AREA.scenario
def auto_delete_goes_with_its_last_consumer(p):
    a = p.connect(channels=2)
    a.send(queue(auto_delete=True))
    a.send(m.BasicConsume("q", "t1"), m.BasicConsume("q", "t2"))
    a.send(m.BasicCancel("t1"))
    a.send(queue(passive=True, auto_delete=True), channel=2)
    a.send(m.BasicCancel("t2"))
    a.send(queue(passive=True), channel=2)


@AREA.scenario
def auto_delete_stays_until_there_was_a_consumer(p):
    a = p.connect(channels=2)
    a.send(queue(auto_delete=True), *texts("q", 1))
    a.send(*gets("q"))
    a.send(m.ChannelClose(200))
    a.send(queue(passive=True), channel=2)


@AREA.scenario
def auto_delete_goes_when_the_consumers_channel_closes(p):
    a = p.connect(channels=2)
    a.send(queue(auto_delete=True))
    a.send(m.BasicConsume("q", "t"))
    a.send(*texts("q", 1, 2))
    a.send(m.ChannelClose(200))
    a.send(queue(passive=True), channel=2)


@AREA.scenario
def auto_delete_goes_when_the_consumer_hangs_up(p):
    a, b = p.connect(), p.connect()
    a.send(queue(auto_delete=True))
    a.send(m.BasicConsume("q", "t"))
    a.hang_up()
    p.wait(300)
    b.send(queue(passive=True))


@AREA.scenario
def auto_delete_exchange_goes_with_its_last_binding(p):
    a = p.connect()
    a.send(exchange(auto_delete=True), queue(), bind(key="a"), bind(key="b"))
    a.send(unbind(key="a"))
    a.send(exchange(passive=True))
    a.send(unbind(key="b"))
    a.send(exchange(passive=True))


@AREA.scenario
def auto_delete_exchange_goes_with_its_queue(p):
    a = p.connect()
    a.send(exchange(auto_delete=True), queue(), bind())
    a.send(m.QueueDelete("q"))
    a.send(exchange(passive=True))


@AREA.scenario
def auto_delete_exchange_stays_until_there_was_a_binding(p):
    a = p.connect()
    a.send(exchange(auto_delete=True), queue())
    a.send(publish("k", "1", exchange="x"))
    a.send(m.QueueDelete("q"))
    a.send(exchange(passive=True))


@AREA.scenario
def auto_delete_exchange_as_a_destination(p):
    a = p.connect()
    a.send(exchange("a"), exchange("b", auto_delete=True), e2e("b", "a"))
    a.send(m.ExchangeUnbind("b", "a"))
    a.send(exchange("b", passive=True))


@AREA.scenario
def auto_delete_exchanges_in_a_chain(p):
    a = p.connect()
    a.send(exchange("a", auto_delete=True), exchange("b", auto_delete=True), queue())
    a.send(e2e("b", "a"), bind("q", "b"))
    a.send(m.QueueDelete("q"))
    a.send(exchange("b", passive=True))
    a.send(m.ChannelOpen(), exchange("a", passive=True))


@AREA.scenario
def an_unused_queue_expires(p):
    a = p.connect()
    a.send(queue(x_expires=200), *texts("q", 1))
    p.wait(600)
    a.send(queue(passive=True))


@AREA.scenario
def a_queue_with_a_consumer_does_not_expire(p):
    a = p.connect()
    a.send(queue(x_expires=200))
    a.send(m.BasicConsume("q", "t"))
    p.wait(500)
    a.send(publish("q", "1"))
    a.send(m.BasicCancel("t"))
    p.wait(600)
    a.send(queue(passive=True))


@AREA.scenario
def publishing_does_not_keep_a_queue(p):
    a = p.connect()
    a.send(queue(x_expires=400))
    for _ in range(4):
        a.send(publish("q", "1"))
        p.wait(150)
    a.send(queue(passive=True))


@AREA.scenario
def an_expiring_queue_drops_its_messages_without_dead_letters(p):
    a = p.connect()
    a.send(queue("dead"), queue(x_expires=200, x_dead_letter_exchange="", x_dead_letter_routing_key="dead"))
    a.send(*texts("q", 1))
    p.wait(600)
    a.send(queue("dead", passive=True))


@AREA.scenario
def deleting_if_unused(p):
    a = p.connect(channels=2)
    a.send(queue())
    a.send(m.BasicConsume("q", "t"))
    a.send(m.QueueDelete("q", if_unused=True), channel=2)
    a.send(m.BasicCancel("t"))
    a.send(m.ChannelOpen(), m.QueueDelete("q", if_unused=True), channel=2)


@AREA.scenario
def deleting_if_empty(p):
    a = p.connect()
    a.send(queue())
    a.send(*texts("q", 1))
    a.send(m.QueueDelete("q", if_empty=True))
    a.send(m.ChannelOpen(), *gets("q"))
    a.send(m.QueueDelete("q", if_empty=True))


@AREA.scenario
def deleting_if_empty_with_unacked(p):
    a = p.connect()
    a.send(queue())
    a.send(*texts("q", 1))
    a.send(m.BasicGet("q"))
    a.send(m.QueueDelete("q", if_empty=True))


@AREA.scenario
def deleting_without_waiting(p):
    a = p.connect()
    a.send(queue(), exchange())
    a.send(m.QueueDelete("q", nowait=True), m.ExchangeDelete("x", nowait=True))
    a.send(queue(passive=True))


@AREA.scenario
def deleting_twice(p):
    a = p.connect()
    a.send(queue())
    a.send(m.QueueDelete("q"), m.QueueDelete("q"), m.ExchangeDelete("x"))


@AREA.cases(
    {
        "if empty": m.QueueDelete("q", if_empty=True),
        "if unused": m.QueueDelete("q", if_unused=True),
        "both": m.QueueDelete("q", if_unused=True, if_empty=True),
    }
)
def quorum_queues_are_deleted_on_conditions(p, method):
    a = p.connect()
    a.send(queue(durable=True, x_queue_type="quorum"))
    a.send(method)


@AREA.cases({"line feed": "a\nb", "both": "a\r\nb", "at the end": "ab\n"})
def line_breaks_in_names_are_left_out(p, name):
    a = p.connect()
    a.send(queue(name), exchange(name))
    a.send(bind(name, name, "k"))
    a.send(publish("k", "1", exchange="ab"))
    a.send(*gets("ab"))
