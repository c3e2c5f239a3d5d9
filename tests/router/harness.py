"""A broker without sockets: an injected clock, sessions whose sinks remember what the client would have been
sent.
"""

from collections.abc import Sequence
from typing import Any

from leveret.protocol.amqp.message import Message
from leveret.protocol.amqp.properties import Properties
from leveret.protocol.errors import AccessRefused, AmqpError
from leveret.router.broker.broker import Broker
from leveret.router.queue.consumers import Consumer, Receiver
from leveret.router.queue.entry import Entry
from leveret.router.queue.queue import Queue
from leveret.router.session.session import Session
from leveret.router.session.topology import Topology
from leveret.router.settings import Auth, Settings

START = 1_000_000  # ms of the injected clock


def message(
    body: str = "", key: str = "", exchange: str = "", mandatory: bool = False, **properties: Any
) -> Message:
    return Message.build(exchange, key, Properties(**properties), body.encode(), mandatory=mandatory)


def bodies(entries: Sequence[Entry | Message]) -> list[str]:
    return [(entry.message if isinstance(entry, Entry) else entry).body.decode() for entry in entries]


class AnyUser:
    """A user who may do what no pattern of ``denied`` forbids, and remembers what it was asked."""

    def __init__(self, name: str = "alice", tags: frozenset[str] = frozenset()) -> None:
        self.name = name
        self.tags = tags
        self.generation = 0
        self.asked: list[str] = []
        self.denied: set[str] = set()

    def _ask(self, question: str) -> None:
        self.asked.append(question)
        if question in self.denied:
            raise AccessRefused(question)

    def check(self, vhost: str, operation: str, kind: str, name: str) -> None:
        self._ask(f"{operation} {kind} {name or 'amq.default'}")

    def check_route(self, vhost: str, exchange: str, operation: str, routing_key: str) -> None:
        self._ask(f"{operation} topic {exchange} {routing_key}")

    def deny(self, *questions: str) -> None:
        self.denied.update(questions)
        self.generation += 1


class Client:
    """One session, and all that its client would have seen."""

    def __init__(self, node: "Node", user: AnyUser, owner: object) -> None:
        self.node = node
        self.user = user
        self.room = True
        self.full = False
        self.delivered: list[tuple[str, int, Entry]] = []  # consumer tag, delivery tag, entry
        self.redelivered: list[bool] = []
        self.back: list[Message] = []
        self.ended: list[str] = []
        self.failed: list[AmqpError] = []
        self.owed: list[int] = []
        self.crashed: list[Exception] = []
        self.session = Session(node.broker, node.vhost, user, owner, self)  # type: ignore[arg-type]
        self.topology = Topology(node.vhost, user, owner)  # type: ignore[arg-type]

    # -- SessionSink

    def writable(self) -> bool:
        return self.room

    def overfull(self) -> bool:
        return self.full

    def write_deliveries(self, receiver: Receiver, first_tag: int, entries: Sequence[Entry]) -> None:
        for tag, entry in enumerate(entries, first_tag):
            self.delivered.append((receiver.tag, tag, entry))
            self.redelivered.append(entry.returns > 0)

    def owes_confirms(self, batch: int) -> None:
        self.owed.append(batch)

    def returned(self, message: Message, code: int, text: str) -> None:
        assert (code, text) == (312, "NO_ROUTE")
        self.back.append(message)

    def cancelled(self, consumer: Consumer) -> None:
        self.ended.append(consumer.tag)

    def crash(self, error: Exception) -> None:
        self.crashed.append(error)
        self.session.close()

    def fail(self, error: AmqpError) -> None:
        self.failed.append(error)
        self.session.close()

    # -- what tests do

    def publish(self, body: str = "", key: str = "q", exchange: str = "", **properties: Any) -> None:
        self.session.publish(message(body, key, exchange, **properties))

    def consume(
        self, queue: str = "q", tag: str = "c", *, prefetch: int | None = None, **options: Any
    ) -> None:
        if prefetch is not None:
            self.session.set_prefetch(prefetch, shared=False)
        self.session.consume(queue, tag, **options)

    def get(self, queue: str = "q", *, no_ack: bool = True) -> str | None:
        taken = self.session.get(queue, no_ack=no_ack)
        return None if taken is None else taken[1].message.body.decode()

    def seen(self, tag: str | None = None) -> list[str]:
        """Bodies delivered so far, of one consumer or of all."""
        return bodies([entry for consumer, _, entry in self.delivered if tag in (None, consumer)])

    def take(self) -> list[str]:
        """Flush, and return the bodies delivered since the last time."""
        self.node.settle()
        seen = self.seen()
        self.delivered.clear()
        self.redelivered.clear()
        return seen

    def tags(self) -> list[int]:
        return [tag for _, tag, _ in self.delivered]


class Node:
    """A broker with one virtual host, and its clock."""

    def __init__(self, **settings: Any) -> None:
        self.broker = Broker(Settings(**{"auth": Auth(password_hash="sha256"), **settings}), START)
        self.vhost = self.broker.add_vhost("/")

    def client(self, user: AnyUser | None = None, owner: object | None = None) -> Client:
        return Client(self, user or AnyUser(), owner or object())

    def queue(self, name: str = "q", **arguments: Any) -> Queue:
        """Declare a queue; ``max_length=3`` stands for the argument x-max-length."""
        properties = ("durable", "auto_delete", "exclusive")
        options = {key: arguments.pop(key) for key in properties if key in arguments}
        named = {f"x-{key.replace('_', '-')}": value for key, value in arguments.items()}
        if named.get("x-queue-type") == "quorum":
            options["durable"] = True
        return self.vhost.declare_queue(name, arguments=named, **options)

    def settle(self) -> int:
        """Flush until nothing is left over; return how many turns that took."""
        turns = 1
        while self.broker.scheduler.end_batch():
            turns += 1
        return turns

    def at(self, now: int) -> None:
        """Let time pass up to ``now`` ms after the start, calling every timer when it is due."""
        while True:
            self.settle()
            due = self.broker.timers.next_deadline()
            if due is None or due > START + now:
                break
            self.broker.now = max(self.broker.now, due)
            self.broker.on_timers()
        self.broker.now = START + now
        self.settle()

    def contents(self, name: str = "q") -> list[str]:
        """The bodies of a queue's ready messages, in the order they would leave."""
        return bodies(list(self.vhost.queues[name].ready))
