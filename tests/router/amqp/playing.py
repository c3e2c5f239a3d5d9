"""How a refusal is played, to whatever broker the clients belong to."""

from protocol.amqp import methods as m


def play(refusal, client, other):
    """Bring it about and check what is said; ``other`` is a client with a connection of its own."""
    other.do(*refusal.elsewhere)
    client.do(*refusal.after)
    client.send(refusal.by)
    if refusal.scope == "channel":
        close, number = m.ChannelClose, 1
    else:
        close, number = m.ConnectionClose, 0
    client.expect(close(refusal.code, refusal.text, *refusal.ids), channel=number)
