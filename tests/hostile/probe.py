"""A client in a process of its own that publishes and gets every 50 ms until its standard input ends.

``python -m tests.hostile.probe PORT`` prints a line when it is ready. For each line that it reads it prints a
``Report`` as JSON: what happened since the line before.

Each round publishes a transient message and gets it again, which is timed, and publishes a persistent message
with a publisher confirm to a durable queue, where it stays. Its body is its number, so that whoever consumes
the queue later can tell whether a confirmed message is missing.
"""

import json
import sys
from dataclasses import asdict, dataclass, field

import trio

from leveret.protocol.amqp import methods as m
from leveret.protocol.amqp.properties import Properties
from tests.router.server.client import Client, publish_frames

INTERVAL = 0.05  # seconds from one round to the next
QUEUE = "probe"
KEPT = "probe.kept"  # the queue of the confirmed messages
PERSISTENT = Properties(delivery_mode=2)


@dataclass
class Report:
    """Seconds that each round took; the numbers of the messages that were confirmed."""

    waits: list[float] = field(default_factory=list)
    confirmed: list[int] = field(default_factory=list)


class Probe:
    """``since`` is what has not been reported yet."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.since = Report()
        self._published = 0
        self._unconfirmed: list[int] = []  # numbers of messages, which are their delivery tags too

    async def prepare(self) -> None:
        await self.client.call(m.QueueDeclare(QUEUE), m.QueueDeclareOk)
        await self.client.call(m.QueueDeclare(KEPT, durable=True), m.QueueDeclareOk)
        await self.client.call(m.ConfirmSelect(), m.ConfirmSelectOk, channel=2)

    async def round(self) -> None:
        """Publish both messages, and wait for the transient one. Confirms are taken as they come."""
        began = trio.current_time()
        self._published += 1
        self._unconfirmed.append(self._published)
        body = str(self._published).encode()
        kept = publish_frames(KEPT, body, channel=2, properties=PERSISTENT)
        await self.client.stream.send_all(kept + publish_frames(QUEUE))
        await self.client.send(m.BasicGet(QUEUE, True))
        while isinstance(answer := await self.client.next(), m.BasicAck):
            self._confirm(answer)
        assert not isinstance(answer, m.BasicGetEmpty | m.ChannelClose | m.ConnectionClose), answer
        self.since.waits.append(trio.current_time() - began)

    def _confirm(self, ack: m.BasicAck) -> None:
        tag = ack.delivery_tag
        confirmed = [each for each in self._unconfirmed if each == tag or (ack.multiple and each < tag)]
        self._unconfirmed = [each for each in self._unconfirmed if each not in confirmed]
        self.since.confirmed += confirmed

    async def report(self) -> None:
        """Wait for all confirms and print the report."""
        while self._unconfirmed:
            self._confirm(await self.client.expect(m.BasicAck))
        print(json.dumps(asdict(self.since)), flush=True)
        self.since = Report()


async def main(port: int) -> None:
    client = await Client(await trio.open_tcp_stream("127.0.0.1", port)).login(channels=(1, 2))
    probe = Probe(client)
    await probe.prepare()
    await probe.round()
    print("ready", flush=True)
    probe.since.waits.clear()
    stdin = trio.lowlevel.FdStream(0)
    while True:
        data: bytes | bytearray | None = None
        with trio.move_on_after(INTERVAL):
            data = await stdin.receive_some()
        if data is None:
            await probe.round()
        elif data:
            await probe.report()
        else:
            return


if __name__ == "__main__":
    trio.run(main, int(sys.argv[1]))
