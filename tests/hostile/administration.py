"""Administration: the HTTP API is asked for much, or changes much at once."""

import json
from random import Random

import trio

from leveret.protocol.amqp import methods as m
from tests.hostile.scenario import (
    GUEST,
    Attack,
    Family,
    basic,
    call_all,
    declare,
    fill,
    many_streams,
    read_to_end,
)
from tests.router.server.client import publish_frames

ADMINISTRATION = Family("administration")
scenario = ADMINISTRATION.scenario
HEAD = f"Host: localhost\r\nAuthorization: {GUEST}\r\n"


def queue_entries(vhost: str, count: int) -> list[dict[str, object]]:
    """Queues as definitions have them."""
    rest = {"vhost": vhost, "durable": False, "auto_delete": False, "arguments": {}}
    return [{"name": f"q{number}", **rest} for number in range(count)]


async def import_queues(attack: Attack, count: int) -> None:
    await attack.ask("/api/definitions", "POST", {"queues": queue_entries(attack.vhost, count)})


@scenario(memory=700)
async def definitions(attack: Attack) -> None:
    """Definitions with 20,000 durable queues and bindings are imported twice and exported."""
    names = [f"q{number}" for number in range(attack.many(20_000))]
    rest = {"vhost": attack.vhost, "arguments": {}}
    queues = [{"name": name, "durable": True, "auto_delete": False, **rest} for name in names]
    bindings = [
        {"source": "amq.topic", "destination": name, "destination_type": "queue", "routing_key": name, **rest}
        for name in names
    ]
    for _ in range(2):
        await attack.ask("/api/definitions", "POST", {"queues": queues, "bindings": bindings})
    exported = json.loads(await attack.ask("/api/definitions"))
    assert len([each for each in exported["queues"] if each["vhost"] == attack.vhost]) == len(names)


@scenario()
async def policies(attack: Attack) -> None:
    """A policy for 20,000 queues, which then expire all at once."""
    client = await attack.client()
    await declare(client, count := attack.many(20_000), {})
    policy = {"pattern": "^q", "definition": {"expires": 500}}
    await attack.ask(f"/api/policies/{attack.vhost}/p", "PUT", policy)
    path = f"/api/queues/{attack.vhost}?page=1&page_size=1"
    while json.loads(await attack.ask(path))["total_count"] > count / 10:
        await attack.ask("/api/overview")


@scenario()
async def policy_changes(attack: Attack) -> None:
    """30 changes of a policy for 20,000 queues while they are made."""
    await import_queues(attack, attack.many(20_000))
    for number in range(30):
        policy = {"pattern": "^q", "definition": {"max-length": 1000 + number}, "priority": number}
        await attack.ask(f"/api/policies/{attack.vhost}/p", "PUT", policy)


@scenario()
async def delete_vhost(attack: Attack) -> None:
    """A virtual host with 20,000 queues is deleted."""
    await attack.ask("/api/vhosts/doomed", "PUT")
    document = {"queues": queue_entries("doomed", attack.many(20_000))}
    await attack.ask("/api/definitions", "POST", document)
    await attack.ask("/api/vhosts/doomed", "DELETE")


@scenario(memory=800)
async def body(attack: Attack) -> None:
    """JSON bodies of 17 MB for the API: of many values, and of a message with one payload."""
    values = {f"key{number}": ["text", number, {"a": None}] for number in range(attack.many(400_000))}
    message = {"properties": {"headers": {"h": values}}, "routing_key": "q0", "payload": ""}
    message["payload_encoding"] = "string"
    path = f"/api/exchanges/{attack.vhost}/amq.default/publish"
    await attack.ask(path, "POST", message, refused=True)
    await attack.ask("/api/definitions", "POST", {"queues": [], "unknown": values}, refused=True)
    text = "x" * attack.many(16_000_000)
    message = {"properties": {}, "routing_key": "q0", "payload": text, "payload_encoding": "string"}
    assert json.loads(await attack.ask(path, "POST", message)) == {"routed": False}
    parameter = {"value": text}
    await attack.ask("/api/global-parameters/large", "PUT", parameter, refused=True)


@scenario(short=1 / 10, memory=800)
async def nested_json(attack: Attack) -> None:
    """Bodies of 5 MB of nested JSON, and of one number of as many digits."""
    size = attack.many(5_000_000)
    path = f"/api/exchanges/{attack.vhost}/amq.default/publish"
    nested = b'{"a":' * (size // 10) + b"1" + b"}" * (size // 10)
    for text in (b"[" * size, nested, b"1" * size, b'{"properties":{"headers":' + nested + b"}}"):
        answer = await attack.answer(path, "POST", text)
        assert answer.status == 400, answer


@scenario(short=1 / 4)
async def name_patterns(attack: Attack) -> None:
    """Lists of 2,000 queues filtered by regular expressions that backtrack."""
    await import_queues(attack, attack.many(2000))
    await attack.ask(f"/api/queues/{attack.vhost}/{'a' * 200}", "PUT", {})
    for pattern in ("(a%2B)%2Bb", "(a|aa)%2Bc", "(%3F!x)(a*)*d", "(.*a){20}e", "((a{0,200}){0,200}){0,200}f"):
        path = f"/api/queues?page=1&page_size=10&use_regex=true&name={pattern}"
        await attack.ask(path, refused=True)


@scenario(short=1 / 4)
async def policy_patterns(attack: Attack) -> None:
    """Policies with patterns that backtrack, for 2,000 queues with long names."""
    names = ["a" * 200 + str(number) for number in range(attack.many(2000))]
    entries = queue_entries(attack.vhost, len(names))
    queues = [{**each, "name": name} for each, name in zip(entries, names, strict=True)]
    await attack.ask("/api/definitions", "POST", {"queues": queues})
    for number, pattern in enumerate(("^(a+)+$", r"^(?!x)(a|aa)+$", r"^(a*)*\1b$", "(.*a){25}$")):
        policy = {"pattern": pattern, "definition": {"max-length": 10}, "priority": number}
        await attack.ask(f"/api/policies/{attack.vhost}/p{number}", "PUT", policy, refused=True)


@scenario(short=1 / 10)
async def scrapes(attack: Attack) -> None:
    """/metrics is asked for 300 times at once, without a login, with 5,000 queues there."""
    await import_queues(attack, attack.many(5000))
    async with many_streams(attack, "http", attack.many(300)) as streams:
        for stream in streams:
            await stream.send_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        for stream in streams:
            assert (await read_to_end(stream)).startswith(b"HTTP/1.1 200")


@scenario()
async def detailed_scrapes(attack: Attack) -> None:
    """/metrics/detailed and /metrics/per-object with 20,000 queues, five times each."""
    await import_queues(attack, attack.many(20_000))
    for _ in range(5):
        await attack.ask("/metrics/per-object")
        await attack.ask("/metrics/detailed?family=queue_coarse_metrics&family=queue_consumer_count")


@scenario(memory=600)
async def lists(attack: Attack) -> None:
    """20 lists of 20,000 queues with all columns, sorted, asked for at once."""
    await import_queues(attack, attack.many(20_000))

    async def read(stream: trio.abc.Stream) -> None:
        assert (await read_to_end(stream)).startswith(b"HTTP/1.1 200")

    async with many_streams(attack, "http", max(2, attack.many(20))) as streams:
        for stream in streams:
            line = f"GET /api/queues/{attack.vhost}?sort=name&sort_reverse=true HTTP/1.1\r\n"
            await stream.send_all((line + HEAD + "Connection: close\r\n\r\n").encode())
        # All at once: a response whose client does not read it delays the others of its address.
        async with trio.open_nursery() as nursery:
            for stream in streams:
                nursery.start_soon(read, stream)


@scenario()
async def binding_lists(attack: Attack) -> None:
    """The 50,000 bindings of one exchange are listed five times."""
    client = await attack.client()
    await declare(client, 1, {})
    count = attack.many(50_000)
    await call_all(client, [m.QueueBind("q0", "amq.topic", f"k.{number}") for number in range(count)])
    for _ in range(5):
        found = json.loads(await attack.ask(f"/api/exchanges/{attack.vhost}/amq.topic/bindings/source"))
        assert len(found) == count


@scenario(short=1 / 10)
async def pipelined_requests(attack: Attack) -> None:
    """2,000 requests in one write on one connection."""
    count = attack.many(2000)
    requests = f"GET /api/overview HTTP/1.1\r\n{HEAD}\r\n" * (count - 1)
    last = f"GET /api/whoami HTTP/1.1\r\n{HEAD}Connection: close\r\n\r\n"
    async with await attack.tcp("http") as stream, trio.open_nursery() as nursery:
        nursery.start_soon(stream.send_all, (requests + last).encode())
        assert (await read_to_end(stream)).count(b"HTTP/1.1 200") == count


@scenario()
async def browsed_messages(attack: Attack) -> None:
    """A request to the API gets 50,000 messages; it gets 10,000, which are requeued."""
    client = await attack.client()
    await declare(client, 1, {})
    await fill(client, "q0", count := attack.many(50_000))
    request = {"count": count, "ackmode": "ack_requeue_true", "encoding": "auto"}
    found = json.loads(await attack.ask(f"/api/queues/{attack.vhost}/q0/get", "POST", request))
    assert len(found) == min(count, 10_000)


@scenario(memory=900)
async def purge_by_api(attack: Attack) -> None:
    """A queue of 300,000 messages is purged through the API."""
    client = await attack.client()
    await declare(client, 1, {})
    await fill(client, "q0", attack.many(300_000))
    await attack.ask(f"/api/queues/{attack.vhost}/q0/contents", "DELETE")
    assert await client.count("q0") == 0


@scenario()
async def users(attack: Attack) -> None:
    """10,000 users with permissions are imported, listed and deleted."""
    names = [f"user{number}" for number in range(attack.many(10_000))]
    made = [{"name": name, "password_hash": "", "tags": []} for name in names]
    rights = {"configure": "", "write": "", "read": ""}
    permissions = [{"user": name, "vhost": attack.vhost, **rights} for name in names]
    await attack.ask("/api/definitions", "POST", {"users": made, "permissions": permissions})
    assert len(json.loads(await attack.ask("/api/users"))) > len(names)
    await attack.ask("/api/users/bulk-delete", "POST", {"users": names})


@scenario(short=1 / 10)
async def tracing(attack: Attack) -> None:
    """Tracing is on while 30,000 messages are published, and the trace queue overflows."""
    client = await attack.client()
    await declare(client, 1, {"x-max-length": 10})
    await call_all(client, [m.QueueBind("q0", "amq.rabbitmq.trace", "#")])
    await attack.ask(f"/api/vhosts/{attack.vhost}", "PUT", {"tracing": True})
    await client.stream.send_all(publish_frames("q0") * attack.many(30_000))
    await client.count("q0")


@scenario(short=1 / 10)
async def closed_by_api(attack: Attack) -> None:
    """500 connections are listed with their channels and closed through the API."""
    clients = [await attack.client() for _ in range(attack.many(500))]
    await attack.ask("/api/channels")
    found = json.loads(await attack.ask(f"/api/vhosts/{attack.vhost}/connections"))
    assert len(found) == len(clients)
    for each in found:
        await attack.ask(f"/api/connections/{each['name'].replace(' ', '%20').replace('>', '%3E')}", "DELETE")
    for client in clients:
        await client.expect(m.ConnectionClose)
        await client.stream.aclose()


@scenario()
async def deleted_exchange(attack: Attack) -> None:
    """An exchange with 100,000 bindings is deleted."""
    client = await attack.client()
    await declare(client, 1, {})
    await client.call(m.ExchangeDeclare("x", "topic"), m.ExchangeDeclareOk)
    count = attack.many(100_000)
    await call_all(client, [m.QueueBind("q0", "x", f"key.{number}") for number in range(count)])
    await client.call(m.ExchangeDelete("x"), m.ExchangeDeleteOk)


@scenario()
async def auto_delete_chain(attack: Attack) -> None:
    """A chain of 5,000 auto-delete exchanges falls, and a channel closes with 10,000 auto-delete queues."""
    client = await attack.client()
    count = attack.many(5000)
    await call_all(client, [m.ExchangeDeclare(f"x{n}", "fanout", auto_delete=True) for n in range(count)])
    await call_all(client, [m.ExchangeBind(f"x{n}", f"x{n - 1}") for n in range(1, count)])
    await client.call(m.ExchangeDelete(f"x{count - 1}"), m.ExchangeDeleteOk)
    await call_all(client, [m.QueueDeclare(f"q{n}", auto_delete=True) for n in range(2 * count)])
    await call_all(client, [m.BasicConsume(f"q{n}", f"q{n}") for n in range(2 * count)])
    await client.call(m.ChannelClose(200, "", 0, 0), m.ChannelCloseOk)


@scenario(short=1 / 10)
async def many_policies(attack: Attack) -> None:
    """1,000 policies and 1,000 operator policies with patterns that need much work, and 300 declarations."""
    count = attack.many(1000)
    policies = [
        {
            "vhost": attack.vhost,
            "name": f"p{n}",
            "pattern": f"(a|b)*a(a|b){{14}}x{n}",
            "definition": {"expires": n + 1},
        }
        for n in range(count)
    ]
    await attack.ask("/api/definitions", "POST", {"policies": policies})
    values = [
        {
            "vhost": attack.vhost,
            "component": "operator_policy",
            "name": f"p{n}",
            "value": {"pattern": f"^q{n}$", "definition": {"max-length": 5}},
        }
        for n in range(count)
    ]
    await attack.ask("/api/definitions", "POST", {"parameters": values})
    client = await attack.client()
    chance = Random(1)
    names = ["".join(chance.choices("ab", k=200)) for _ in range(attack.many(300))]
    await call_all(client, [m.QueueDeclare(name) for name in names])
    await attack.ask(f"/api/queues/{attack.vhost}?page=1&page_size=5")


@scenario(short=1 / 10)
async def many_vhosts(attack: Attack) -> None:
    """5,000 virtual hosts, one user with permissions for all of them, who is deleted."""
    names = [f"hostile-{number}" for number in range(attack.many(5000))]
    await attack.add_user("everywhere", "monitoring")
    rights = {"configure": "^a", "write": "^b", "read": "^c"}
    permissions = [{"user": "everywhere", "vhost": name, **rights} for name in names]
    document = {"vhosts": [{"name": name} for name in names], "permissions": permissions}
    await attack.ask("/api/definitions", "POST", document)
    login = basic("everywhere", "everywhere")
    for path in ("/api/overview", "/api/vhosts", "/api/definitions", "/metrics"):
        answer = await attack.answer(path, authorization=login)
        assert answer.status in (200, 401), answer
    await attack.ask("/api/definitions")
    await attack.ask("/api/users/everywhere", "DELETE")
    for name in names:
        await attack.ask(f"/api/vhosts/{name}", "DELETE")
