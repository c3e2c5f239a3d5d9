"""The profiles of ``leveret bench`` have the shape of what Celery and pika really send."""

import json
import uuid
from random import Random

import pika
import pytest
from celery import Celery

from conformance.brokers import Broker
from leveret.protocol.amqp.properties import Properties
from leveret.router.bench.profiles import SHAPES


@pytest.fixture
def taken(broker: Broker):
    """Publish to a queue by a client, and return what came: properties and body."""

    def run(publish) -> tuple[pika.BasicProperties, bytes]:
        name = f"profile-{uuid.uuid4().hex}"
        connection = pika.BlockingConnection(pika.URLParameters(broker.url))
        channel = connection.channel()
        channel.queue_declare(name, durable=True)
        publish(channel, name)
        method, properties, body = next(channel.consume(name, auto_ack=True, inactivity_timeout=10))
        assert method is not None
        channel.cancel()
        channel.queue_delete(name)
        connection.close()
        return properties, body

    return run


def shape(value: object) -> object:
    """What a value is made of: names and types, without texts and numbers."""
    if isinstance(value, dict):
        return {name: shape(each) for name, each in value.items()}
    if isinstance(value, list):
        return sorted({str(shape(each)) for each in value})
    return type(value).__name__


def properties_shape(properties) -> dict[str, object]:
    found = {name: getattr(properties, name) for name in Properties.__dataclass_fields__}
    return {name: shape(value) for name, value in found.items() if value is not None}


def send(*arguments, **options):
    """Do nothing: no worker runs this task."""


def test_celery_sends_what_its_profile_says(broker, taken):
    def publish(_channel, name):
        app = Celery("profile", broker=broker.url, backend="rpc://", set_as_current=False)
        app.conf.task_default_queue = name
        app.task(send, name="mail.send").apply_async((12345, 678), {"user": 1})
        app.close()

    properties, body = taken(publish)
    came = properties_shape(properties), shape(json.loads(body))
    draw, shapes = Random(1), []
    for _ in range(200):
        drawn, text = SHAPES["celery"](draw)
        shapes.append((properties_shape(drawn), shape(json.loads(text))))
    assert came in shapes
    assert {properties.content_type, properties.content_encoding} == {"application/json", "utf-8"}
    assert (properties.delivery_mode, properties.priority) == (2, 0)


def test_pika_sends_what_its_profile_says(taken):
    drawn, text = SHAPES["pika"](Random(1))
    set_by_program = pika.BasicProperties(content_type="application/json", delivery_mode=2)
    properties, body = taken(lambda channel, name: channel.basic_publish("", name, text, set_by_program))
    assert properties_shape(properties) == properties_shape(drawn)
    assert body == text
