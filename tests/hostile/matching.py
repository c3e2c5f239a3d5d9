"""Matching: few messages that many bindings, or expensive ones, are compared with."""

from urllib.parse import quote

from leveret.protocol.amqp import methods as m
from leveret.protocol.amqp.properties import Properties
from tests.hostile.scenario import Attack, Family, call_all, declare, flood, publish_many, served
from tests.router.server.client import publish_frames

MATCHING = Family("matching")
scenario = MATCHING.scenario
SELECTOR = "x-selector"


@scenario(short=1 / 10)
async def hash_words(attack: Attack) -> None:
    """100 messages with long keys for 1,000 topic bindings with several #."""
    client = await attack.client()
    await declare(client, 1, {"x-max-length": 10})
    keys = [f"#.a.#.{number}.#.b.#.c.#" for number in range(attack.many(1000))]
    await call_all(client, [m.QueueBind("q0", "amq.topic", key) for key in keys])
    words = [".".join(["a", "b", "c", str(number)] * 30)[:255] for number in range(100)]
    await client.stream.send_all(b"".join(publish_frames(key, exchange="amq.topic") for key in words))
    await served(client)


@scenario(short=1 / 10)
async def star_words(attack: Attack) -> None:
    """1,000 messages with 128 words for 5,000 topic bindings of stars."""
    client = await attack.client()
    await declare(client, 1, {"x-max-length": 10})
    keys = [
        ".".join("*" if number >> bit & 1 else "a" for bit in range(13))
        for number in range(attack.many(5000))
    ]
    await call_all(client, [m.QueueBind("q0", "amq.topic", key + ".#.a") for key in keys])
    published = [
        publish_frames(".".join("a" * 127) + f".{number % 9}", exchange="amq.topic") for number in range(1000)
    ]
    await client.stream.send_all(b"".join(published))
    await served(client)


@scenario(short=1 / 4)
async def like_selectors(attack: Attack) -> None:
    """40 messages with a header of 2 kB for 100 bindings with selectors with LIKE and _."""
    client = await attack.client()
    await declare(client, 1, {})
    bound = [
        m.QueueBind("q0", "amq.fanout", str(number), arguments={SELECTOR: f"h LIKE '%a_a_%b_{number}%c'"})
        for number in range(attack.many(100))
    ]
    await call_all(client, bound)
    content = publish_frames("", exchange="amq.fanout", properties=Properties(headers={"h": "ab" * 1000}))
    await client.stream.send_all(content * 40)
    await served(client)


@scenario(short=1)
async def long_header(attack: Attack) -> None:
    """40 messages with a header of 100 kB for one binding with a selector."""
    client = await attack.client()
    await declare(client, 1, {})
    arguments: dict[str, object] = {SELECTOR: "h LIKE '%a_b%a__b%a___b%x'"}
    await client.call(m.QueueBind("q0", "amq.fanout", arguments=arguments), m.QueueBindOk)
    content = publish_frames("", exchange="amq.fanout", properties=Properties(headers={"h": "a" * 100_000}))
    await client.stream.send_all(content * 40)
    await served(client)


@scenario(short=1 / 10)
async def exchange_graph(attack: Attack) -> None:
    """200 messages through 200 exchanges bound to each other (39,800 bindings) while one binding changes."""
    client = await attack.client()
    names = [f"x{number}" for number in range(attack.many(200))]
    await call_all(client, [m.ExchangeDeclare(name, "fanout") for name in names])
    await call_all(client, [m.ExchangeBind(to, at) for to in names for at in names if to != at])
    await declare(client, 1, {"x-max-length": 10}, bind=names[-1])
    for number in range(200):
        await client.stream.send_all(publish_frames(str(number), exchange=names[0]))
        change = m.ExchangeUnbind if number % 2 else m.ExchangeBind
        await call_all(client, [change(names[1], names[0], "changes")])
    assert await client.count("q0") == 10


@scenario()
async def headers_exchange(attack: Attack) -> None:
    """1,000 messages for 10,000 bindings of a headers exchange."""
    client = await attack.client()
    await declare(client, 1, {"x-max-length": 10})
    count = attack.many(10_000)
    arguments = [{"x-match": "any", "same": "yes", f"h{number}": number} for number in range(count)]
    await call_all(client, [m.QueueBind("q0", "amq.headers", arguments=each) for each in arguments])
    message = Properties(headers={"same": "yes", **{f"h{number}": -1 for number in range(300)}})
    content = publish_frames("", exchange="amq.headers", properties=message)
    for _ in range(attack.many(1000)):
        await client.stream.send_all(content)
    await served(client)


@scenario(short=1 / 10)
async def large_header_tables(attack: Attack) -> None:
    """400 messages with header tables of 120 kB for 100 bindings of a headers exchange and 50 selectors."""
    client = await attack.client()
    await declare(client, 1, {"x-max-length": 10})
    await call_all(client, [m.QueueBind("q0", "amq.headers", arguments={f"h{n}": "x"}) for n in range(100)])
    selectors = [f"h{number} = 'x' OR h{number + 1} IS NULL" for number in range(50)]
    await call_all(
        client, [m.QueueBind("q0", "amq.headers", arguments={SELECTOR: each}) for each in selectors]
    )
    headers = {f"h{number}": "a text" for number in range(6000)}
    content = publish_frames("", exchange="amq.headers", properties=Properties(headers=headers))
    for _ in range(attack.many(400)):
        await client.stream.send_all(content)
    await served(client)


@scenario()
async def heavy_hash_weights(attack: Attack) -> None:
    """100 queues with weights of 10^6 at a consistent-hash exchange, and 20,000 keys."""
    client = await attack.client()
    await client.call(m.ExchangeDeclare("hash", "x-consistent-hash"), m.ExchangeDeclareOk)
    await declare(client, 100, {"x-max-length": 10})
    await call_all(client, [m.QueueBind(f"q{number}", "hash", "1000000") for number in range(100)])
    frames = [publish_frames(f"key{number}", exchange="hash") for number in range(attack.many(20_000))]
    await client.stream.send_all(b"".join(frames))
    await served(client)


@scenario()
async def binds_in_one_write(attack: Attack) -> None:
    """100,000 queue.bind in one write, and as many queue.unbind."""
    client = await attack.client()
    await declare(client, 1, {})
    keys = [f"key.{number}.*" for number in range(attack.many(100_000))]
    await flood(client, [m.QueueBind("q0", "amq.topic", key) for key in keys])
    await flood(client, [m.QueueUnbind("q0", "amq.topic", key) for key in keys])


@scenario()
async def bindings_of_a_deleted_queue(attack: Attack) -> None:
    """A queue with 50,000 bindings is deleted, and an exchange with as many."""
    client = await attack.client()
    await client.call(m.ExchangeDeclare("x", "topic"), m.ExchangeDeclareOk)
    for end in (m.QueueDelete("q0"), m.ExchangeDelete("x")):
        await declare(client, 1, {})
        keys = [f"#.{number}.*" for number in range(attack.many(50_000))]
        await call_all(client, [m.QueueBind("q0", "x", key) for key in keys])
        await call_all(client, [end])


@scenario()
async def new_routing_keys(attack: Attack) -> None:
    """200,000 messages, each with a routing key of its own of 200 bytes, to a topic exchange."""
    client = await attack.client()
    await declare(client, 1, {"x-max-length": 10})
    await call_all(client, [m.QueueBind("q0", "amq.topic", f"#.k{number}") for number in range(100)])
    for start in range(0, attack.many(200_000), 1000):
        keys = [f"{number}.".ljust(190, "w") + f".k{number % 100}" for number in range(start, start + 1000)]
        await client.stream.send_all(b"".join(publish_frames(key, exchange="amq.topic") for key in keys))
    await served(client)


@scenario()
async def changes_between_publishes(attack: Attack) -> None:
    """2,000 times bind, publish and unbind at an exchange with 2,000 queues."""
    client = await attack.client()
    await declare(client, attack.many(2000), {"x-max-length": 1}, bind="amq.fanout")
    for number in range(0, attack.many(2000)):
        bound = m.QueueBind("q0", "amq.fanout", str(number))
        await call_all(client, [bound])
        await client.stream.send_all(publish_frames("", exchange="amq.fanout"))
        await call_all(client, [m.QueueUnbind("q0", "amq.fanout", str(number))])


@scenario(short=1)
async def deep_selector(attack: Attack) -> None:
    """Selectors at the limits, and of 60 kB: nested in parentheses and NOT, and long lists."""
    selectors = []
    for size in (4000, 60_000):
        selectors.append("(" * (size // 2 - 10) + "a = 1" + ")" * (size // 2 - 10))
        selectors.append("NOT " * (size // 4 - 10) + "a = 1")
        selectors.append("a IN (" + ", ".join(f"'{number}'" for number in range(size // 8)) + ")")
        selectors.append(" + ".join(["a"] * (size // 5)) + " > 1")
    for selector in selectors:
        client = await attack.client()
        await declare(client, 1, {})
        await client.send(m.QueueBind("q0", "amq.fanout", arguments={SELECTOR: selector}))
        if isinstance(await client.next(), m.QueueBindOk):
            content = publish_frames("", exchange="amq.fanout", properties=Properties(headers={"a": "b"}))
            await client.stream.send_all(content * 100)
            await served(client)


@scenario(short=1 / 10)
async def selectors_from_everywhere(attack: Attack) -> None:
    """30 selectors of 4 kB for bindings, streams, the API, definitions and STOMP subscriptions."""
    client, stomp = await attack.client(), await attack.stomp()
    await declare(client, 1, {})
    stream = {"x-queue-type": "stream"}
    await client.call(m.QueueDeclare("s", durable=True, arguments=stream), m.QueueDeclareOk)
    content = publish_frames("", exchange="amq.fanout", properties=Properties(headers={"h": "a" * 1000}))
    await call_all(client, [m.QueueBind(queue, "amq.fanout") for queue in ("q0", "s")])
    await client.stream.send_all(content * 300)
    await served(client)
    await client.call(m.BasicQos(0, 100, False), m.BasicQosOk)
    for number in range(attack.many(30)):
        selector = " OR ".join(f"h = 'value {each}'" for each in range(number, number + 200))
        arguments: dict[str, object] = {SELECTOR: selector}
        bindings = f"/api/bindings/{attack.vhost}/e/amq.topic"
        body = {"routing_key": str(number), "arguments": arguments}
        binding = {"source": "amq.headers", "destination": "q0", "destination_type": "queue", **body}
        await client.call(m.QueueBind("q0", "amq.direct", arguments=arguments), m.QueueBindOk)
        await client.call(m.ExchangeBind("amq.match", "amq.direct", arguments=arguments), m.ExchangeBindOk)
        await client.call(m.BasicConsume("s", str(number), arguments=arguments), m.BasicConsumeOk)
        await client.call(m.BasicCancel(str(number)), m.BasicCancelOk)
        await client.call(m.QueueUnbind("q0", "amq.direct", arguments=arguments), m.QueueUnbindOk)
        await client.call(
            m.ExchangeUnbind("amq.match", "amq.direct", arguments=arguments), m.ExchangeUnbindOk
        )
        await attack.ask(f"{bindings}/q/q0", "POST", body, refused=True)
        await attack.ask(f"{bindings}/e/amq.match", "POST", body, refused=True)
        await attack.ask(f"/api/definitions/{attack.vhost}", "POST", {"bindings": [binding]}, refused=True)
        await attack.ask(f"/api/queues/{attack.vhost}/q0/messages?selector={quote(selector)}")
        await attack.ask(f"/api/queues/{attack.vhost}/q0/messages/delete", "POST", {"selector": selector})
        head = f"SUBSCRIBE\nid:{number}\ndestination:/topic/a\nreceipt:r\n{SELECTOR}:{selector}\n\n\0"
        await stomp.send_all(head.encode())
        received = b""
        while b"RECEIPT" not in received:
            piece = await stomp.receive_some()
            assert piece, f"refused: {received!r}"
            received += piece
        await stomp.send_all(f"UNSUBSCRIBE\nid:{number}\n\n\0".encode())


@scenario(short=1)
async def permission_patterns(attack: Attack) -> None:
    """A user whose permission patterns backtrack publishes and declares under 300 names."""
    await attack.add_user("patterns")
    pattern = "^(a+)+$|^(?!x)(a|aa)+$"
    permissions = {"configure": pattern, "write": pattern, "read": pattern}
    await attack.ask(f"/api/permissions/{attack.vhost}/patterns", "PUT", permissions)
    topic = {"exchange": "amq.topic", "write": pattern, "read": pattern}
    await attack.ask(f"/api/topic-permissions/{attack.vhost}/patterns", "PUT", topic, refused=True)
    for number in range(300):
        client = await attack.client(user="patterns")
        await client.send(m.QueueDeclare("a" * 200 + f"b{number}"))
        await client.next()
        await client.stream.aclose()


@scenario()
async def random_exchange(attack: Attack) -> None:
    """100,000 messages to a random exchange with 10,000 queues."""
    client = await attack.client()
    await client.call(m.ExchangeDeclare("random", "x-random"), m.ExchangeDeclareOk)
    await declare(client, attack.many(10_000), {"x-max-length": 1}, bind="random")
    await publish_many(client, publish_frames("", exchange="random"), attack.many(100_000))
    await served(client)
