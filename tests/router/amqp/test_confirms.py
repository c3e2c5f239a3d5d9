"""Publisher confirms, returns and transactions over the wire."""

import pytest

from leveret.protocol.amqp import methods as m
from leveret.protocol.amqp.properties import Properties
from tests.router.amqp.client import Content, publish

pytestmark = pytest.mark.playbook


def returned(key, body=b"", exchange="", **properties):
    return Content(m.BasicReturn(312, "NO_ROUTE", exchange, key), body, Properties(**properties))


def confirmed(client, count):
    """Read confirms until ``count`` publishes are; return {number: acked}."""
    verdicts = {}
    while len(verdicts) < count:
        verdict = client.take((m.BasicAck, m.BasicNack))
        first = verdict.delivery_tag
        if verdict.multiple:
            first = min(set(range(1, first + 1)) - set(verdicts))
        for number in range(first, verdict.delivery_tag + 1):
            verdicts.setdefault(number, isinstance(verdict, m.BasicAck))
    return verdicts


def test_every_publish_is_confirmed_once(connect):
    client = connect()
    client.do(m.QueueDeclare("q"), m.ConfirmSelect(), m.ConfirmSelect())
    client.send(*(publish("q") for _ in range(5)), publish("nope"))
    assert confirmed(client, 6) == dict.fromkeys(range(1, 7), True)


def test_publishes_of_one_read_are_confirmed_together(world):
    client = world.connect()
    client.do(m.QueueDeclare("q"), m.ConfirmSelect())
    client.send(*(publish("q") for _ in range(5)))
    client.expect(m.BasicAck(5, multiple=True))
    client.send(publish("q"))
    client.expect(m.BasicAck(6))
    client.expect_silence()


def test_what_cannot_be_routed_is_confirmed(connect):
    client = connect()
    client.do(m.ConfirmSelect())
    client.send(publish("nope"))
    client.expect(m.BasicAck(1))


def test_a_return_comes_before_its_confirm(connect):
    client = connect()
    client.do(m.ConfirmSelect())
    client.send(publish("nope", b"back", mandatory=True, message_id="m"))
    client.expect(returned("nope", b"back", message_id="m"), m.BasicAck(1))


def test_a_mandatory_message_that_reaches_a_queue_is_not_returned(connect):
    client = connect()
    client.do(m.QueueDeclare("q"), m.ConfirmSelect())
    client.send(publish("q", mandatory=True))
    client.expect(m.BasicAck(1))


def test_a_return_carries_cc_but_not_bcc(connect):
    client = connect()
    client.send(publish("nope", mandatory=True, headers={"CC": ["a"], "BCC": ["b"]}))
    client.expect(returned("nope", headers={"CC": ["a"]}))


def test_what_a_full_queue_refuses_is_nacked(connect):
    client = connect()
    arguments = {"x-max-length": 1, "x-overflow": "reject-publish"}
    client.do(m.QueueDeclare("q", arguments=arguments), m.ConfirmSelect())
    client.send(*(publish("q") for _ in range(4)))
    verdicts = confirmed(client, 4)
    assert verdicts[1] is True
    assert verdicts[4] is False


def test_confirms_are_sent_before_the_channel_closes(connect):
    client = connect()
    client.do(m.ConfirmSelect())
    client.send(publish("nope"), publish("nope"), m.ChannelClose())
    assert confirmed(client, 2) == {1: True, 2: True}
    client.expect(m.ChannelCloseOk())


def test_a_publish_that_closes_the_channel_is_not_confirmed(connect):
    client = connect()
    client.do(m.ConfirmSelect())
    client.send(publish("nope"), publish(exchange="nope"), publish("nope"))
    client.expect(m.BasicAck(1))
    client.take(m.ChannelClose)


@pytest.mark.parametrize("end", [m.TxCommit(), m.TxRollback()], ids=str)
def test_publishes_wait_for_the_commit(connect, end):
    client = connect()
    client.do(m.QueueDeclare("q"), m.TxSelect(), m.TxSelect(), publish("q"), publish("q"))
    assert client.call(m.QueueDeclare("q")).message_count == 0
    client.do(end)
    committed = 2 if isinstance(end, m.TxCommit) else 0
    assert client.call(m.QueueDeclare("q")).message_count == committed


def test_returns_come_at_the_commit_and_before_its_reply(connect):
    client = connect()
    client.do(m.TxSelect())
    client.send(publish("a", mandatory=True), publish("b", mandatory=True), m.BasicQos(), m.TxCommit())
    client.expect(m.BasicQosOk(), returned("a"), returned("b"), m.TxCommitOk())


def test_a_rollback_gives_acks_back(connect):
    client = connect()
    client.do(m.QueueDeclare("q"), publish("q"))
    client.send(m.BasicGet("q"))
    client.take(Content)
    client.do(m.TxSelect(), m.BasicAck(1), m.TxRollback(), m.BasicAck(1), m.TxCommit())
    assert client.call(m.QueueDelete("q")).message_count == 0
