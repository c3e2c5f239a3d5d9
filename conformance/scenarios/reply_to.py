"""Direct reply-to: the pseudo queue amq.rabbitmq.reply-to."""

from conformance.differential.play import Area
from conformance.differential.words import publish, queue
from leveret.protocol.amqp import methods as m

AREA = Area("reply_to")

NAME = "amq.rabbitmq.reply-to"


def asked(p):
    """A client that has asked, and a server that has the question."""
    a, b = p.connect(), p.connect()
    b.send(queue(), m.BasicConsume("q", "t", no_ack=True))
    a.send(m.BasicConsume(NAME, "replies", no_ack=True))
    a.send(publish("q", "question", reply_to=NAME, correlation_id="1"))
    return a, b


@AREA.scenario
def question_and_answer(p):
    _, b = asked(p)
    b.send(publish(b.peer.reply_to, "answer", correlation_id="1"))


@AREA.scenario
def several_answers(p):
    _, b = asked(p)
    for number in range(3):
        b.send(publish(b.peer.reply_to, str(number)))


@AREA.scenario
def the_address_exists(p):
    a, b = asked(p)
    b.send(m.QueueDeclare(b.peer.reply_to, passive=True))
    a.hang_up()
    p.wait(200)
    b.send(m.QueueDeclare(b.peer.reply_to, passive=True))


@AREA.scenario
def an_answer_after_the_client_has_gone(p):
    a, b = asked(p)
    a.hang_up()
    p.wait(200)
    b.send(publish(b.peer.reply_to, "late", mandatory=True))


@AREA.scenario
def an_answer_after_cancelling(p):
    a, b = asked(p)
    a.send(m.BasicCancel("replies"))
    b.send(publish(b.peer.reply_to, "late", mandatory=True))


@AREA.scenario
def an_answer_with_confirms(p):
    _, b = asked(p)
    b.send(m.ConfirmSelect())
    b.send(publish(b.peer.reply_to, "answer"))


@AREA.scenario
def consuming_again_after_cancelling(p):
    a = p.connect()
    a.send(m.BasicConsume(NAME, "one", no_ack=True))
    a.send(m.BasicCancel("one"))
    a.send(m.BasicConsume(NAME, "two", no_ack=True))


@AREA.scenario
def two_consumers_on_two_channels(p):
    a = p.connect(channels=2)
    a.send(m.BasicConsume(NAME, "one", no_ack=True))
    a.send(m.BasicConsume(NAME, "two", no_ack=True), channel=2)


@AREA.cases(
    {
        "declare": m.QueueDeclare(NAME),
        "passive": m.QueueDeclare(NAME, passive=True),
        "delete": m.QueueDelete(NAME),
        "purge": m.QueuePurge(NAME),
        "bind": m.QueueBind(NAME, "amq.direct"),
        "get": m.BasicGet(NAME),
        "acknowledging": m.BasicConsume(NAME, "t"),
        "exclusive": m.BasicConsume(NAME, "t", no_ack=True, exclusive=True),
        "without asking": publish("q", "x", reply_to=NAME),
        "publishing to it": publish(NAME, "x", mandatory=True),
        "an address of nobody": publish(f"{NAME}.nobody", "x", mandatory=True),
    }
)
def using_it_otherwise(p, method):
    a = p.connect()
    a.send(queue())
    a.send(method)


@AREA.scenario
def the_address_differs_between_channels(p):
    _, b = asked(p)
    first = b.peer.reply_to
    c = p.connect()
    c.send(m.BasicConsume(NAME, "replies", no_ack=True))
    c.send(publish("q", "question", reply_to=NAME))
    p.note(f"another address: {first != b.peer.reply_to}")
    b.send(publish(first, "to the first"), publish(b.peer.reply_to, "to the second"))
