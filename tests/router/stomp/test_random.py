"""Whatever a client sends, it gets answers or one error; the broker never fails."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leveret.protocol.stomp.frames import Frame, encode_frame
from tests.router.amqp.world import World
from tests.router.stomp.client import StompClient

COMMANDS = ("SEND", "SUBSCRIBE", "UNSUBSCRIBE", "ACK", "NACK", "BEGIN", "COMMIT", "ABORT")
DESTINATIONS = (
    "/queue/q", "/queue/p", "/topic/a.#", "/topic/a.b", "/exchange/amq.fanout", "/exchange/amq.headers/k",
    "/amq/queue/q", "/reply-queue/q", "/temp-queue/x", "/queue/", "/nope", "q",
)  # fmt: skip
HEADERS = {
    "id": ("0", "1", "T_0@@session@@1", "/temp-queue/x"),
    "ack": ("auto", "client", "client-individual"),
    "receipt": ("r",),
    "transaction": ("t", "u"),
    "durable": ("true", "false"),
    "auto-delete": ("true", "false"),
    "exclusive": ("true", "false"),
    "persistent": ("true",),
    "reply-to": ("/temp-queue/x", "/temp-queue/a/b", "q"),
    "prefetch-count": ("0", "1", "99999999"),
    "requeue": ("false",),
    "expiration": ("0", "10", "x"),
    "priority": ("1", "x"),
    "x-queue-name": ("q", "mine", "amq.mine", ""),
    "x-max-length": ("0", "1", "-1"),
    "x-overflow": ("reject-publish", "x"),
    "x-queue-type": ("classic", "quorum", "stream"),
    "x-dead-letter-exchange": ("", "amq.fanout"),
    "x-message-ttl": ("0", "5"),
    "x-priority": ("5", "-5", "x"),
    "x-selector": ("a = 'b'", "a ="),
    "CC": ("x",),
    "user-id": ("guest", "x"),
}


@st.composite
def frames(draw):
    names = draw(st.sets(st.sampled_from(sorted(HEADERS)), max_size=5))
    headers = {name: draw(st.sampled_from(HEADERS[name])) for name in names}
    if draw(st.booleans()):
        headers["destination"] = draw(st.sampled_from(DESTINATIONS))
    return Frame(draw(st.sampled_from(COMMANDS)), headers, b"x")


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1), frames() | st.just("ack"), st.booleans()), max_size=25))
def test_frames_in_any_order_never_crash_the_broker(steps):
    world = World()
    clients = [StompClient(world).open() for _ in range(2)]
    for index, frame, late in steps:
        client = clients[index]
        if client.outbox.closed:
            client = clients[index] = StompClient(world).open()
        came = client.received()
        if frame == "ack":
            ids = [each.headers["ack"] for each in came if "ack" in each.headers]
            client.send("ACK", **({"id": ids[-1]} if ids else {}))
        else:
            client.send_raw(encode_frame(frame, "1.2"))
        if late:
            world.advance(10)
        errors = [each for each in client.received() if each.command == "ERROR"]
        cancelled = [each for each in errors if each.headers["message"].startswith("Server cancelled")]
        assert len(errors) - len(cancelled) == client.outbox.closed
        assert not [line for line in client.log.lines if line[0] == "error"], client.log.lines
    for client in clients:
        client.connection.lost()
    world.flush()
    assert not world.broker.clients


@settings(deadline=None)
@given(st.binary(max_size=300), st.booleans())
def test_bytes_of_any_kind_never_crash_the_broker(data, logged_in):
    client = StompClient(World())
    if logged_in:
        client.open()
    client.send_raw(data)
    assert not [line for line in client.log.lines if line[0] == "error"], client.log.lines
