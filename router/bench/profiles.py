"""Shapes of messages that real clients send: properties, headers and bodies with the sizes that they have.

Celery's and pika's are as the clients send them, which ``conformance/test_profiles.py`` checks. MassTransit's
is the JSON envelope of https://masstransit.io/architecture/interoperability, with the headers that its
RabbitMQ transport sets. Spring's is what a ``RabbitTemplate`` with a ``Jackson2JsonMessageConverter`` and
correlated confirms sends: https://docs.spring.io/spring-amqp/reference/amqp/message-converters.html.
"""

import json
from collections.abc import Callable
from random import Random
from typing import Any
from uuid import UUID

from leveret.protocol.amqp.properties import Properties
from leveret.protocol.amqp.table import Table

TASKS = ("mail.send", "images.thumbnail", "reports.monthly.render", "sync", "billing.invoices.close_period")
EVENTS = ("OrderSubmitted", "OrderShipped", "PaymentReceived", "CustomerAddressChanged")
WORDS = ("blue", "express", "gift", "pallet", "return", "fragile", "second floor", "call before delivery")


def uuid(draw: Random) -> str:
    """Return a random UUID, version 4, of 36 characters."""
    return str(UUID(int=draw.getrandbits(128), version=4))


def celery(draw: Random) -> tuple[Properties, bytes]:
    """Return a task message of Celery 5, protocol 2, with results over AMQP (``rpc://``)."""
    own = uuid(draw)
    arguments = [draw.getrandbits(draw.randrange(4, 40)) for _ in range(draw.randrange(4))]
    options = {
        word: draw.randrange(1000) for word in draw.sample(("user", "order", "retry_of"), draw.randrange(3))
    }
    parent = uuid(draw) if draw.random() < 0.2 else None
    headers: Table = {
        "lang": "py",
        "task": draw.choice(TASKS),
        "id": own,
        "shadow": None,
        "eta": None,
        "expires": None,
        "group": None,
        "group_index": None,
        "retries": draw.choice((0, 0, 0, 0, 1)),
        "timelimit": [None, None],
        "root_id": parent or own,
        "parent_id": parent,
        "argsrepr": repr(tuple(arguments)),
        "kwargsrepr": repr(options),
        "origin": f"gen{draw.randrange(100, 99_999)}@web-{draw.randrange(40)}",
        "ignore_result": False,
        "replaced_task_nesting": 0,
        "stamped_headers": None,
        "stamps": {},
    }
    properties = Properties(
        content_type="application/json",
        content_encoding="utf-8",
        headers=headers,
        delivery_mode=2,
        priority=0,
        correlation_id=own,
        reply_to=str(UUID(int=draw.randrange(1, 40) << 64, version=3)),
    )
    embedded = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
    return properties, json.dumps([arguments, options, embedded]).encode()


def pika(draw: Random) -> tuple[Properties, bytes]:
    """Return a JSON document, as a program that uses pika publishes it."""
    return Properties(content_type="application/json", delivery_mode=2), json.dumps(order(draw)).encode()


def masstransit(draw: Random) -> tuple[Properties, bytes]:
    """Return an event in MassTransit's message envelope, published to its exchange."""
    own, event, machine = uuid(draw), draw.choice(EVENTS), f"web-{draw.randrange(40)}"
    second = f"2026-10-{draw.randrange(1, 31):02}T{draw.randrange(24):02}:{draw.randrange(60):02}:07"
    envelope = {
        "messageId": own,
        "requestId": None,
        "correlationId": None,
        "conversationId": uuid(draw),
        "initiatorId": None,
        "sourceAddress": f"rabbitmq://broker/{machine}_Shop_bus_{draw.getrandbits(64):016x}?temporary=true",
        "destinationAddress": f"rabbitmq://broker/Shop.Contracts:{event}",
        "responseAddress": None,
        "faultAddress": None,
        "messageType": [f"urn:message:Shop.Contracts:{event}"],
        "message": order(draw),
        "expirationTime": None,
        "sentTime": f"{second}.{draw.randrange(10**7):07}Z",
        "headers": {},
        "host": {
            "machineName": machine,
            "processName": "Shop.Web",
            "processId": draw.randrange(1, 40_000),
            "assembly": "Shop.Web",
            "assemblyVersion": "1.4.0.0",
            "frameworkVersion": "8.0.10",
            "massTransitVersion": "8.3.1.0",
            "operatingSystemVersion": "Unix 6.1.0.26",
        },
    }
    kind = "application/vnd.masstransit+json"
    headers: Table = {"Content-Type": kind, "publishId": str(draw.randrange(1, 1_000_000))}
    properties = Properties(content_type=kind, headers=headers, delivery_mode=2, message_id=own)
    return properties, json.dumps(envelope, indent=2).encode()


def spring(draw: Random) -> tuple[Properties, bytes]:
    """Return an object that Spring AMQP has converted to JSON, published with a correlated confirm."""
    headers: Table = {
        "__TypeId__": f"com.example.shop.events.{draw.choice(EVENTS)}",
        "spring_returned_message_correlation": uuid(draw),
    }
    properties = Properties(
        content_type="application/json",
        content_encoding="UTF-8",
        headers=headers,
        delivery_mode=2,
        priority=0,
    )
    return properties, json.dumps(order(draw), separators=(",", ":")).encode()


def order(draw: Random) -> dict[str, Any]:
    """Return an order of a shop with one to six lines."""
    lines = [
        {
            "sku": f"{draw.randrange(10**8):08}",
            "count": draw.randrange(1, 9),
            "price": draw.randrange(10**5) / 100,
        }
        for _ in range(draw.choice((1, 1, 1, 2, 2, 3, 6)))
    ]
    note = " ".join(draw.sample(WORDS, draw.randrange(4)))
    return {"orderId": draw.randrange(10**9), "customer": uuid(draw), "lines": lines, "note": note}


# by name: a draw of properties and body
SHAPES: dict[str, Callable[[Random], tuple[Properties, bytes]]] = {
    "celery": celery,
    "pika": pika,
    "masstransit": masstransit,
    "spring": spring,
}
