"""The client's half of a connection for playbooks: send methods, expect methods.

It speaks through a ``Transport``, in memory or on a socket, so that the same playbook can be played to
another broker. Of the code under test it uses the codec and the reader, which have tests of their own.
"""

from dataclasses import dataclass, field
from typing import Protocol

from leveret.protocol.amqp import methods as m
from leveret.protocol.amqp.codec import method_frame
from leveret.protocol.amqp.command import Delivery, Heartbeat
from leveret.protocol.amqp.constants import PROTOCOL_HEADER
from leveret.protocol.amqp.content_frames import pack_frames
from leveret.protocol.amqp.properties import Properties, encode_properties
from leveret.protocol.amqp.reader import CommandReader

CAPABILITIES = {
    "authentication_failure_close": True,
    "basic.nack": True,
    "consumer_cancel_notify": True,
    "publisher_confirms": True,
}


class Transport(Protocol):
    """Bytes to a broker and back."""

    def send(self, data: bytes) -> None: ...

    def receive(self) -> bytes:
        """What has come, or comes soon; nothing when there is nothing or the broker has hung up."""

    def hung_up(self) -> bool:
        """Whether the broker ended the connection."""


@dataclass
class Content:
    """A basic.publish and what it carries; as an expectation, any content under that method."""

    method: m.Method = field(default_factory=m.BasicPublish)
    body: bytes = b""
    properties: Properties = field(default_factory=Properties)

    def frames(self, channel):
        content = pack_frames(channel, encode_properties(self.properties), self.body)
        return method_frame(channel, self.method) + content


def publish(routing_key="", body=b"", *, exchange="", mandatory=False, immediate=False, **properties):
    """A publish, by default to the default exchange."""
    return Content(
        m.BasicPublish(exchange, routing_key, mandatory, immediate), body, Properties(**properties)
    )


class Client:
    """A client, on channel 1 by default. ``log`` holds (channel, method or content) as received."""

    def __init__(self, transport):
        self.transport = transport
        self.reader = CommandReader(0, 1 << 30)
        self.log = []
        self._seen = 0

    # -- sending ---------------------------------------------------------------------------------------------

    def send(self, *items, channel=1):
        """Send methods and contents in one piece, without looking for answers."""
        self.send_raw(b"".join(packed(item, channel) for item in items))

    def send_raw(self, data):
        self.transport.send(data)

    # -- receiving -------------------------------------------------------------------------------------------

    def next(self):
        """The next (channel, method or content) that is no heartbeat; None when nothing comes."""
        while self._seen == len(self.log):
            data = self.transport.receive()
            if not data:
                return None
            for channel, command in self.reader.receive(data):
                if not isinstance(command, Heartbeat):
                    self.log.append((channel, unpacked(command)))
            assert self.reader.error is None, self.reader.error
        self._seen += 1
        return self.log[self._seen - 1]

    def expect(self, *expected, channel=1):
        """Demand that exactly these come next; return the last one that came."""
        came = None
        for item in expected:
            found = self.next()
            assert found is not None, f"expected {item}, nothing came"
            number, came = found
            assert (number, came) == (channel, item), f"expected {item}, came {came} on {number}"
        return came

    def take(self, kind, channel=1):
        """Demand that the next is of this class, and return it."""
        number, came = self.next() or (None, None)
        assert isinstance(came, kind), (
            f"expected {kind.__name__} on channel {channel}, came {came} on {number}"
        )
        assert number == channel
        return came

    def take_content(self, kind, channel=1):
        """Demand a content under a method of this class, and return it."""
        content = self.take(Content, channel)
        assert isinstance(content.method, kind), content
        return content

    def expect_silence(self):
        """Demand that nothing comes."""
        found = self.next()
        assert found is None, f"nothing was expected, {found} came"

    def expect_end(self):
        """Demand that nothing comes and the broker has hung up."""
        self.expect_silence()
        assert self.transport.hung_up()

    # -- both ------------------------------------------------------------------------------------------------

    def call(self, method, channel=1):
        """Send a method and return its reply, which must be its own."""
        self.send(method, channel=channel)
        return self.take(reply_class(method), channel)

    def do(self, *items, channel=1):
        """Send each, and await its reply if it has one."""
        for item in items:
            if isinstance(item, Content) or reply_class(item) is None or getattr(item, "nowait", False):
                self.send(item, channel=channel)
            else:
                self.call(item, channel)

    def start(self):
        """Send the protocol header, return connection.start."""
        self.send_raw(PROTOCOL_HEADER)
        return self.take(m.ConnectionStart, channel=0)

    def login(self, user="guest", password="guest", capabilities=None, mechanism="PLAIN"):
        """Send the header and the login."""
        self.start()
        properties = {"capabilities": CAPABILITIES if capabilities is None else capabilities}
        response = f"\0{user}\0{password}".encode("utf-8", "surrogateescape")
        self.send(m.ConnectionStartOk(properties, mechanism, response), channel=0)

    def tune(self, *, channel_max=2047, frame_max=131072, heartbeat=0):
        """Take connection.tune, and send connection.tune-ok."""
        tune = self.take(m.ConnectionTune, channel=0)
        self.send(m.ConnectionTuneOk(channel_max, frame_max, heartbeat), channel=0)
        return tune

    def open(self, *, channels=1, vhost="/", login=None, **tuned):
        """The whole handshake, and channels 1 to ``channels``; return this client."""
        self.login(**login or {})
        self.tune(**tuned)
        self.call(m.ConnectionOpen(vhost), channel=0)
        for number in range(1, channels + 1):
            self.call(m.ChannelOpen(), channel=number)
        return self


def packed(item, channel):
    return item.frames(channel) if isinstance(item, Content) else method_frame(channel, item)


def unpacked(command):
    if isinstance(command, Delivery):
        return Content(command.method, command.message.body, command.message.properties)
    return command


def reply_class(method):
    """The class of a method's reply; None when it has none."""
    name = f"{type(method).__name__}Ok"
    if isinstance(method, m.BasicRecoverAsync):
        return None
    return getattr(m, name, None)
