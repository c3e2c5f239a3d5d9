"""The table of refusals, played: what is refused, and that nothing else suffers by it."""

import pytest

from leveret.protocol.amqp import methods as m
from tests.router.amqp.refusals import REFUSALS

pytestmark = pytest.mark.playbook


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda refusal: refusal.id)
def test_refusal(connect, refusal):
    client, other = connect(channels=2), connect()
    other.do(*refusal.elsewhere)
    client.do(*refusal.after)
    client.send(refusal.by)
    if refusal.scope == "connection":
        client.expect(m.ConnectionClose(refusal.code, refusal.text, *refusal.ids), channel=0)
        client.send(m.ConnectionCloseOk(), channel=0)
        client.expect_end()
    else:
        client.expect(m.ChannelClose(refusal.code, refusal.text, *refusal.ids))
        client.call(m.BasicQos(), channel=2)
        client.send(m.ChannelCloseOk())
        client.call(m.ChannelOpen())
    other.call(m.BasicQos())
