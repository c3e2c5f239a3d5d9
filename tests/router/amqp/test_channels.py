"""The life of channels: opening, closing by either side, what is ignored meanwhile, how many there may be."""

import pytest

from leveret.protocol.amqp import methods as m
from tests.router.amqp.client import Content, publish

pytestmark = pytest.mark.playbook

NO_X = "NOT_FOUND - no exchange 'nope' in vhost '/'"


def test_open_and_close(connect):
    client = connect()
    for number in (2, 65535):
        client.call(m.ChannelOpen(), channel=number)
        client.call(m.ChannelClose(200, "bye"), channel=number)
        client.call(m.ChannelOpen(), channel=number)


def test_an_unopened_channel_is_refused(connect):
    client = connect()
    client.send(m.QueueDeclare("q"), channel=7)
    client.expect(m.ConnectionClose(504, "CHANNEL_ERROR - expected 'channel.open'", 50, 10), channel=0)


def test_a_publish_on_an_unopened_channel_is_refused_once_it_is_complete(connect):
    client = connect()
    frames = publish("q", b"x").frames(7)
    client.send_raw(frames[:-9])  # all but the body frame
    client.call(m.QueueDeclare("q"))
    client.send_raw(frames[-9:])
    client.expect(m.ConnectionClose(504, "CHANNEL_ERROR - expected 'channel.open'", 60, 40), channel=0)


def test_a_closed_channel_is_unopened_again(connect):
    client = connect()
    client.call(m.ChannelClose())
    client.send(m.BasicQos())
    client.expect(m.ConnectionClose(504, "CHANNEL_ERROR - expected 'channel.open'", 60, 10), channel=0)


def test_what_is_in_flight_after_an_error_is_ignored(connect):
    client = connect()
    client.do(m.QueueDeclare("q"))
    client.send(publish(exchange="nope"), publish("q", b"lost"), m.QueueDelete("q"), publish(exchange="nope"))
    client.expect(m.ChannelClose(404, NO_X, 60, 40))
    client.send(publish("q", b"lost"), m.BasicAck(99), m.ChannelCloseOk(), m.ChannelOpen())
    client.expect(m.ChannelOpenOk())
    assert client.call(m.QueueDeclare("q", passive=True)).message_count == 0


def test_a_client_that_closes_too_is_answered_and_still_has_to_answer(connect):
    client = connect()
    client.send(publish(exchange="nope"))
    client.expect(m.ChannelClose(404, NO_X, 60, 40))
    client.call(m.ChannelClose())
    client.send(m.ChannelCloseOk(), m.ChannelOpen())
    client.expect(m.ChannelOpenOk())


def test_a_channel_cannot_be_opened_before_its_close_is_answered(connect):
    client = connect()
    client.send(publish(exchange="nope"))
    client.expect(m.ChannelClose(404, NO_X, 60, 40))
    client.send(m.ChannelOpen())
    client.expect(m.ConnectionClose(504, "CHANNEL_ERROR - second 'channel.open' seen", 20, 10), channel=0)


def test_a_channel_starts_afresh(connect):
    client = connect()
    client.do(m.QueueDeclare("q"), m.TxSelect(), m.BasicConsume("q", "t"), m.ChannelClose(), m.ChannelOpen())
    client.do(m.ConfirmSelect(), m.BasicConsume("q", "t"))
    client.send(publish("q", b"x"))
    first, second = client.next()[1], client.next()[1]
    assert {type(first), type(second)} == {m.BasicAck, Content}
    client.send(m.QueueBind("", "amq.direct"))
    client.expect(m.ChannelClose(404, "NOT_FOUND - no previously declared queue", 50, 20))


def test_channels_do_not_share_errors(connect):
    client = connect(channels=3)
    client.do(m.QueueDeclare("q"), channel=2)
    client.send(m.QueueDeclare("nope", passive=True), channel=3)
    client.take(m.ChannelClose, channel=3)
    client.do(publish("q", b"x"), channel=2)
    assert client.call(m.QueuePurge("q"), channel=2).message_count == 1
    assert client.call(m.QueuePurge("q"), channel=1).message_count == 0


def test_channel_max_counts_channels_not_numbers(connect):
    client = connect(channels=2, channel_max=3)
    client.call(m.ChannelOpen(), channel=100)
    client.send(m.ChannelOpen(), channel=3)
    text = "NOT_ALLOWED - number of channels opened (3) has reached the negotiated channel_max (3)"
    client.expect(m.ConnectionClose(530, text), channel=0)


def test_a_closing_channel_still_counts(connect):
    client = connect(channel_max=1)
    client.send(publish(exchange="nope"))
    client.take(m.ChannelClose)
    client.send(m.ChannelOpen(), channel=2)
    text = "NOT_ALLOWED - number of channels opened (1) has reached the negotiated channel_max (1)"
    client.expect(m.ConnectionClose(530, text), channel=0)


def test_closed_channels_make_room(connect):
    client = connect(channel_max=1)
    client.call(m.ChannelClose())
    client.call(m.ChannelOpen(), channel=2)


def test_what_a_channel_held_goes_back_when_it_closes(connect):
    client = connect(channels=2)
    client.do(m.QueueDeclare("q"), publish("q", b"x"))
    client.send(m.BasicGet("q"))
    client.take_content(m.BasicGetOk)
    client.call(m.ChannelClose())
    client.send(m.BasicGet("q"), channel=2)
    assert client.take_content(m.BasicGetOk, channel=2).method == m.BasicGetOk(1, True, "", "q", 0)


def test_a_long_reply_text_is_cut(connect):
    client = connect()
    client.send(m.QueueDeclare("n" * 255, passive=True))
    close = client.take(m.ChannelClose)
    assert close.reply_text == "NOT_FOUND - no queue '" + "n" * 230 + "..."
