"""API for publishing and getting messages.

Source: RabbitMQ's management API (``publish``, ``get``); the responses are those of 3.10.
"""

import base64
import binascii
from typing import Any

from leveret.protocol.amqp.properties import Properties
from leveret.protocol.errors import AmqpError, NotFound, ResourceLocked
from leveret.protocol.http import HttpError, Response, in_parts
from leveret.router.management.access import in_vhost
from leveret.router.management.body import demand, fields, integer, text
from leveret.router.management.call import Call, Rule, Rules
from leveret.router.management.errors import bad_request
from leveret.router.management.json_values import JSON, SLICE, Object, answer, encode_list
from leveret.router.management.request_client import RequestClient
from leveret.router.management.resources.bindings import exchange_name
from leveret.router.management.resources.exchanges import checked_name
from leveret.router.queue.entry import Entry
from leveret.router.values.bounds import build_message
from leveret.router.values.field_values import plain
from leveret.router.web.response_steps import Growth, ResponseSteps

MOST = 10_000  # messages per request,
MOST_BYTES = 1 << 26  # and bytes of their bodies
SLICE_BYTES = 1 << 20  # bytes of messages that are taken before other tasks run
PIECE = 1 << 20  # characters of a payload, a multiple of 4, that are decoded before other tasks run: 1.5 ms
ACK_MODES = ("ack_requeue_true", "reject_requeue_true", "ack_requeue_false", "reject_requeue_false")
NUMBERS = {"delivery_mode": 255, "priority": 255, "timestamp": 2**64 - 1}


def refuse_while_alarmed(call: Call) -> None:
    """Raise HttpError 503 while alarms block publishers."""
    alarms = call.broker.alarms
    if alarms.raised:
        raise HttpError(503, f"publishers are blocked: {alarms.reason()}")


def publish(call: Call) -> ResponseSteps[Response]:
    """Publish a message. The response follows when it is stored, and says whether it was routed to a
    queue.
    """
    body = call.body
    demand(body, ["properties", "routing_key", "payload", "payload_encoding"])
    refuse_while_alarmed(call)
    vhost = call.vhost
    exchange, routing_key = exchange_name(call.segments.get("name", "")), text(body, "routing_key")
    properties = properties_of(body["properties"])
    payload = yield from payload_of(body)
    if len(payload) > PIECE:
        yield 0  # making a message of 16 MB takes 6 ms
    refuse_while_alarmed(call)  # again: decoding may have taken several turns
    message = build_message(
        exchange,
        routing_key,
        properties,
        payload,
        frame_max=call.broker.settings.amqp.frame_max,
        mandatory=True,
    )
    if message.size > call.broker.settings.amqp.max_message_size:
        raise bad_request(
            f"message size {message.size} is larger than configured max size "
            f"{call.broker.settings.amqp.max_message_size}"
        )
    client = call.client(vhost)
    try:
        routed = yield from client.publish(message)
    except AmqpError as error:
        raise bad_request(f"{error.code} {error}") from None
    finally:
        client.close()
    return answer({"routed": routed})


def payload_of(body: Object) -> ResponseSteps[bytes | bytearray]:
    """Return the message's body, encoded or decoded in steps. Raises HttpError 400."""
    payload, encoding = text(body, "payload"), text(body, "payload_encoding")
    if encoding == "string":
        pieces = []
        for start in range(0, len(payload), PIECE):
            pieces.append(payload[start : start + PIECE].encode("utf-8", "surrogatepass"))
            if len(payload) > PIECE:
                yield 0
        return b"".join(pieces)
    if encoding != "base64":
        raise bad_request(f"there is no encoding '{encoding}'")
    decoded = bytearray()
    last = max(0, len(payload) - 1) // PIECE * PIECE
    try:
        for start in range(0, last, PIECE):
            piece = payload[start : start + PIECE]
            if "=" in piece:
                raise ValueError("characters behind the padding")
            decoded += base64.b64decode(piece, validate=True)
            yield 0
        decoded += base64.b64decode(payload[last:], validate=True)
        return decoded
    except (binascii.Error, ValueError):
        raise bad_request(f"the payload is not base64: {payload[:200]}") from None


def properties_of(given: Any) -> Properties:
    """Return a message's properties from JSON, without unknown ones. Raises HttpError 400."""
    if given == []:
        given = {}
    if not isinstance(given, dict):
        raise bad_request("'properties' should be an object")
    properties = Properties()
    for name, value in given.items():
        if name == "headers":
            if not isinstance(value, dict):
                raise bad_request("'headers' should be an object")
            for header in value:
                checked_name("header", header)
            properties.headers = fields("header", value)
        elif name in NUMBERS:
            if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= NUMBERS[name]:
                raise bad_request(f"'{name}' should be a whole number from 0 to {NUMBERS[name]}")
            setattr(properties, name, value)
        elif name in Properties.__slots__:
            if not isinstance(value, str):
                raise bad_request(f"'{name}' should be a text")
            setattr(properties, name, checked_name(name, value))
    return properties


# -- get -----------------------------------------------------------------------------------------------------


def get(call: Call) -> ResponseSteps[Response]:
    """Get messages from a queue, then settle them by ``ackmode``."""
    body = call.body
    demand(body, ["ackmode", "count", "encoding"])
    mode, encoding = text(body, "ackmode"), text(body, "encoding")
    count = integer(body, "count")
    truncate = integer(body, "truncate") if "truncate" in body else None
    if mode not in ACK_MODES:
        raise bad_request(f"unknown ackmode: {mode}; one of {', '.join(ACK_MODES)}")
    if encoding not in ("auto", "base64"):
        raise bad_request("Unsupported encoding. Please use auto or base64.")
    client = call.client()
    try:
        shown = yield from _take(
            client, call["name"], MOST if count < 0 else min(count, MOST), encoding, truncate
        )
        if shown:
            _settle(client, mode)
    except NotFound as error:
        raise HttpError(404, str(error)) from None
    except ResourceLocked as error:
        raise bad_request(f"{error.code} {error}") from None
    finally:
        client.close()
    held = sum(each["payload_bytes"] for each in shown)
    return in_parts((yield from encode_list(shown, held)), JSON)


def _take(
    client: RequestClient, queue: str, count: int, encoding: str, truncate: int | None
) -> ResponseSteps[list[Object]]:
    shown: list[Object] = []
    size = paused = 0
    while len(shown) < count and size < MOST_BYTES:
        if (shown and not len(shown) % SLICE) or size - paused > SLICE_BYTES:
            paused = size
            yield Growth(size)
        taken = yield from client.get(queue)
        if taken is None:
            break
        _, entry, source = taken
        size += entry.message.size
        shown.append(
            {
                "payload_bytes": entry.message.size,
                "redelivered": entry.returns > 0,
                "exchange": entry.message.exchange,
                "routing_key": entry.message.routing_key,
                "message_count": len(source.ready),
                "properties": show_properties(entry, counted=source.counted),
                **show_payload(entry.message.body, encoding, truncate),
            }
        )
    return shown


def _settle(client: RequestClient, mode: str) -> None:
    """Settle all messages of the request."""
    if mode == "ack_requeue_false":
        client.session.ack(0, multiple=True)
    else:
        client.session.nack(0, multiple=True, requeue=mode != "reject_requeue_false")


def show_properties(entry: Entry, *, counted: bool = False) -> Object | list[Any]:
    """Return the properties of a message; as in RabbitMQ an empty list if there are none.

    ``counted``: with the header of quorum queues that counts earlier deliveries.
    """
    properties = entry.message.properties
    named = {name: getattr(properties, name) for name in Properties.__slots__}
    if counted:
        named["headers"] = {**(properties.headers or {}), "x-delivery-count": entry.returns}
    return {name: plain(value) for name, value in named.items() if value is not None} or []


def show_payload(body: bytes, encoding: str = "auto", truncate: int | None = None) -> Object:
    """Return a body as text if it is UTF-8, else as base64; at most ``truncate`` bytes of it."""
    if truncate is not None:
        body = body[: max(0, truncate)]
    if encoding == "auto":
        try:
            return {"payload": body.decode(), "payload_encoding": "string"}
        except UnicodeDecodeError:
            pass
    return {"payload": base64.b64encode(body).decode(), "payload_encoding": "base64"}


RULES: Rules = {
    "/exchanges/{vhost}/{name}/publish": {"POST": Rule(in_vhost, publish)},
    # the default exchange has an empty name
    "/exchanges/{vhost}//publish": {"POST": Rule(in_vhost, publish)},
    "/queues/{vhost}/{name}/get": {"POST": Rule(in_vhost, get)},
}
