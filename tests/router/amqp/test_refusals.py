import pytest

from protocol.amqp import methods as m
from tests.router.amqp.playing import play
from tests.router.amqp.refusals import REFUSALS
from tests.router.amqp.world import World


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda refusal: refusal.id)
def test_refusal(refusal):
    world = World()
    client, other = world.connect(channels=2), world.connect()
    play(refusal, client, other)
    if refusal.scope == "connection":
        client.send(m.ConnectionCloseOk(), channel=0)
        client.expect_end()
    else:
        assert client.call(m.QueueDeclare("q2"), channel=2).queue == "q2"  # other channels go on
        client.send(m.ChannelCloseOk())
        client.call(m.ChannelOpen())
    assert other.call(m.QueueDeclare("q3")).queue == "q3"
