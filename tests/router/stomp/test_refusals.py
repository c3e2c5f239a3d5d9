"""A model of STOMP connections that meet with errors: each frame with a receipt gets that or the ERROR, once;
the first ERROR is the last frame, and what follows it is not looked at.
"""

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leveret.protocol.amqp import methods as m
from leveret.protocol.stomp.frames import Frame, encode_frame
from tests.router.amqp.world import World
from tests.router.stomp.client import StompClient

# kind -> command, headers; whether it is refused may depend on what was done before.
FRAMES = {
    "send": ("SEND", {"destination": "/queue/a"}),
    "subscribe": ("SUBSCRIBE", {"destination": "/queue/b", "id": "1"}),
    "unsubscribe": ("UNSUBSCRIBE", {"id": "1"}),
    "begin": ("BEGIN", {"transaction": "t"}),
    "send in t": ("SEND", {"destination": "/queue/a", "transaction": "t"}),
    "refused in t": ("SEND", {"destination": "/exchange/nope/a", "transaction": "t"}),
    "commit": ("COMMIT", {"transaction": "t"}),
    "abort": ("ABORT", {"transaction": "t"}),
    "no exchange": ("SEND", {"destination": "/exchange/nope/a"}),
    "no destination": ("SEND", {}),
    "bad destination": ("SEND", {"destination": "/nowhere/x"}),
    "inequivalent": ("SEND", {"destination": "/queue/taken", "durable": "false"}),
    "unknown ack": ("ACK", {"id": "T_1@@session@@9"}),
    "no ack id": ("NACK", {}),
    "unknown command": ("JUMP", {}),
    "second login": ("CONNECT", {"login": "guest", "passcode": "guest"}),
    "disconnect": ("DISCONNECT", {}),
}
RAW = {
    "bad escape": b"SEND\ndestination:/queue/a\nx:\\q\n\n\0",
    "no colon": b"SEND\nnonsense\n\n\0",
    "bad length": b"SEND\ndestination:/queue/a\ncontent-length:1\n\nxyz\0",
}
NEVER = ("no exchange", "no destination", "bad destination", "inequivalent", "unknown ack", "no ack id")
NEVER += ("unknown command", "second login", *RAW)


@dataclass
class Model:
    """What a connection has been asked, up to its end."""

    ended: str = ""  # "error" or "left"
    receipts: list[str] = field(default_factory=list)
    error: str | None = None  # the receipt id that the ERROR names
    queued: int = 0
    subscribed: bool = False
    transaction: list[tuple[str, str]] | None = None  # kind and receipt id of its frames

    def do(self, kind: str, number: str) -> None:
        if self.ended:
            return
        if self.refuses(kind):
            self.ended, self.error = "error", None if kind in RAW else number
            return
        if kind == "send":
            self.queued += 1
        elif kind in ("subscribe", "unsubscribe"):
            self.subscribed = kind == "subscribe"
        elif kind in ("send in t", "refused in t"):
            self.transaction.append((kind, number))
            return  # its receipt comes with the commit
        elif kind == "begin":
            self.transaction = []
        elif kind == "commit":
            self.queued += len(self.transaction)
            self.receipts += [each for _, each in self.transaction]
            self.transaction = None
        elif kind == "abort":
            self.transaction = None
        elif kind == "disconnect":
            self.ended = "left"
        self.receipts.append(number)

    def refuses(self, kind: str) -> bool:
        if kind == "subscribe":
            return self.subscribed
        if kind == "unsubscribe":
            return not self.subscribed
        if kind == "begin":
            return self.transaction is not None
        if kind == "commit":
            return self.transaction is None or any(each != "send in t" for each, _ in self.transaction)
        if kind in ("abort", "send in t", "refused in t"):
            return self.transaction is None
        return kind in NEVER


def frame_of(kind: str, number: str, version: str) -> bytes:
    if kind in RAW:
        return RAW[kind]
    command, headers = FRAMES[kind]
    return encode_frame(Frame(command, {**headers, "receipt": number}), version)


OFTEN = ("send", "subscribe", "unsubscribe", "begin", "send in t", "commit", "abort")
KINDS = st.sampled_from([*OFTEN * 3, *FRAMES, *RAW])


@pytest.mark.slow
@settings(deadline=None, max_examples=400)
@given(st.lists(KINDS, max_size=25), st.lists(st.integers(0, 3000), max_size=6))
def test_every_frame_is_answered_once_and_nothing_behind_an_error(kinds, cuts):
    world = World()
    other = world.connect()
    other.do(*(m.QueueDeclare(name, durable=True) for name in ("a", "b", "taken")))
    client, model = StompClient(world).open(), Model()
    data = b""
    for number, kind in enumerate(kinds):
        model.do(kind, str(number))
        data += frame_of(kind, str(number), client.version)
    start = 0
    for cut in sorted({*cuts, len(data)}):
        client.send_raw(data[start:cut])
        start = max(start, cut)
    frames = client.received()
    receipts = [frame.headers["receipt-id"] for frame in frames if frame.command == "RECEIPT"]
    errors = [frame for frame in frames if frame.command == "ERROR"]
    assert len(frames) == len(receipts) + len(errors)
    assert sorted(receipts) == sorted(model.receipts)
    assert client.outbox.closed is bool(model.ended)
    if model.ended == "error":
        assert errors == frames[-1:]
        assert errors[0].headers.get("receipt-id") == model.error
    else:
        assert not errors
    if model.ended == "left":
        assert frames[-1].headers["receipt-id"] == model.receipts[-1]
    client.send("SEND", destination="/queue/a", receipt="late")
    assert client.received() == ([] if model.ended else [Frame("RECEIPT", {"receipt-id": "late"})])
    queued = model.queued + (0 if model.ended else 1)
    assert other.call(m.QueueDeclare("a", passive=True)).message_count == queued
    consumers = int(model.subscribed and not model.ended)
    assert other.call(m.QueueDeclare("b", passive=True)).consumer_count == consumers
