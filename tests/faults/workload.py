"""Load on the broker until it is killed: publishers, consumers, transactions, changes of topology."""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from itertools import count
from random import Random
from typing import Any

import trio

from leveret.protocol.amqp import methods as m
from leveret.protocol.amqp.codec import method_frame
from tests.faults.client import LOST, Failed, FaultClient, found_of, publish_frames
from tests.faults.model import Commit, Model, Publication, Token
from tests.faults.topology import ARGUMENTS, BINDINGS, CONSUMED, EXCHANGES, FILLED, LETTERS, ROUTES

numbers = count(1)  # makes names of publishers that are never used twice


async def declare(model: Model, port: int) -> None:
    """Make the topology, or find it as it is."""
    client = FaultClient(model, Random(0))
    await client.connect(port)
    for exchange, kind in EXCHANGES.items():
        await client.call(m.ExchangeDeclare(exchange, kind, durable=True), m.ExchangeDeclareOk)
        model.topology["exchange", exchange] = True
    for queue, arguments in ARGUMENTS.items():
        await client.call(m.QueueDeclare(queue, durable=True, arguments=arguments), m.QueueDeclareOk)
        model.topology["queue", queue] = True
    for exchange, queue, key in BINDINGS:
        await client.call(m.QueueBind(queue, exchange, key), m.QueueBindOk)
    await client.call(m.ExchangeBind("fan", "outer", "k"), m.ExchangeBindOk)
    await client.client.close()


async def publisher(client: FaultClient) -> None:
    """Publish to any route, in bursts, with confirms."""
    random = client.random
    await client.confirmed()
    name = f"p{next(numbers)}"
    window = random.choice((1, 20, 500))
    burst = random.choice((1, 5, 50))
    number = 0
    while True:
        data = []
        for _ in range(random.randint(1, burst)):
            number += 1
            data.append(_publish_one(client, random, name, number))
        await client.send(*data)
        while client.waiting() > window:
            await client.receive()


def _publish_one(client: FaultClient, random: Random, name: str, number: int) -> bytes:
    exchange, key, queues = random.choice(ROUTES)
    return _pack(client, random, Publication(name, number, queues), exchange, key)


def _pack(client: FaultClient, random: Random, publication: Publication, exchange: str, key: str) -> bytes:
    """A publish with the properties that mean something to its queue."""
    publication.kept = random.random() < 0.9
    properties: dict[str, Any] = {}
    if key in ("prio", "long.prio"):
        properties["priority"] = publication.priority = random.randint(0, 4)
    elif key in ("mixed", "long.mixed"):
        soon = random.random() < 0.5
        publication.fleeting = soon and key == "mixed"
        if random.random() < 0.8 or soon:
            properties["expiration"] = str(random.randint(20, 200)) if soon else "600000"
    elif key == "drop":
        publication.fleeting = True
    return client.pack(publication, exchange, key, **properties)


async def filler(client: FaultClient, queue: str) -> None:
    """Publish to a queue so many messages that most of them cannot stay in memory; then some now and then."""
    random = client.random
    await client.confirmed()
    name = f"f{next(numbers)}"
    many = random.choice((500, 2000, 4000))
    number = 0
    while True:
        data = []
        for _ in range(200 if number < many else 1):
            number += 1
            data.append(_pack(client, random, Publication(name, number, (queue,)), "", queue))
        await client.send(*data)
        while client.waiting() > 1000 or (number >= many and client.waiting()):
            await client.receive()


async def consumer(client: FaultClient, queue: str) -> None:
    """Consume and settle in every way there is."""
    model, random = client.model, client.random
    await client.confirmed()
    prefetch = random.choice((1, 10, 100, 1000))
    await client.call(m.BasicQos(prefetch_count=prefetch), m.BasicQosOk)
    await client.call(m.BasicConsume(queue, "c"), m.BasicConsumeOk)
    held: dict[int, Token] = {}
    settled: list[Token] = []
    bad = random.choice((0.02, 0.2))  # how often messages are refused
    while True:
        await client.receive()
        while client.deliveries:
            delivery = client.deliveries.popleft()
            found = found_of(delivery, queue)
            wrong = model.deliver(found.token, queue, redelivered=found.redelivered)
            if not found.whole:
                wrong.append(f"{found.token} in {queue} has another body")
            if wrong:
                raise Failed("\n".join(wrong))
            held[delivery.method.delivery_tag] = found.token
        if len(held) >= prefetch or random.random() < 0.5:
            data = []
            while held and (len(held) > prefetch / 2 or random.random() < 0.7):
                data.append(_settle(client, queue, held, settled, bad))
            if data and random.random() < 0.3:
                data.append(client.barrier(settled))
                settled = []
            await client.send(*data)


def _settle(
    client: FaultClient, queue: str, held: dict[int, Token], settled: list[Token], bad: float
) -> bytes:
    """Settle one message, or several; return what is to be sent."""
    model, random = client.model, client.random
    tags = list(held)
    multiple = random.random() < 0.4
    tag = random.choice(tags[:50]) if multiple else random.choice(tags[:3])
    tokens = [held.pop(each) for each in tags if each == tag or (multiple and each < tag)]
    if random.random() >= bad:
        model.settling.update(tokens)
        settled += tokens
        return _frame(m.BasicAck(tag, multiple))
    if random.random() < 0.5:
        for token in tokens:
            model.returned[token] = model.returned.get(token, 0) + 1
        return _frame(m.BasicNack(tag, multiple, requeue=True))
    if queue not in LETTERS:
        model.settling.update(tokens)
        settled += tokens
    if multiple:
        return _frame(m.BasicNack(tag, multiple, requeue=False))
    return _frame(m.BasicReject(tag, requeue=False))


def _frame(method: m.Method) -> bytes:
    return method_frame(1, method)


async def transactions(client: FaultClient) -> None:
    """Publish in transactions to two queues."""
    model, random = client.model, client.random
    await client.call(m.TxSelect(), m.TxSelectOk)
    name = f"x{next(numbers)}"
    number = 0
    while True:
        commit = Commit()
        model.commits.append(commit)
        publications = []
        data = []
        for _ in range(random.randint(1, 40)):
            number += 1
            publication = Publication(name, number, (random.choice(("tx.0", "tx.1")),))
            data.append(client.pack(publication, "", publication.queues[0]))
            publications.append(publication)
        if random.random() < 0.1:
            await client.send(*data, _frame(m.TxRollback()))
            await client.expect(m.TxRollbackOk)
            model.gone.update(token for publication in publications for token in publication.tokens())
            continue
        commit.tokens += [token for publication in publications for token in publication.tokens()]
        await client.send(*data, _frame(m.TxCommit()))
        await client.expect(m.TxCommitOk)
        commit.confirmed = True
        for publication in publications:
            publication.confirmed = True


async def mover(client: FaultClient) -> None:
    """Take messages from one queue and publish them to another, each pair in a transaction."""
    model = client.model
    await client.call(m.TxSelect(), m.TxSelectOk)
    await client.call(m.BasicQos(prefetch_count=10), m.BasicQosOk)
    await client.call(m.BasicConsume("move.a", "c"), m.BasicConsumeOk)
    while True:
        while not client.deliveries:
            await client.receive()
        tokens, data, tag = [], [], 0
        while client.deliveries:
            delivery = client.deliveries.popleft()
            found = found_of(delivery, "move.a")
            wrong = model.deliver(found.token, "move.a", redelivered=found.redelivered)
            if wrong or found.token in model.moved:
                raise Failed("\n".join(wrong) or f"{found.token} was delivered after it was moved")
            tokens.append(found.token)
            mode = delivery.message.properties.delivery_mode
            data.append(publish_frames("", "move.b", delivery.message.body, delivery_mode=mode))
            tag = delivery.method.delivery_tag
        await client.send(*data, _frame(m.BasicAck(tag, multiple=True)), _frame(m.TxCommit()))
        await client.expect(m.TxCommitOk)
        model.moved.update(tokens)


async def purger(client: FaultClient) -> None:
    """Fill a queue and purge it."""
    model, random = client.model, client.random
    await client.confirmed()
    name = f"u{next(numbers)}"
    number = 0
    alive = _in_queue(model, "purged")
    most = random.choice((60, 60, 1500))
    while True:
        data = []
        for _ in range(random.randint(1, most)):
            number += 1
            publication = Publication(name, number, ("purged",))
            alive += publication.tokens()
            data.append(client.pack(publication, "", "purged"))
        await client.send(*data)
        if random.random() < 0.5:
            while client.waiting():
                await client.receive()
        if random.random() < 0.3:
            model.settling.update(alive)
            await client.call(m.QueuePurge("purged"), m.QueuePurgeOk)
            await client.send(client.barrier(alive))
            alive = []


async def churner(client: FaultClient) -> None:
    """Declare, bind, fill, unbind, delete and declare again."""
    model, random = client.model, client.random
    await client.confirmed()
    topology = model.topology
    while True:
        name = f"churn.{random.randint(0, 3)}"
        queue, binding, exchange = ("queue", name), ("binding", "churn", name), ("exchange", name)
        step = random.randint(0, 5)
        if step == 0:
            declaration = m.ExchangeDeclare(name, "topic", durable=True)
            await _change(client, exchange, True, declaration, m.ExchangeDeclareOk)
        elif step == 1:
            await _change(client, exchange, False, m.ExchangeDelete(name), m.ExchangeDeleteOk)
        elif step in (2, 3):
            await _change(client, queue, True, m.QueueDeclare(name, durable=True), m.QueueDeclareOk)
            await _change(client, binding, True, m.QueueBind(name, "churn", name), m.QueueBindOk)
            await _fill(client, name)
        elif topology.get(queue):
            if step == 4:
                await _change(client, binding, False, m.QueueUnbind(name, "churn", name), m.QueueUnbindOk)
            else:
                tokens = _in_queue(model, name)
                model.settling.update(tokens)
                topology[binding] = None
                await _change(client, queue, False, m.QueueDelete(name), m.QueueDeleteOk)
                topology[binding] = False
                model.gone.update(tokens)


def _in_queue(model: Model, queue: str) -> list[Token]:
    """What was ever published to a queue that nothing else leads to."""
    publications = model.publications.values()
    return [Token(each.publisher, each.number, queue) for each in publications if each.queues == (queue,)]


async def _change(
    client: FaultClient, thing: tuple[str, ...], there: bool, method: m.Method, answer: type
) -> None:
    before = client.model.topology.get(thing)
    client.model.topology[thing] = there if before is there else None
    await client.call(method, answer)
    client.model.topology[thing] = there


async def _fill(client: FaultClient, queue: str) -> None:
    name = f"c{next(numbers)}"
    data = [client.pack(Publication(name, number, (queue,)), "churn", queue) for number in range(1, 6)]
    await client.send(*data)
    while client.waiting() > 3:
        await client.receive()


def run(model: Model, random: Random, port: int, nursery: trio.Nursery) -> None:
    """Start a random choice of everything."""

    def start(task: Callable[..., Awaitable[None]], *args: str) -> None:
        client = FaultClient(model, Random(random.getrandbits(32)))
        nursery.start_soon(_until_lost, client, port, task, args)

    for _ in range(random.randint(1, 3)):
        start(publisher)
    for queue in CONSUMED:
        if random.random() < (0.2 if queue in FILLED else 0.6):
            start(consumer, queue)
    for task in (transactions, mover, purger, churner):
        if random.random() < 0.6:
            start(task)
    if random.random() < 0.5:
        start(filler, random.choice(FILLED))


async def _until_lost(
    client: FaultClient, port: int, task: Callable[..., Awaitable[None]], args: Sequence[str]
) -> None:
    """Run a task until its broker is gone."""
    with suppress(*LOST):
        await client.connect(port)
        try:
            await task(client, *args)
        finally:
            await client.client.stream.aclose()
