"""Open connections: channel numbers and limits, closing from both sides, heartbeats, frame sizes."""

from conformance.differential.amqp import Raw, content_frames, frame, method_frame
from conformance.differential.play import Area
from conformance.differential.words import publish, queue
from leveret.protocol.amqp import methods as m

AREA = Area("connection")


@AREA.scenario
def closing(p):
    a = p.connect()
    a.send(m.ConnectionClose(200, "bye"), channel=0)


@AREA.scenario
def closing_with_channels_and_consumers(p):
    a = p.connect(channels=3)
    a.send(queue(), m.BasicConsume("q", "t"))
    a.send(m.ConnectionClose(200, "bye"), channel=0)
    b = p.connect()
    b.send(m.QueueDeclare("q", passive=True))


@AREA.scenario
def closing_a_channel(p):
    a = p.connect(channels=2)
    a.send(m.ChannelClose(200, "bye"))
    a.send(m.BasicQos(), channel=2)
    a.send(m.ChannelOpen())
    a.send(m.BasicQos())


@AREA.scenario
def closing_a_channel_that_is_not_open(p):
    a = p.connect()
    a.send(m.ChannelClose(200, "bye"), channel=5)


@AREA.cases(
    {
        "qos": m.BasicQos(),
        "close-ok": m.ChannelCloseOk(),
        "publish": publish("q"),
        "flow": m.ChannelFlow(True),
    }
)
def using_a_channel_that_is_not_open(p, method):
    a = p.connect()
    a.send(method, channel=7)


@AREA.scenario
def any_channel_number_may_be_used(p):
    a = p.connect(channel_max=5)
    for number in (3, 65535, 2048):
        a.send(m.ChannelOpen(), channel=number)


@AREA.scenario
def one_channel_too_many(p):
    a = p.connect(channel_max=2)
    a.send(m.ChannelOpen(), channel=2)
    a.send(m.ChannelOpen(), channel=3)


@AREA.scenario
def a_closed_channel_makes_room(p):
    a = p.connect(channel_max=1)
    a.send(m.ChannelClose(200))
    a.send(m.ChannelOpen(), channel=2)


@AREA.scenario
def channel_zero_cannot_be_opened(p):
    p.connect().send(m.ChannelOpen(), channel=0)


@AREA.cases({"start-ok": m.ConnectionStartOk(), "tune-ok": m.ConnectionTuneOk(), "open": m.ConnectionOpen()})
def handshake_methods_again(p, method):
    p.connect().send(method, channel=0)


@AREA.scenario
def connection_methods_on_a_channel(p):
    p.connect().send(m.ConnectionClose(200, "bye"), channel=1)


@AREA.scenario
def after_a_channel_error_the_channel_is_silent_until_close_ok(p):
    a = p.connect(channels=2)
    a.peer.answers = False
    a.send(m.QueueDeclare("nope", passive=True))
    a.post(m.BasicQos(), m.QueueDeclare("q"))
    a.send(m.BasicQos(), channel=2)
    a.peer._expected[1] = 0
    a.send(m.ChannelCloseOk(), m.ChannelOpen())
    a.send(m.QueueDeclare("q", passive=True))


@AREA.scenario
def closing_a_channel_that_the_broker_closes(p):
    a = p.connect()
    a.peer.answers = False
    a.send(m.QueueDeclare("nope", passive=True))
    a.send(m.ChannelClose(200, "me too"))
    a.send(m.ChannelCloseOk())
    a.send(m.ChannelOpen())


@AREA.scenario
def opening_a_channel_that_the_broker_closes(p):
    a = p.connect()
    a.peer.answers = False
    a.send(m.QueueDeclare("nope", passive=True))
    a.send(m.ChannelOpen())


@AREA.scenario
def after_a_connection_error_nothing_is_done(p):
    a = p.connect(channels=2)
    a.peer.answers = False
    a.send(m.BasicQos(1))
    a.post(queue(), channel=2)
    a.peer._expected.clear()
    a.send(m.ConnectionCloseOk(), channel=0)
    p.connect().send(m.QueueDeclare("q", passive=True))


@AREA.scenario
def closing_a_connection_that_the_broker_closes(p):
    a = p.connect()
    a.peer.answers = False
    a.send(m.BasicQos(1))
    a.send(m.ConnectionClose(200, "me too"), channel=0)


@AREA.scenario
def two_channel_errors_at_once(p):
    a = p.connect(channels=2)
    a.send(m.QueueDeclare("nope", passive=True), m.QueueDeclare("nope", passive=True))
    a.send(m.BasicQos(), channel=2)


@AREA.scenario
def an_error_ends_nothing_on_other_connections(p):
    a, b = p.connect(), p.connect()
    a.send(m.BasicQos(1))
    b.send(m.BasicQos())


@AREA.scenario
def flow(p):
    a = p.connect()
    a.send(m.ChannelFlow(True))


@AREA.scenario
def update_secret_is_refused_for_plain_users_or_taken(p):
    p.connect().send(m.ConnectionUpdateSecret(b"secret", "because"), channel=0)


@AREA.scenario
def heartbeats_come(p):
    a = p.connect(heartbeat=3)
    p.wait(3300)
    p.note(f"heartbeats came: {a.peer.frames[8] > 0}")


@AREA.scenario
def no_heartbeats_come_when_none_were_agreed_on(p):
    a = p.connect(heartbeat=0)
    p.wait(1500)
    p.note(f"heartbeats came: {a.peer.frames[8] > 0}")


@AREA.scenario
def silence_ends_the_connection(p):
    p.connect(heartbeat=1)
    p.wait(4500)


@AREA.scenario
def heartbeats_of_the_client_keep_it_open(p):
    a = p.connect(heartbeat=1)
    for _ in range(8):
        a.peer.write(frame(8, 0, b""))
        p._once(0.5)
    a.peer.write(frame(8, 0, b""))
    p.settle()
    a.send(m.BasicQos())


@AREA.scenario
def any_traffic_keeps_it_open(p):
    a = p.connect(heartbeat=1)
    for _ in range(6):
        a.send(m.BasicQos())
        p._once(0.5)


@AREA.scenario
def a_frame_as_large_as_agreed_on(p):
    a = p.connect(frame_max=4096)
    a.send(queue())
    a.send(publish("q", b"x" * 4088, piece=4088))
    a.send(m.BasicGet("q", True))


@AREA.cases({"header_by_one": 4089, "by_eight": 4096, "by_far": 10_000})
def a_frame_larger_than_agreed_on(p, size):
    a = p.connect(frame_max=4096)
    a.send(queue())
    a.send(publish("q", b"x" * size, piece=size))


@AREA.scenario
def a_body_in_many_small_frames(p):
    a = p.connect()
    a.send(queue())
    a.send(publish("q", "in pieces of three", piece=3))
    a.send(m.BasicGet("q", True))


@AREA.scenario
def empty_body_frames_are_taken(p):
    a = p.connect()
    a.send(queue())
    data = method_frame(1, m.BasicPublish("", "q")) + content_frames(1, b"", size=3)
    data += frame(3, 1, b"") + frame(3, 1, b"abc")
    a.send(Raw(data, "publish with an empty body frame before the body"))
    a.send(m.BasicGet("q", True))


@AREA.scenario
def contents_of_channels_may_be_interleaved(p):
    a = p.connect(channels=2)
    a.send(queue("q1"), queue("q2"))
    first = method_frame(1, m.BasicPublish("", "q1")) + content_frames(1, b"", size=2)
    second = method_frame(2, m.BasicPublish("", "q2")) + content_frames(2, b"", size=2)
    pieces = [frame(3, channel, text) for text, channel in ((b"a", 1), (b"c", 2), (b"b", 1), (b"d", 2))]
    a.send(Raw(first + second + b"".join(pieces), "two publishes, their frames in turn"))
    a.send(m.BasicGet("q1", True), m.BasicGet("q2", True))
