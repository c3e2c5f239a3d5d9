"""The client's half of a STOMP connection for playbooks: send frames, expect frames.

Of the code under test it uses the frames, which have tests of their own.
"""

from leveret.protocol.stomp.frames import V1_2, Frame, FrameLimits, FrameReader, encode_frame
from leveret.router.stomp.connection import StompConnection
from tests.router.amqp.world import FakeLog, FakeOutbox


class StompClient:
    """A client in memory: every piece sent is a batch. Header names are given with _ for -."""

    def __init__(self, world, *, loopback=True, proven_user=None):
        self.world = world
        self.version = V1_2
        self.outbox = FakeOutbox(world)
        self.log = FakeLog()
        self.connection = StompConnection(
            world.broker, self.outbox, self.log, loopback=loopback, proven_user=proven_user
        )
        self._reader = FrameReader(FrameLimits())
        self._came = []

    def open(self, version=V1_2, **headers):
        """Log in as guest."""
        self.version = self._reader.version = version
        self.send("CONNECT", login="guest", passcode="guest", accept_version=version, **headers)
        self.connected = self.take("CONNECTED")
        return self

    def send(self, command, body=b"", **headers):
        self.send_raw(self.packed(command, body, **headers))

    def packed(self, command, body=b"", **headers):
        return encode_frame(Frame(command, named(headers), body), self.version)

    def send_raw(self, data):
        if not self.outbox.closed:
            self.connection.receive(data)
        self.world.flush()

    def received(self):
        """All frames that have come and were not looked at."""
        self._reader.feed(b"".join(self.outbox.data))
        self.outbox.data.clear()
        while (frame := self._reader.next_frame()) is not None:
            self._came.append(frame)
        came, self._came = self._came, []
        return came

    def take(self, command):
        """Demand that exactly one frame has come, with this command, and return it."""
        frames = self.received()
        assert [frame.command for frame in frames] == [command], frames
        return frames[0]

    def error(self):
        """Demand that the connection has ended with one ERROR frame; return its message and its body."""
        frame = self.take("ERROR")
        assert self.outbox.closed
        return frame.headers["message"], frame.body.decode()

    def receipts(self):
        """The ids of the receipts that have come; nothing else may have."""
        frames = self.received()
        assert {frame.command for frame in frames} <= {"RECEIPT"}, frames
        return [frame.headers["receipt-id"] for frame in frames]

    def bodies(self):
        """The bodies of the messages that have come; nothing else may have."""
        frames = self.received()
        assert {frame.command for frame in frames} <= {"MESSAGE"}, frames
        return [frame.body.decode() for frame in frames]

    def subscribe(self, destination="/queue/q", id="1", **headers):
        self.send("SUBSCRIBE", destination=destination, id=id, receipt="subscribed", **headers)
        frames = self.received()
        assert frames[0] == Frame("RECEIPT", {"receipt-id": "subscribed"}), frames
        self._came = frames[1:]

    def publish(self, body="", destination="/queue/q", **headers):
        self.send("SEND", body.encode(), destination=destination, **headers)


def named(headers):
    return {name.replace("_", "-"): value for name, value in headers.items()}
