"""Commands in one write behind publishes: a consumer that waits has the messages before the next command."""

from conformance.differential.play import Area
from conformance.differential.words import bind, exchange, publish, queue, texts, unbind
from leveret.protocol.amqp import methods as m

AREA = Area("batches")


def waiting(p, count=10, **arguments):
    """A connection whose consumer on channel 2 waits for messages of q."""
    a = p.connect(channels=2)
    a.send(queue(**arguments), exchange("x", "fanout"), bind())
    a.send(m.BasicQos(0, count), m.BasicConsume("q", "waiting"), channel=2)
    return a


@AREA.cases(
    {
        "get": m.BasicGet("q", True),
        "purge": m.QueuePurge("q"),
        "passive_declare": queue(passive=True),
        "delete_if_empty": m.QueueDelete("q", if_empty=True),
    }
)
def an_operation_behind_publishes(p, operation):
    a = waiting(p)
    a.send(*texts("q", 1, 2, 3), operation)
    a.send(m.BasicNack(0, True, True), channel=2)


@AREA.cases({"get": m.BasicGet("q", True), "purge": m.QueuePurge("q")})  # RabbitMQ counts ahead of publishes
def an_operation_behind_more_than_the_consumer_takes(p, operation):
    a = waiting(p, 2)
    a.send(*texts("q", 1, 2, 3), operation)
    a.send(m.BasicAck(2, True), channel=2)


@AREA.cases(
    {"get": m.BasicGet("q", True), "purge": m.QueuePurge("q"), "passive_declare": queue(passive=True)}
)
def an_operation_behind_a_declaration_and_publishes(p, operation):
    """Here the reply to the declaration waits for the disk, and the deliveries must not wait with it."""
    a = p.connect()
    a.send(queue(), m.BasicConsume("q", "t"))
    a.send(queue("durable", durable=True), *texts("q", 1, 2, 3), operation)
    a.send(m.BasicNack(0, True, True))


@AREA.scenario
def cancelling_behind_publishes(p):
    a = p.connect()
    a.send(queue(), m.BasicQos(0, 2), m.BasicConsume("q", "t"))
    a.send(*texts("q", 1, 2, 3), m.BasicCancel("t"))
    a.send(queue(passive=True))


@AREA.scenario
def a_second_consumer_gets_nothing_that_the_first_was_waiting_for(p):
    a = waiting(p)
    a.send(*texts("q", 1, 2, 3), m.BasicConsume("q", "second"))
    a.send(*texts("q", 4, 5))


@AREA.scenario
def a_higher_consumer_gets_nothing_that_the_first_was_waiting_for(p):
    a = waiting(p)
    a.send(*texts("q", 1, 2, 3), m.BasicConsume("q", "second", arguments={"x-priority": 5}))
    a.send(*texts("q", 4, 5))


@AREA.scenario
def unbinding_behind_publishes(p):
    a = waiting(p)
    a.send(publish(exchange="x", body=b"1"), unbind(), publish(exchange="x", body=b"2"), bind())
    a.send(queue(passive=True))


@AREA.scenario
def a_priority_behind_lower_ones(p):
    a = waiting(p, 2, x_max_priority=5)
    a.send(
        publish("q", "1"),
        publish("q", "2", priority=5),
        publish("q", "3", priority=3),
        publish("q", "4", priority=5),
    )
    a.send(m.BasicAck(2, True), channel=2)


@AREA.scenario
def a_ttl_of_0_in_front_of_a_consumer_with_room_for_one(p):
    a = waiting(p, 1)
    a.send(*texts("q", 1, 2, expiration="0"), queue(passive=True))


@AREA.cases({"drop_head": {}, "reject_publish": {"x_overflow": "reject-publish"}})
def a_short_queue_in_front_of_a_consumer_with_room(p, overflow):
    a = waiting(p, 2, x_max_length=1, **overflow)
    a.send(m.ConfirmSelect())
    a.send(*texts("q", 1, 2, 3, 4))
    a.send(queue(passive=True))
    a.send(m.BasicAck(2, True), channel=2)


@AREA.scenario
def requeueing_behind_publishes(p):
    a = p.connect()
    a.send(queue(), m.BasicQos(0, 2), m.BasicConsume("q", "t"), *texts("q", 1))
    a.send(*texts("q", 2, 3), m.BasicNack(1, False, True))
    a.send(m.BasicAck(0, True))


@AREA.scenario
def committing_behind_publishes(p):
    a = p.connect(channels=2)
    a.send(queue(), m.TxSelect())
    a.send(m.BasicQos(0, 10), m.BasicConsume("q", "t"), channel=2)
    a.send(*texts("q", 1, 2), m.TxCommit())
    a.send(*texts("q", 3), m.TxRollback())


@AREA.scenario
def a_refused_publish_behind_others(p):
    a = waiting(p)
    a.send(*texts("q", 1, 2), publish(exchange="missing"))
    a.send(m.BasicNack(0, True, True), channel=2)


@AREA.scenario
def closing_the_channel_of_the_consumer_behind_publishes(p):
    a = p.connect(channels=2)
    a.send(queue(), m.BasicConsume("q", "t"))
    a.send(*texts("q", 1, 2), m.ChannelClose(200))
    a.send(m.BasicGet("q", True), channel=2)
