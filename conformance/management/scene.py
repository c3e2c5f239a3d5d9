"""Something going on in a broker, so that its API has something to tell."""

import threading
import time
from types import TracebackType
from typing import Self

import pika

from conformance.management.sides import Side

WAIT = 20.0  # seconds until the API must know of what goes on


class Scene:
    """Goes on as long as the ``with`` block does; entering it returns when the API tells of rates."""

    def __init__(self, side: Side) -> None:
        self.side = side
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._play, daemon=True)
        self._set = threading.Event()

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._set.wait(WAIT), f"{self.side.name}: the scene could not be set"
        deadline = time.monotonic() + WAIT
        while not self._known():
            assert time.monotonic() < deadline, f"{self.side.name}: the API tells nothing of the scene"
            time.sleep(0.2)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join(WAIT)

    def _known(self) -> bool:
        stats = self.side.get("/queues/%2F/scene.busy").get("message_stats", {})
        channels = self.side.get("/channels")
        return (
            stats.get("publish_details", {}).get("rate", 0) > 0
            and stats.get("deliver_no_ack", 0) > 0
            and len(channels) == 2
            and all("message_stats" in channel for channel in channels)
            and len(self.side.get("/connections")) == 1
            and "message_stats" in self.side.get("/queues/%2F/scene.work")
            and "message_stats" in self.side.get("/queues/%2F/scene.stream")
            and "message_stats" in self.side.get("/queues/%2F/scene.quorum")
            and "message_stats" in self.side.get("/exchanges/%2F/scene.topic")
        )

    def _play(self) -> None:
        parameters = pika.ConnectionParameters(
            "127.0.0.1", self.side.amqp, client_properties={"connection_name": "scene"}
        )
        connection = pika.BlockingConnection(parameters)
        channel = connection.channel()
        channel.queue_declare("scene.work", durable=True, arguments={"x-max-length": 1000})
        channel.queue_declare("scene.quorum", durable=True, arguments={"x-queue-type": "quorum"})
        channel.queue_declare("scene.stream", durable=True, arguments={"x-queue-type": "stream"})
        channel.queue_declare("scene.own", exclusive=True)
        channel.queue_declare("scene.busy")
        channel.queue_declare("scene.waiting")
        channel.exchange_declare("scene.topic", "topic", durable=True)
        channel.queue_bind("scene.work", "scene.topic", "a.#")
        channel.queue_bind("scene.work", "scene.topic", "b", arguments={"n": 1})
        channel.exchange_bind("amq.fanout", "scene.topic", "e")
        channel.basic_qos(prefetch_count=10)
        channel.confirm_delivery()
        taken: list[int] = []

        def work(_: object, method: pika.spec.Basic.Deliver, *__: object) -> None:
            taken.append(method.delivery_tag)
            if len(taken) <= 5:
                channel.basic_ack(method.delivery_tag)

        channel.basic_consume("scene.work", work, consumer_tag="worker")
        other = connection.channel()
        other.basic_consume(
            "scene.busy", lambda *_: None, auto_ack=True, consumer_tag="idler", arguments={"x-priority": 3}
        )
        for _ in range(30):
            channel.basic_publish(
                "scene.topic", "a.b", b"hello", pika.BasicProperties(delivery_mode=2, headers={"k": 1})
            )
            channel.basic_publish("", "scene.waiting", b"x" * 10)
            channel.basic_publish("", "scene.stream", b"x")
            channel.basic_publish("", "scene.quorum", b"x")
        self._set.set()
        while not self._over.is_set():
            channel.basic_publish("", "scene.busy", b"x")
            connection.process_data_events(0.02)
        connection.close()
