"""Publishers and readers of a stream in a broker that is killed, and the checks of the stream afterwards.

Every offset that anybody was told of belongs to one message for ever; whatever was confirmed is in the stream
once, in its publisher's order; and a named consumer goes on where it was, give or take what nobody knows to
be on disk.
"""

from collections import deque
from random import Random

import trio

from leveret.protocol.amqp import methods as m
from leveret.protocol.amqp.codec import method_frame
from leveret.protocol.amqp.command import Acks, Delivery
from leveret.protocol.amqp.message import Message
from tests.faults.client import Failed, body_of, publish_frames
from tests.faults.model import Model
from tests.faults.topology import FAN
from tests.router.server.client import Client, Closed

STREAM = "log"
NAME = "app"  # of the consumer whose position is kept
ARGUMENTS = {"x-queue-type": "stream", "x-stream-max-segment-size-bytes": 300_000}

Identity = tuple[str, int]  # a publisher, and its number of a message


class StreamModel:
    """What is known of the stream through all crashes. Everything is noted before it is sent."""

    def __init__(self) -> None:
        self.at: dict[int, Identity] = {}
        self.confirmed: dict[str, int] = {}  # up to which number, by publisher
        self.sent: dict[str, int] = {}
        self.surely = 0  # the position is this one at least,
        self.most = 0  # and this one at most, once it is one
        self.never: set[Identity] = set()  # lost in a crash, and nobody was told otherwise
        self.clients: list[Client] = []  # of the tasks below, which may be cancelled

    async def disconnect(self) -> None:
        """Close the connections of all tasks."""
        while self.clients:
            await trio.aclose_forcefully(self.clients.pop().stream)

    def deliver(self, message: Message) -> tuple[int, Identity]:
        """A delivery came. Raises Failed when it cannot be."""
        publisher, number, size, rest = message.body.split(b" ", 3)
        identity = publisher.decode(), int(number)
        offset = message.headers["x-stream-offset"]
        assert isinstance(offset, int)
        if rest != bytes([97 + identity[1] % 26]) * int(size):
            raise Failed(f"{identity} at offset {offset} has another body")
        known = self.at.setdefault(offset, identity)
        if known != identity:
            raise Failed(f"{identity} is at offset {offset}, which was that of {known}")
        return offset, identity


Port = int | tuple[str, int]  # of this machine, or an address


async def connect(port: Port, model: StreamModel | None = None) -> Client:
    address = ("127.0.0.1", port) if isinstance(port, int) else port
    client = Client(await trio.open_tcp_stream(*address))
    if model is not None:
        model.clients.append(client)
    try:
        return await client.login()
    except AssertionError as error:
        if isinstance(error.args[0], m.ConnectionClose):
            raise Closed from None
        raise


async def declare(port: Port) -> None:
    client = await connect(port)
    await client.call(m.QueueDeclare(STREAM, durable=True, arguments=ARGUMENTS), m.QueueDeclareOk)
    await client.call(m.QueueBind(STREAM, "fan", ""), m.QueueBindOk)
    await client.close()


async def publisher(model: StreamModel, random: Random, port: Port, name: str) -> None:
    """Publish numbered messages, beginning with some that were sent before; they are stored once."""
    client = await connect(port, model)
    await client.call(m.ConfirmSelect(), m.ConfirmSelectOk)
    number = max(0, model.confirmed.get(name, 0) - random.choice((0, 1, 50)))
    window, burst = random.choice((1, 20, 500)), random.choice((1, 5, 50))
    waiting: deque[int] = deque()  # numbers by their confirms
    tag = 0
    while True:
        data = []
        for _ in range(random.randint(1, burst)):
            number += 1
            waiting.append(number)
            headers = {"x-publisher-name": name, "x-publishing-id": number}
            body = body_of(name, number, random.choice((10, 100, 1000)))
            data.append(publish_frames("", STREAM, body, headers=headers))
        model.sent[name] = max(number, model.sent.get(name, 0))
        await client.stream.send_all(b"".join(data))
        while len(waiting) > window:
            confirmed = await _confirm(client)
            while waiting and tag < confirmed:
                tag += 1
                model.confirmed[name] = max(waiting.popleft(), model.confirmed.get(name, 0))


async def _confirm(client: Client) -> int:
    """Up to which number publishes are confirmed."""
    while True:
        match await client.next():
            case m.BasicAck() as ack:
                return ack.delivery_tag
            case Acks() as acks:
                return acks.tags[-1]
            case m.ConnectionBlocked() | m.ConnectionUnblocked():
                pass
            case m.ConnectionClose(reply_code=320):
                raise Closed
            case other:
                raise Failed(f"came {other}")


async def consume(client: Client, prefetch: int, **arguments: object) -> None:
    await client.call(m.BasicQos(prefetch_count=prefetch), m.BasicQosOk)
    named = {f"x-stream-{name.replace('_', '-')}": value for name, value in arguments.items()}
    await client.call(m.BasicConsume(STREAM, "c", arguments=named), m.BasicConsumeOk)


async def reader(model: StreamModel, random: Random, port: Port) -> None:
    """Read under a name, and acknowledge: before a publish that is confirmed, so that it is on disk then."""
    client = await connect(port, model)
    await client.call(m.ConfirmSelect(), m.ConfirmSelectOk)
    await consume(client, random.choice((1, 10, 300)), consumer_name=NAME)
    expected: int | None = None
    behind: deque[int] = deque()  # positions that are on disk when these publishes are
    told = 0  # of which so many are
    while True:
        match await client.next():
            case Delivery(method=m.BasicDeliver() as method, message=message):
                offset, _ = model.deliver(message)
                if expected is None:
                    check_position(model, offset)
                elif offset != expected:
                    raise Failed(f"offset {offset} came behind {expected - 1}")
                expected = offset + 1
                if random.random() < 0.3:
                    model.most = max(model.most, expected)
                    behind.append(expected)
                    ack = method_frame(1, m.BasicAck(method.delivery_tag, multiple=True))
                    barrier = publish_frames("", "barrier", b"barrier", delivery_mode=2)
                    await client.stream.send_all(ack + barrier)
                elif not client.waiting:
                    model.most = max(model.most, expected)
                    await client.send(m.BasicAck(method.delivery_tag, multiple=True))
            case m.BasicAck(delivery_tag=tag):
                told = _told(model, behind, told, tag)
            case Acks(tags=tags):
                told = _told(model, behind, told, tags[-1])
            case m.ConnectionBlocked() | m.ConnectionUnblocked():
                pass
            case m.ConnectionClose(reply_code=320):
                raise Closed
            case other:
                raise Failed(f"came {other}")


def _told(model: StreamModel, behind: deque[int], told: int, tag: int) -> int:
    for _ in range(tag - told):
        model.surely = max(model.surely, behind.popleft())
    return tag


def check_position(model: StreamModel, offset: int) -> None:
    """A consumer that comes back goes on at this offset."""
    if model.surely and not model.surely <= offset <= model.most:
        raise Failed(f"{NAME} goes on at {offset}, and was at {model.surely} to {model.most}")


async def looker(model: StreamModel, random: Random, port: Port) -> None:
    """Read from anywhere."""
    client = await connect(port, model)
    start = random.choice(["first", "last", "next", random.randint(0, max(model.at, default=0))])
    await consume(client, 100, offset=start)
    expected: int | None = None
    while True:
        command = await client.next()
        if isinstance(command, Delivery):
            offset, _ = model.deliver(command.message)
            if expected is not None and offset != expected:
                raise Failed(f"offset {offset} came behind {expected - 1}")
            expected = offset + 1
            await client.send(m.BasicAck(0, multiple=True))
        elif isinstance(command, m.ConnectionClose):
            raise Closed


async def verify(model: StreamModel, others: Model, port: Port) -> int:
    """Look at all of the stream; return how many messages there are. Raises Failed."""
    client = await connect(port)
    count = await client.count(STREAM)
    found: dict[Identity, int] = {}
    last: dict[str, int] = {}
    if count:
        await consume(client, 1000, offset="first")
    for expected in range(count):
        delivery = await client.expect(Delivery)
        offset, (name, number) = model.deliver(delivery.message)
        if offset != expected:
            raise Failed(f"offset {offset} came where {expected} should be")
        if (name, number) in found:
            raise Failed(f"{name} {number} is at {found[name, number]} and at {offset}")
        if number <= last.get(name, 0):
            raise Failed(f"{name} {number} is behind number {last[name]}")
        found[name, number] = offset
        last[name] = number
        if not client.waiting:
            await client.send(m.BasicAck(0, multiple=True))
    lost = [offset for offset in model.at if offset >= count]
    if lost:
        raise Failed(f"offset {lost[0]} was told of, and the stream ends at {count}")
    for name, number in model.confirmed.items():
        if any((name, each) not in found for each in range(1, number + 1)):
            raise Failed(f"not everything up to {name} {number} is there, which was confirmed")
    for publication in others.publications.values():
        identity = publication.publisher, publication.number
        if publication.queues[:4] == FAN and identity not in found:
            if publication.confirmed and identity not in model.never:
                raise Failed(f"{identity} was confirmed, and is not there")
            model.never.add(identity)
    await client.close()
    await _verify_position(model, count, port)
    return count


async def _verify_position(model: StreamModel, count: int, port: Port) -> None:
    client = await connect(port)
    if count and model.surely:
        await consume(client, 1, consumer_name=NAME)
        await client.stream.send_all(publish_frames("", STREAM, body_of(f"end{count}", 1, 1)))
        delivery = await client.expect(Delivery)
        offset, _ = model.deliver(delivery.message)
        check_position(model, offset)
    await client.stream.aclose()
