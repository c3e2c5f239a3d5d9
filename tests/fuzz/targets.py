"""Targets of the fuzzer: functions of any bytes, which may raise only errors that are reported to a peer.

Each has a few inputs to begin with, which are right or nearly so; that is all the corpus there is.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import trio

from leveret.protocol.amqp import methods as m
from leveret.protocol.amqp.codec import decode_method, encode_method, method_frame
from leveret.protocol.amqp.constants import PROTOCOL_HEADER
from leveret.protocol.amqp.properties import Properties, decode_properties, encode_properties
from leveret.protocol.amqp.reader import CommandReader
from leveret.protocol.amqp.table import Long, Timestamp, decode_table, encode_table
from leveret.protocol.amqp.traits import scan, traits_of
from leveret.protocol.errors import AmqpError
from leveret.protocol.http import HeadLimits, HttpConnection, HttpError, Response
from leveret.protocol.stomp.errors import StompError
from leveret.protocol.stomp.frames import FrameLimits as StompLimits
from leveret.protocol.stomp.frames import FrameReader as StompReader
from leveret.router.selector import SelectorError
from leveret.router.settings import Http, Settings
from tests.fuzz import websocket
from tests.fuzz.beside import beside
from tests.protocol.amqp.frames import publish
from tests.router.amqp.world import World
from tests.router.selector.helpers import compile_selector
from tests.router.stomp.client import StompClient

BODY_MAX = 1 << 20  # bytes


@dataclass(frozen=True)
class Target:
    """A function that takes any bytes, and what to begin with."""

    run: Callable[[bytes], None]
    seeds: Sequence[bytes]


TABLE = {"a": 1, "b": "text", "c": [True, None, 1.5, {"d": b"x"}], "e": Timestamp(5), "f": Long(7)}
PROPERTIES = Properties(
    "text/plain", "gzip", TABLE, 2, 3, "c", "r", "60000", "m", 5, "t", "guest", "app", "x"
)
DECLARED = [m.QueueDeclare("q", arguments={"x-max-length": 5}), m.ExchangeDeclare("x", "topic")]
DONE = [
    m.QueueBind("q", "x", "a.#"),
    m.BasicQos(0, 2),
    m.BasicConsume("q", "t"),
    m.BasicAck(1, True),
    m.BasicNack(2),
    m.BasicGet("q"),
    m.ConfirmSelect(),
    m.BasicCancel("t"),
    m.QueuePurge("q"),
    m.QueueDelete("q"),
    m.ChannelClose(200, "bye"),
    m.ChannelOpen(),
]
PUBLISH = publish(1, b"body", method=m.BasicPublish("", "q", True), properties=PROPERTIES)
SESSION = b"".join(method_frame(1, each) for each in DECLARED) + PUBLISH
SESSION += b"".join(method_frame(1, each) for each in DONE)
LOGIN = b"".join(
    method_frame(0, each)
    for each in (
        m.ConnectionStartOk({"capabilities": {"basic.nack": True}}, "PLAIN", b"\0guest\0guest"),
        m.ConnectionTuneOk(10, 131072, 0),
        m.ConnectionOpen("/"),
    )
)
STOMP = (
    b"SUBSCRIBE\ndestination:/queue/q\nid:1\nack:client\nreceipt:r\n\n\0"
    b"SEND\ndestination:/queue/q\ncontent-length:3\nh:a\\nb\n\na\0b\0\n"
    b"BEGIN\ntransaction:t\n\n\0SEND\ndestination:/topic/a\ntransaction:t\n\nx\0COMMIT\ntransaction:t\n\n\0"
    b"NACK\nid:T_1@@session@@1\n\n\0UNSUBSCRIBE\nid:1\n\n\0DISCONNECT\nreceipt:bye\n\n\0"
)
HTTP = tuple(
    head.replace("\n", "\r\n").encode()
    for head in (
        "GET /api/queues/%2F/q?columns=name HTTP/1.1\nHost: h\nAuthorization: Basic Z3Vlc3Q6Z3Vlc3Q=\n\n",
        "POST /a HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\nExpect: 100-continue\n\n3\nabc\n0\n\n",
        "PUT /a%2Fb HTTP/1.1\nHost: h\nContent-Length: 2\n\n{}GET / HTTP/1.1\nHost: h\n\n",
        "GET /ws HTTP/1.1\nHost: h\nConnection: Upgrade\nUpgrade: websocket\nSec-WebSocket-Key: a\n\n",
    )
)

API = b"".join(
    f"{line} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Basic Z3Vlc3Q6Z3Vlc3Q=\r\n"
    f"Content-Length: {len(body)}\r\n\r\n{body}".encode()
    for line, body in (
        ("PUT /api/queues/%2F/q", '{"durable": true, "arguments": {"x-max-length": 5}}'),
        (
            "POST /api/exchanges/%2F//publish",
            '{"properties": {"headers": {"a": [1]}}, "routing_key": "q", "payload": "eA==", '
            '"payload_encoding": "base64"}',
        ),
        ("POST /api/queues/%2F/q/get", '{"count": 5, "ackmode": "ack_requeue_true", "encoding": "auto"}'),
        ("GET /api/queues?page=1&page_size=5&name=q&use_regex=true&sort=name&columns=name,messages", ""),
        ("PUT /api/policies/%2F/p", '{"pattern": "^q", "definition": {"max-length": 3}, "priority": 1}'),
        ("POST /api/bindings/%2F/e/amq.topic/q/q", '{"routing_key": "a.#", "arguments": {"x": null}}'),
        ("GET /api/queues/%2F/q/messages?selector=a%20%3D%201&count=5", ""),
        ("POST /api/definitions", '{"queues": [{"name": "r", "vhost": "/", "arguments": {}}]}'),
    )
)


def table(data: bytes) -> None:
    with suppress(AmqpError):
        decode_table(data, 0)


def properties(data: bytes) -> None:
    found = scan(data)
    try:
        decoded = decode_properties(data, 0)
    except AmqpError:
        assert found is None
    else:
        assert found is None or found is traits_of(decoded)


def method(data: bytes) -> None:
    with suppress(AmqpError):
        decode_method(data, 0, len(data))


def frames(data: bytes) -> None:
    """Read whole, and in halves: the same commands."""
    whole, halves = CommandReader(131072, BODY_MAX), CommandReader(131072, BODY_MAX)
    came = len(whole.receive(data))
    middle = len(data) // 2
    found = len(halves.receive(data[:middle]))
    found += len(halves.receive(data[middle:]))
    assert (came, str(whole.error)) == (found, str(halves.error))


def stomp(data: bytes) -> None:
    reader = StompReader(StompLimits())
    reader.feed(data)
    try:
        while reader.next_frame() is not None:
            pass
    except StompError:
        pass


def http(data: bytes) -> None:
    connection = HttpConnection(HeadLimits(head=16384))
    connection.receive(data)
    while (pending := connection.next_request()) is not None:
        try:
            request = pending.head()
            _ = request.query, request.credentials
            if pending.body(BODY_MAX) is None:
                break
            response = Response()
        except HttpError as error:
            response = error.response
        except ValueError:  # too many parameters
            response = Response(400)
        pending.respond(response)


def selector(data: bytes) -> None:
    with suppress(SelectorError):
        compile_selector(data.decode("utf-8", "surrogateescape"))


def amqp_connection(data: bytes) -> None:
    """A client that has a channel, whatever it sends then."""
    world = World()
    client = world.connect()
    client.send_raw(data)
    world.advance(1000)
    if not client.transport.outbox.closed:
        client.transport.connection.lost()
    assert not any(level == "error" for level, _, _ in client.transport.log.lines)


def amqp_login(data: bytes) -> None:
    """A client that sends this first."""
    client = World().client()
    client.send_raw(data)


def stomp_connection(data: bytes) -> None:
    """A STOMP client that is logged in, whatever it sends then."""
    world = World()
    client = StompClient(world).open()
    client.send_raw(data)
    world.advance(1000)
    assert not any(level == "error" for level, _, _ in client.log.lines)


async def _nothing(stream: trio.StapledStream) -> None:
    """Begin with the input itself."""


def http_connections(data: bytes) -> None:
    """A client of the HTTP listener, whatever it sends, beside pages that speak AMQP and STOMP there."""
    beside(data, _nothing, Settings(http=Http(request_timeout=1000)), cut=len(data) % 2 == 1)


def websocket_wire(data: bytes) -> None:
    """The frames of a WebSocket."""
    websocket.wire(data, SESSION)


def websocket_connections(data: bytes) -> None:
    """A page that speaks AMQP or STOMP over WebSocket, beside others."""
    websocket.connections(data, SESSION, STOMP)


TARGETS = {
    "table": Target(table, (encode_table(TABLE), encode_table({}))),
    "properties": Target(properties, (encode_properties(PROPERTIES), encode_properties(Properties()))),
    "method": Target(method, tuple(map(encode_method, (*DECLARED, *DONE)))),
    "frames": Target(frames, (SESSION, PUBLISH)),
    "stomp": Target(stomp, (STOMP,)),
    "http": Target(http, HTTP),
    "selector": Target(
        selector, (b"a = 'x' AND b > 1.5 OR NOT (c IS NULL)", b"d LIKE 'a%' ESCAPE '\\' AND e IN ('1', '2')")
    ),
    "amqp_connection": Target(amqp_connection, (SESSION, PUBLISH)),
    "amqp_login": Target(amqp_login, (PROTOCOL_HEADER + LOGIN, PROTOCOL_HEADER + LOGIN + SESSION)),
    "stomp_connection": Target(stomp_connection, (STOMP,)),
    "http_connections": Target(http_connections, (*HTTP, API)),
    "websocket": Target(websocket_wire, tuple(websocket.seeds(SESSION))),
    "websocket_connections": Target(websocket_connections, tuple(websocket.seeds(SESSION))),
}
