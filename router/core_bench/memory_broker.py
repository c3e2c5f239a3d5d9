"""A broker in this process and its clients, without sockets and threads.

Responsible for the turns of such a broker: a read of a client, the end of the batch, the commit of the store.
Not for what clients send (see ``workloads``).
"""

from collections import deque
from collections.abc import Sequence
from typing import Any

from leveret.protocol.amqp import methods as m
from leveret.protocol.amqp.codec import method_frame
from leveret.protocol.amqp.command import Command
from leveret.protocol.amqp.constants import PROTOCOL_HEADER
from leveret.protocol.amqp.reader import CommandReader
from leveret.protocol.buffers import Part
from leveret.router.amqp.connection import AmqpConnection
from leveret.router.amqp.offer import make_offer
from leveret.router.auth import hash_password
from leveret.router.bench.load import BenchError
from leveret.router.bench.wire import FRAME_MAX
from leveret.router.broker.broker import Broker
from leveret.router.settings import Auth, Settings
from leveret.router.store.store import Store
from leveret.router.store.writer import Commit, Job
from leveret.router.values.counters import Traffic

NOW = 1_000_000  # ms of the broker's clock, which does not advance


class MemoryBroker:
    """A broker with the user guest and the virtual host /, which all clients use.

    Its store does all that the real one does except reading and writing files: a commit is over at the end of
    the turn in which it was submitted.
    """

    def __init__(self) -> None:
        self.settings = Settings(auth=Auth(password_hash="sha256"))
        self.broker = Broker(self.settings, NOW)
        self._disk = DiscardingDisk(self.settings.store.journal_size)
        self.store = self._disk.store = Store(
            self._disk,
            sync=True,
            sequence=1,
            segment=1,
            next_queue_id=1,
            wall_offset=lambda: self.broker.wall_offset,
            changed=self.broker.notify_committed,
            put_off=lambda: None,
        )
        self.broker.storage = self.store
        self.broker.add_vhost("/")
        guest = self.broker.users.add("guest", hash_password("guest", "sha256"))
        guest.permit("/", configure=".*", write=".*", read=".*")
        self.end_turn()

    def connect(self, channels: int = 1) -> "MemoryClient":
        """Return a client that has logged in and opened the channels from 1 on."""
        return MemoryClient(self, channels)

    def end_turn(self) -> None:
        """Deliver, and run the jobs of the store, until there is nothing left to do."""
        while self.broker.scheduler.end_batch() or self._disk.run():
            pass

    def flush(self) -> None:
        """Commit what no client waits for, such as acknowledgements."""
        self.store.flush()
        self.end_turn()


class DiscardingDisk:
    """A ``Disk`` that writes nothing. ``size`` is that of a journal file in bytes."""

    store: Store  # to be set before the first job

    def __init__(self, size: int) -> None:
        self._jobs: deque[Job] = deque()
        self._size = size
        self._written = 0

    def submit(self, job: Job) -> None:
        self._jobs.append(job)

    def run(self) -> bool:
        """Report all submitted jobs as done; return False if there were none."""
        if not self._jobs:
            return False
        while self._jobs:
            job = self._jobs.popleft()
            if isinstance(job, Commit):
                self._written += sum(map(len, job.parts))
            self.store.done(job, 1 + self._written // self._size, None)
        return True


class MemoryClient:
    """A client of a broker in memory."""

    def __init__(self, broker: MemoryBroker, channels: int) -> None:
        self._broker = broker
        self.outbox = CollectingOutbox()
        self._reader = CommandReader(0, 1 << 40)
        offer = make_offer(broker.settings, "0")
        self.connection = AmqpConnection(broker.broker, offer, self.outbox, SilentLog(), loopback=True)
        self.send(PROTOCOL_HEADER)
        self.send(method_frame(0, m.ConnectionStartOk({}, "PLAIN", b"\0guest\0guest")))
        self.send(method_frame(0, m.ConnectionTuneOk(2047, FRAME_MAX, 0)))
        self.send(method_frame(0, m.ConnectionOpen("/")))
        for number in range(1, channels + 1):
            self.call(m.ChannelOpen(), number)

    def send(self, data: bytes) -> None:
        """Send the bytes of one read, and let the broker do all that follows from them."""
        self.connection.receive(data)
        self._broker.end_turn()

    def call(self, method: m.Method, channel: int = 1) -> None:
        """Send a method. Raises BenchError if the broker refuses it."""
        self.send(method_frame(channel, method))
        for command in self.commands():
            if isinstance(command, m.ChannelClose | m.ConnectionClose):
                raise BenchError(f"the broker refused: {command.reply_code} {command.reply_text}")

    def commands(self) -> list[Command]:
        """Return what the broker has sent, decoded, and forget it."""
        return [command for _, command in self._reader.receive(self.take())]

    def take(self) -> bytes:
        """Return the bytes that the broker has sent, and forget them."""
        data = b"".join(self.outbox.parts)
        self.outbox.parts.clear()
        return data


class CollectingOutbox:
    """An outbox whose client reads everything at once."""

    def __init__(self) -> None:
        self.parts: list[Part] = []
        self.traffic = Traffic()
        self.size = 0
        self.closed = False

    def write(self, data: Part) -> None:
        self.parts.append(data)

    def extend(self, parts: Sequence[Part]) -> None:
        self.parts += parts

    def writable(self) -> bool:
        return True

    def overfull(self) -> bool:
        return False

    def last_sent(self) -> int:
        return NOW

    def pause(self) -> None: ...
    def resume(self) -> None: ...

    def close(self) -> None:
        self.closed = True


class SilentLog:
    """A log that keeps nothing."""

    def bind(self, **fields: Any) -> "SilentLog":
        return self

    def debug(self, event: str, **fields: Any) -> None: ...
    def info(self, event: str, **fields: Any) -> None: ...
    def warning(self, event: str, **fields: Any) -> None: ...
    def error(self, event: str, **fields: Any) -> None: ...
