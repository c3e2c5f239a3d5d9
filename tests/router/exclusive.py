"""Every operation on a queue, asked of an exclusive queue: the table.

Queue ``q`` belongs to one connection, is bound to ``amq.direct`` with the key ``k`` and holds a message. A
row says what is sent, and whether it is refused with RESOURCE_LOCKED when another connection sends it.
``conformance/scenarios/exclusive.py`` plays the rows to RabbitMQ.
"""

from dataclasses import dataclass, field
from typing import Any

from leveret.protocol.amqp import methods as m
from tests.router.amqp.client import publish

DEAD = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "q"}


@dataclass(frozen=True)
class Row:
    """``item`` is what is sent; ``locked`` tells whether others than the owner are refused."""

    item: Any
    locked: bool


METHODS = {
    "queue.declare": Row(m.QueueDeclare("q", exclusive=True), True),
    "queue.declare with other properties": Row(m.QueueDeclare("q"), True),
    "queue.declare passive": Row(m.QueueDeclare("q", passive=True), True),
    "queue.declare with dead letters": Row(m.QueueDeclare("dead", arguments=DEAD), False),
    "queue.bind": Row(m.QueueBind("q", "amq.direct", "other"), True),
    "queue.bind again": Row(m.QueueBind("q", "amq.direct", "k"), True),
    "queue.unbind": Row(m.QueueUnbind("q", "amq.direct", "k"), True),
    "queue.unbind of what is not bound": Row(m.QueueUnbind("q", "amq.direct", "other"), False),
    "queue.unbind from a missing exchange": Row(m.QueueUnbind("q", "missing", "k"), False),
    "queue.purge": Row(m.QueuePurge("q"), True),
    "queue.delete": Row(m.QueueDelete("q"), True),
    "queue.delete if unused": Row(m.QueueDelete("q", if_unused=True), True),
    "queue.delete if empty": Row(m.QueueDelete("q", if_empty=True), True),
    "basic.get": Row(m.BasicGet("q", True), True),
    "basic.consume": Row(m.BasicConsume("q", "t"), True),
    "basic.publish": Row(publish("q", b"another"), False),
    "basic.publish by a binding": Row(publish("k", b"another", exchange="amq.direct"), False),
}


@dataclass(frozen=True)
class Request:
    """A request to the management API; ``pattern`` is the rule that answers it."""

    method: str
    pattern: str
    body: Any = None
    segments: dict[str, str] = field(default_factory=dict)

    def path(self, vhost: str) -> tuple[str, ...]:
        """The segments of the path below ``/api``."""
        given = {"vhost": vhost, "name": "q", **BETWEEN, **self.segments}
        return tuple(
            given[part[1:-1]] if part.startswith("{") else part for part in self.pattern.split("/")[1:]
        )


BETWEEN = {"source": "amq.direct", "kind": "q", "destination": "q", "key": "k"}
QUEUE = "/queues/{vhost}/{name}"
BINDINGS = "/bindings/{vhost}/e/{source}/{kind}/{destination}"
GET = {"count": 1, "ackmode": "ack_requeue_false", "encoding": "auto"}
SEND = {"properties": {}, "routing_key": "q", "payload": "another", "payload_encoding": "string"}
REQUESTS = {
    "GET queue": Row(Request("GET", QUEUE), False),
    "PUT queue": Row(Request("PUT", QUEUE, {}), True),
    "DELETE queue": Row(Request("DELETE", QUEUE), True),
    "DELETE contents": Row(Request("DELETE", f"{QUEUE}/contents"), True),
    "POST get": Row(Request("POST", f"{QUEUE}/get", GET), True),
    "POST actions": Row(Request("POST", f"{QUEUE}/actions", {"action": "sync"}), False),
    "GET bindings": Row(Request("GET", f"{QUEUE}/bindings"), False),
    "GET bindings between": Row(Request("GET", BINDINGS), False),
    "GET binding": Row(Request("GET", f"{BINDINGS}/{{key}}"), False),
    "POST binding": Row(Request("POST", BINDINGS, {"routing_key": "other"}), True),
    "DELETE binding": Row(Request("DELETE", f"{BINDINGS}/{{key}}"), True),
    "POST publish": Row(
        Request("POST", "/exchanges/{vhost}/{name}/publish", SEND, {"name": "amq.default"}), False
    ),
}
OWN_REQUESTS = {  # of leveret alone
    "GET messages": Row(Request("GET", f"{QUEUE}/messages"), True),
    "DELETE message": Row(Request("DELETE", f"{QUEUE}/messages/{{position}}", None, {"position": "0"}), True),
    "POST messages/delete": Row(Request("POST", f"{QUEUE}/messages/delete", {"all": True}), True),
    "POST messages/move": Row(
        Request("POST", f"{QUEUE}/messages/move", {"all": True, "exchange": "amq.fanout"}), True
    ),
    "POST messages/replay": Row(Request("POST", f"{QUEUE}/messages/replay", {"all": True}), True),
}

FRAMES = {
    "SUBSCRIBE to /queue": Row(("SUBSCRIBE", {"destination": "/queue/q", "id": "1"}), True),
    "SUBSCRIBE to /amq/queue": Row(("SUBSCRIBE", {"destination": "/amq/queue/q", "id": "1"}), True),
    "SUBSCRIBE to /exchange": Row(
        ("SUBSCRIBE", {"destination": "/exchange/amq.direct/k", "id": "1", "x_queue_name": "q"}), True
    ),
    "SUBSCRIBE to /topic": Row(
        ("SUBSCRIBE", {"destination": "/topic/k", "id": "1", "x_queue_name": "q"}), True
    ),
    "SEND to /queue": Row(("SEND", {"destination": "/queue/q"}), True),
    "SEND to /amq/queue": Row(("SEND", {"destination": "/amq/queue/q"}), False),
    "SEND to /exchange": Row(("SEND", {"destination": "/exchange/amq.direct/k"}), False),
    "UNSUBSCRIBE": Row(("UNSUBSCRIBE", {"id": "mine", "durable": "true", "x_queue_name": "q"}), True),
}
