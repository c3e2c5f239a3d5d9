"""What crosses on the wire: closing while the other side sends, and hanging up in the middle."""

from conformance.differential.amqp import Raw, content_frames, method_frame
from conformance.differential.play import Area
from conformance.differential.words import gets, publish, queue, texts
from leveret.protocol.amqp import methods as m

AREA = Area("races")


def filled(p, count=3):
    a = p.connect(channels=2)
    a.send(queue(), *texts("q", *range(1, count + 1)))
    return a


@AREA.scenario
def publishing_on_a_channel_that_was_just_closed_by_the_broker(p):
    a = filled(p)
    a.send(m.QueueDeclare("nope", passive=True), *texts("q", 4, 5))
    a.send(queue(passive=True), channel=2)


@AREA.scenario
def acking_on_a_channel_that_was_just_closed_by_the_broker(p):
    a = filled(p)
    a.send(m.BasicGet("q"))
    a.send(m.QueueDeclare("nope", passive=True), m.BasicAck(1))
    a.send(*gets("q", count=4), channel=2)


@AREA.scenario
def closing_and_opening_again_at_once(p):
    a = filled(p)
    a.send(m.ChannelClose(200), m.ChannelOpen(), m.BasicQos())


@AREA.scenario
def closing_a_channel_in_the_middle_of_a_content(p):
    a = filled(p)
    data = method_frame(1, m.BasicPublish("", "q")) + content_frames(1, b"", size=5)
    a.send(Raw(data, "half a publish"), m.ChannelClose(200))


@AREA.scenario
def hanging_up_in_the_middle_of_a_content(p):
    a = filled(p)
    data = method_frame(1, m.BasicPublish("", "q")) + content_frames(1, b"", size=5)
    a.send(Raw(data, "half a publish"))
    a.hang_up()
    p.connect().send(queue(passive=True))


@AREA.scenario
def publishing_and_closing_the_connection_at_once(p):
    a = filled(p)
    a.send(*texts("q", 4, 5))
    a.post(*texts("q", 6, 7))
    a.send(m.ConnectionClose(200), channel=0)
    p.wait(100)
    p.connect().send(queue(passive=True))


@AREA.scenario
def publishing_and_hanging_up_at_once(p):
    a = filled(p)
    a.post(*texts("q", 4, 5))
    p.wait(200)
    a.hang_up()
    p.connect().send(queue(passive=True))


@AREA.scenario
def deleting_a_queue_while_it_is_consumed(p):
    a = filled(p)
    a.send(m.BasicConsume("q", "t"))
    a.send(m.QueueDelete("q"), channel=2)
    a.send(m.BasicAck(3, multiple=True))
    a.send(m.BasicCancel("t"))


@AREA.scenario
def cancelling_while_the_queue_is_deleted_elsewhere(p):
    a, b = filled(p), p.connect()
    a.send(m.BasicConsume("q", "t"))
    b.send(m.QueueDelete("q"))
    a.send(m.BasicConsume("q", "t"))


@AREA.scenario
def the_owner_of_an_exclusive_queue_hangs_up_while_it_is_published_to(p):
    a, b = p.connect(), p.connect()
    a.send(queue(exclusive=True))
    a.hang_up()
    p.wait(300)
    b.send(m.ConfirmSelect())
    b.send(publish("q", "1", mandatory=True))


@AREA.scenario
def errors_on_two_channels_at_once(p):
    a = filled(p)
    a.post(m.QueueDeclare("nope", passive=True))
    a.send(m.QueueDeclare("nope", passive=True), channel=2)
    a.send(m.ChannelOpen())
    a.send(m.ChannelOpen(), channel=2)


@AREA.scenario
def a_channel_error_and_then_a_connection_error(p):
    a = filled(p)
    a.peer.answers = False
    a.send(m.QueueDeclare("nope", passive=True))
    a.send(m.BasicQos(5), channel=2)


@AREA.scenario
def flow_off_from_the_client(p):
    a = filled(p)
    a.send(m.ChannelFlow(False))


@AREA.scenario
def settling_on_another_channel_after_closing(p):
    a = filled(p)
    a.send(m.BasicConsume("q", "t"))
    a.send(m.ChannelClose(200))
    a.send(m.BasicAck(1), channel=2)
    a.send(m.ChannelOpen(), channel=2)
    a.send(*gets("q", count=4), channel=2)
