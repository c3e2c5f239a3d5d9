"""A broker in memory with a clock that stands still, and connections to it without sockets."""

from math import inf

from leveret.protocol.amqp.connection import Offer
from leveret.router.amqp.connection import AmqpConnection
from leveret.router.amqp.offer import make_offer
from leveret.router.auth import hash_password
from leveret.router.broker.broker import Broker
from leveret.router.settings import Amqp, Auth, Settings
from leveret.router.values.counters import Traffic
from tests.router.amqp.client import Client
from tests.router.work import SLOW, Later

PASSWORD_HASH = hash_password("guest", "sha256")


class FakeOutbox:
    """What the broker wrote to one connection. ``full`` stands for a client that does not read, ``paused``
    for one that the broker does not read from.
    """

    def __init__(self, world):
        self.data = []
        self.full = False
        self.closed = False
        self.paused = False
        self.traffic = Traffic()
        self.size = 0
        self._world = world
        self._last_sent = world.broker.now

    def write(self, data):
        assert not self.closed
        self.data.append(data)
        self._last_sent = self._world.broker.now

    def extend(self, parts):
        self.write(b"".join(parts))

    def writable(self):
        return not self.full

    def overfull(self):
        return False

    def last_sent(self):
        return self._last_sent

    def pause(self):
        self.paused = True

    def resume(self):
        self.paused = False

    def close(self):
        self.closed = True


class FakeLog:
    """Keeps what is logged as (level, event, fields)."""

    def __init__(self, lines=None, fields=None):
        self.lines = [] if lines is None else lines
        self._fields = fields or {}

    def bind(self, **fields):
        return FakeLog(self.lines, self._fields | fields)

    def _keep(self, level, event, fields):
        self.lines.append((level, event, self._fields | fields))

    def debug(self, event, **fields):
        self._keep("debug", event, fields)

    def info(self, event, **fields):
        self._keep("info", event, fields)

    def warning(self, event, **fields):
        self._keep("warning", event, fields)

    def error(self, event, **fields):
        self._keep("error", event, fields)


class InMemory:
    """A transport to a broker in this process: every piece sent is a batch."""

    def __init__(self, world, loopback=True):
        self.broker = world.broker
        self.outbox = FakeOutbox(world)
        self.log = FakeLog()
        self._world = world
        self.connection = AmqpConnection(world.broker, world.offer, self.outbox, self.log, loopback=loopback)

    def send(self, data):
        if not self.outbox.closed:
            self.connection.receive(data)
            self._world.flush()

    def receive(self):
        data = b"".join(self.outbox.data)
        self.outbox.data.clear()
        return data

    def hung_up(self):
        return self.outbox.closed


class World:
    """One broker with the user guest (password guest) and the virtual host /."""

    def __init__(self, storage=None, **amqp):
        self.settings = Settings(amqp=Amqp(**amqp), auth=Auth(password_hash="sha256"))
        self.broker = Broker(self.settings, now=1_000_000, storage=storage)
        self.offer: Offer = make_offer(self.settings, "0.0.1")
        self.vhost = self.broker.add_vhost("/")
        self.guest = self.broker.users.add("guest", PASSWORD_HASH, tags=("administrator",))
        self.guest.permit("/", configure=".*", write=".*", read=".*")

    def user(self, name, *, configure="", write="", read="", vhost="/"):
        """Add a user with the password "guest"."""
        user = self.broker.users.add(name, PASSWORD_HASH)
        if vhost:
            user.permit(vhost, configure=configure, write=write, read=read)
        return user

    def with_slow_login(self):
        """Have offloaded work wait for ``broker.work.step()``; add the user "slow" with the password "pw"."""
        self.broker.work = Later()
        self.broker.users.add("slow", SLOW).permit("/", configure=".*", write=".*", read=".*")
        return self

    def client(self, *, loopback=True):
        """A client that has said nothing yet."""
        return Client(InMemory(self, loopback))

    def connect(self, **options):
        """A client with an open connection and channel 1."""
        return self.client().open(**options)

    def flush(self):
        while self.broker.scheduler.end_batch():
            pass

    def one_slice_a_turn(self):
        """Do one slice a turn. Return the function of a turn, which returns True if work is left."""
        self.broker.budget.clock = lambda: inf
        self.flush = lambda: None
        return self.broker.scheduler.end_batch

    def commit(self):
        """Have a ``LateStorage`` commit, and tell those who wait for it."""
        self.broker.storage.commit()
        self.broker.notify_committed()
        self.flush()

    def advance(self, ms):
        """Let time pass in steps that miss no deadline."""
        end = self.broker.now + ms
        while (deadline := self.broker.timers.next_deadline()) is not None and deadline <= end:
            self.broker.now = max(self.broker.now, deadline)
            self.broker.on_timers()
            self.flush()
        self.broker.now = end


def finish(turn):
    """Call ``turn`` until no work is left; return the number of turns."""
    turns = 1
    while turn():
        turns += 1
    return turns
