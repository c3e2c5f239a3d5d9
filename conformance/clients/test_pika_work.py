"""Work through pika's blocking connection: publish, consume, settle, confirm, dead letters, RPC."""

import threading
from typing import Any

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel, BlockingConnection
from pika.exceptions import ChannelClosedByBroker, ConnectionClosedByBroker, NackError, UnroutableError

from conformance.clients.conftest import WAIT, Take, pump


def count(channel: BlockingChannel, queue: str) -> int:
    """Ready messages of the queue, as a passive declare reports them."""
    return int(channel.queue_declare(queue, passive=True).method.message_count)


def fill(channel: BlockingChannel, queue: str, *bodies: bytes, **properties: Any) -> None:
    """Publish the bodies to the queue through the default exchange."""
    for body in bodies:
        channel.basic_publish("", queue, body, pika.BasicProperties(**properties))


def test_a_consumer_gets_messages_in_order_with_all_their_properties(
    channel: BlockingChannel, queue: str, take: Take
) -> None:
    sent = pika.BasicProperties(
        content_type="application/json",
        content_encoding="identity",
        headers={
            "text": "täxt",
            "number": -7,
            "big": 2**40,
            "yes": True,
            "nested": {"list": [1, "two", None, False]},
        },
        delivery_mode=2,
        priority=3,
        correlation_id="correlation",
        reply_to="reply",
        expiration="60000",
        message_id="id",
        timestamp=1_700_000_000,
        type="type",
        user_id="guest",
        app_id="app",
        cluster_id="cluster",
    )
    for number in range(200):
        channel.basic_publish("", queue, b"%d" % number, sent)
    received = take(queue, 200)
    assert [body for _, _, body in received] == [b"%d" % number for number in range(200)]
    method, properties, _ = received[0]
    assert properties == sent
    assert (method.exchange, method.routing_key, method.redelivered) == ("", queue, False)


def test_an_empty_body_arrives_empty(channel: BlockingChannel, queue: str, take: Take) -> None:
    fill(channel, queue, b"", b"after")
    assert take.bodies(queue, 2) == [b"", b"after"]


def test_a_message_of_four_mebibytes_survives_the_round_trip(
    channel: BlockingChannel, queue: str, take: Take
) -> None:
    body = bytes(range(256)) * (4 * 1024 * 4)
    channel.confirm_delivery()
    channel.basic_publish("", queue, body)
    assert take.bodies(queue, 1) == [body]


def test_get_returns_the_head_and_the_number_left(channel: BlockingChannel, queue: str) -> None:
    assert channel.basic_get(queue) == (None, None, None)
    fill(channel, queue, b"first", b"second", b"third")
    method, _, body = channel.basic_get(queue, auto_ack=True)
    assert (body, method.message_count) == (b"first", 2)
    method, _, body = channel.basic_get(queue)
    assert (body, method.message_count) == (b"second", 1)
    channel.basic_nack(method.delivery_tag)
    method, _, body = channel.basic_get(queue, auto_ack=True)
    assert (body, method.redelivered, method.message_count) == (b"second", True, 1)


def test_confirms_cover_every_publish_and_mandatory_returns_come_back(
    channel: BlockingChannel, queue: str
) -> None:
    channel.confirm_delivery()
    for number in range(300):
        channel.basic_publish("", queue, b"%d" % number, mandatory=True)
    assert count(channel, queue) == 300
    with pytest.raises(UnroutableError) as raised:
        channel.basic_publish("", queue + "-missing", b"lost", mandatory=True)
    (returned,) = raised.value.messages
    assert (returned.method.reply_code, returned.method.reply_text) == (312, "NO_ROUTE")
    assert (returned.method.routing_key, returned.body) == (queue + "-missing", b"lost")
    channel.basic_publish("", queue + "-missing", b"dropped silently but confirmed")


def test_a_full_queue_that_rejects_publishes_nacks_them(channel: BlockingChannel, unique: str) -> None:
    channel.queue_declare(
        unique, exclusive=True, arguments={"x-max-length": 2, "x-overflow": "reject-publish"}
    )
    channel.confirm_delivery()
    channel.basic_publish("", unique, b"1")
    channel.basic_publish("", unique, b"2")
    with pytest.raises(NackError):
        channel.basic_publish("", unique, b"3")
    assert count(channel, unique) == 2


def test_a_full_queue_drops_its_oldest(channel: BlockingChannel, unique: str, take: Take) -> None:
    channel.queue_declare(unique, exclusive=True, arguments={"x-max-length": 2})
    channel.confirm_delivery()
    fill(channel, unique, b"1", b"2", b"3")
    assert take.bodies(unique, 2) == [b"2", b"3"]


def test_a_transaction_publishes_on_commit_and_forgets_on_rollback(
    channel: BlockingChannel, connection: BlockingConnection, queue: str
) -> None:
    watcher = connection.channel()
    channel.tx_select()
    fill(channel, queue, b"kept")
    assert count(watcher, queue) == 0
    channel.tx_commit()
    assert count(watcher, queue) == 1
    fill(channel, queue, b"forgotten")
    channel.tx_rollback()
    channel.tx_commit()
    assert count(watcher, queue) == 1


def test_an_acknowledgement_in_a_transaction_counts_on_commit(
    channel: BlockingChannel, connection: BlockingConnection, queue: str
) -> None:
    fill(channel, queue, b"once")
    worker = connection.channel()
    worker.tx_select()
    method, _, _ = worker.basic_get(queue)
    worker.basic_ack(method.delivery_tag)
    worker.tx_rollback()
    worker.basic_ack(method.delivery_tag)
    worker.tx_commit()
    worker.close()
    assert count(channel, queue) == 0


def test_prefetch_bounds_what_a_consumer_holds_and_an_ack_lets_more_come(
    channel: BlockingChannel, connection: BlockingConnection, queue: str
) -> None:
    fill(channel, queue, *(b"%d" % number for number in range(10)))
    worker = connection.channel()
    worker.basic_qos(prefetch_count=3)
    held: list[Any] = []
    worker.basic_consume(queue, lambda _channel, method, _properties, body: held.append((method, body)))
    connection.sleep(0.2)  # long enough for what must not come
    assert [body for _, body in held] == [b"0", b"1", b"2"]
    worker.basic_ack(held[-1][0].delivery_tag, multiple=True)
    connection.sleep(0.2)
    assert [body for _, body in held] == [b"%d" % number for number in range(6)]
    worker.close()
    assert count(channel, queue) == 7


def test_what_a_closed_channel_held_is_redelivered_in_order(
    channel: BlockingChannel, connection: BlockingConnection, queue: str, take: Take
) -> None:
    fill(channel, queue, b"a", b"b", b"c", b"d")
    worker = connection.channel()
    for _ in range(3):
        worker.basic_get(queue)
    worker.close()
    received = take(queue, 4)
    assert [(body, method.redelivered) for method, _, body in received] == [
        (b"a", True),
        (b"b", True),
        (b"c", True),
        (b"d", False),
    ]


def test_recover_with_requeue_delivers_again(channel: BlockingChannel, queue: str) -> None:
    fill(channel, queue, b"again")
    channel.basic_get(queue)
    channel.basic_recover(requeue=True)
    method, _, body = channel.basic_get(queue, auto_ack=True)
    assert (body, method.redelivered) == (b"again", True)


def test_recover_without_requeue_is_not_implemented(connection: BlockingConnection) -> None:
    with pytest.raises(ConnectionClosedByBroker) as raised:
        connection.channel().basic_recover(requeue=False)
    assert raised.value.reply_code == 540


@pytest.mark.parametrize("reason", ["rejected", "expired", "maxlen"])
def test_dead_letters_carry_why_they_died(
    channel: BlockingChannel, unique: str, take: Take, reason: str
) -> None:
    exchange, grave = unique + "-dlx", unique + "-grave"
    channel.exchange_declare(exchange, "direct", auto_delete=True)
    channel.queue_declare(grave, exclusive=True)
    channel.queue_bind(grave, exchange, "died")
    limits = {"rejected": {}, "expired": {"x-message-ttl": 50}, "maxlen": {"x-max-length": 0}}[reason]
    channel.queue_declare(
        unique,
        exclusive=True,
        arguments={"x-dead-letter-exchange": exchange, "x-dead-letter-routing-key": "died", **limits},
    )
    fill(channel, unique, b"corpse")
    if reason == "rejected":
        ((method, _, _),) = take(unique, 1, auto_ack=False)
        channel.basic_reject(method.delivery_tag, requeue=False)
    ((method, properties, body),) = take(grave, 1)
    assert (body, method.exchange, method.routing_key) == (b"corpse", exchange, "died")
    (death,) = properties.headers["x-death"]
    assert (death["queue"], death["reason"], death["count"]) == (unique, reason, 1)
    assert (death["exchange"], death["routing-keys"]) == ("", [unique])
    assert properties.headers["x-first-death-reason"] == reason
    assert properties.headers["x-first-death-queue"] == unique


def test_a_retry_loop_through_a_ttl_queue_counts_its_rounds(
    channel: BlockingChannel, unique: str, take: Take
) -> None:
    wait = unique + "-wait"
    back = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": unique, "x-message-ttl": 30}
    channel.queue_declare(wait, exclusive=True, arguments=back)
    channel.queue_declare(
        unique,
        exclusive=True,
        arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": wait},
    )
    fill(channel, unique, b"try")
    for attempt in range(4):
        ((method, properties, body),) = take(unique, 1, auto_ack=False)
        deaths = {death["queue"]: death["count"] for death in (properties.headers or {}).get("x-death", [])}
        assert (body, deaths) == (b"try", {unique: attempt, wait: attempt} if attempt else {})
        channel.basic_nack(method.delivery_tag, requeue=False)


def test_a_message_with_its_own_expiration_expires(channel: BlockingChannel, unique: str, take: Take) -> None:
    grave = unique + "-grave"
    channel.queue_declare(grave, exclusive=True)
    arguments = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": grave}
    channel.queue_declare(unique, exclusive=True, arguments=arguments)
    fill(channel, unique, b"short", expiration="20")
    ((_, properties, _),) = take(grave, 1)
    assert properties.headers["x-death"][0]["original-expiration"] == "20"
    assert properties.expiration is None
    assert count(channel, unique) == 0


def test_an_unused_queue_expires(
    channel: BlockingChannel, connection: BlockingConnection, unique: str
) -> None:
    channel.queue_declare(unique, arguments={"x-expires": 100})
    connection.sleep(1.0)
    with pytest.raises(ChannelClosedByBroker) as raised:
        channel.queue_declare(unique, passive=True)
    assert raised.value.reply_code == 404


def test_a_priority_queue_delivers_high_before_low_and_equal_in_order(
    channel: BlockingChannel, unique: str, take: Take
) -> None:
    channel.queue_declare(unique, exclusive=True, arguments={"x-max-priority": 5})
    for body, priority in ((b"low", 1), (b"high", 5), (b"none", None), (b"high too", 9), (b"mid", 3)):
        channel.basic_publish("", unique, body, pika.BasicProperties(priority=priority))
    assert take.bodies(unique, 5) == [b"high", b"high too", b"mid", b"low", b"none"]


def test_direct_reply_to_answers_an_rpc_without_a_queue(
    parameters: pika.ConnectionParameters, connection: BlockingConnection, queue: str
) -> None:
    def serve() -> None:
        with pika.BlockingConnection(parameters) as server:
            answers = server.channel()
            for method, properties, body in answers.consume(queue_name, inactivity_timeout=WAIT):
                if method is None or body == b"stop":
                    return
                reply = pika.BasicProperties(correlation_id=properties.correlation_id)
                answers.basic_publish("", properties.reply_to, body.upper(), reply)
                answers.basic_ack(method.delivery_tag)

    caller = connection.channel()
    queue_name = caller.queue_declare("", auto_delete=True).method.queue
    thread = threading.Thread(target=serve)
    thread.start()
    replies: dict[str, bytes] = {}

    def on_reply(_channel: Any, _method: Any, properties: Any, body: bytes) -> None:
        replies[properties.correlation_id] = body

    caller.basic_consume("amq.rabbitmq.reply-to", on_reply, auto_ack=True)
    for number in range(50):
        question = pika.BasicProperties(reply_to="amq.rabbitmq.reply-to", correlation_id=str(number))
        caller.basic_publish("", queue_name, b"ask %d" % number, question)
    pump(connection, lambda: len(replies) == 50)
    caller.basic_publish("", queue_name, b"stop")
    thread.join(WAIT)
    assert replies == {str(number): b"ASK %d" % number for number in range(50)}


def test_a_consumer_is_notified_when_its_queue_is_deleted(
    channel: BlockingChannel, connection: BlockingConnection, unique: str
) -> None:
    channel.queue_declare(unique)
    cancelled: list[str] = []
    channel.add_on_cancel_callback(lambda frame: cancelled.append(frame.method.consumer_tag))
    tag = channel.basic_consume(unique, lambda *_: None)
    connection.channel().queue_delete(unique)
    pump(connection, lambda: cancelled)
    assert cancelled == [tag]
    assert channel.is_open


def test_purge_and_delete_count_what_they_drop(channel: BlockingChannel, unique: str) -> None:
    channel.queue_declare(unique)
    channel.confirm_delivery()  # RabbitMQ may answer a question before it enqueues what came ahead of it
    fill(channel, unique, b"1", b"2", b"3")
    assert channel.queue_purge(unique).method.message_count == 3
    fill(channel, unique, b"4")
    with pytest.raises(ChannelClosedByBroker) as raised:
        channel.queue_delete(unique, if_empty=True)
    assert raised.value.reply_code == 406
    fresh = channel.connection.channel()
    assert fresh.queue_delete(unique).method.message_count == 1
