"""Table of commands that RabbitMQ 3.10 refuses on an open channel, with its reply codes and texts.

Owns no way to play it. ``connection`` and ``channel`` name what the refusal ends.
"""

from dataclasses import dataclass
from typing import Literal

from leveret.protocol.amqp import methods as m
from tests.router.amqp.client import Content, publish

NO_QUEUE = "NOT_FOUND - no queue '{}' in vhost '/'"
NO_EXCHANGE = "NOT_FOUND - no exchange '{}' in vhost '/'"
LOCKED = (
    "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue 'q' in vhost '/'. It could be "
    "originally declared on another connection or the exclusive property value does not match that of the "
    "original declaration."
)
DEFAULT = "ACCESS_REFUSED - operation not permitted on the default exchange"
NO_LAST = "NOT_FOUND - no previously declared queue"


@dataclass(frozen=True)
class Refusal:
    """``by`` is refused after ``after`` was done; ``elsewhere`` was done before on another connection."""

    by: object
    code: int
    text: str
    after: tuple = ()
    elsewhere: tuple = ()
    scope: Literal["channel", "connection"] = "channel"
    blamed: tuple[int, int] | None = None  # class and method id; None: those of ``by``

    @property
    def ids(self):
        method = self.by.method if isinstance(self.by, Content) else self.by
        return self.blamed or (method.CLASS_ID, method.METHOD_ID)

    @property
    def id(self):
        method = self.by.method if isinstance(self.by, Content) else self.by
        return f"{method.NAME}: {self.text}"


def channel(by, code, text, *after, elsewhere=()):
    return Refusal(by, code, text, after, elsewhere)


def connection(by, code, text, *after, blamed=None):
    return Refusal(by, code, text, after, scope="connection", blamed=blamed)


def queue(**changes):
    return m.QueueDeclare("q", **changes)


def with_arguments(**arguments):
    return queue(arguments={name.replace("_", "-"): value for name, value in arguments.items()})


def exchange(kind="direct", **changes):
    return m.ExchangeDeclare("x", kind, **changes)


def inequivalent(arg, what, received, current):
    difference = f"{received} but current is {current}"
    return f"PRECONDITION_FAILED - inequivalent arg '{arg}' for {what} in vhost '/': {difference}"


def different(arg, received, current, what="queue 'q'"):
    return inequivalent(arg, what, f"received '{received}'", f"'{current}'")


def wrong_type(arg, what, kind):
    return f"PRECONDITION_FAILED - invalid type '{kind}' for arg '{arg}' in {what} in vhost '/'"


def invalid(arg, problem):
    return f"PRECONDITION_FAILED - invalid arg '{arg}' for queue 'q' in vhost '/': {problem}"


CHANNELS = [
    connection(m.ChannelOpen(), 504, "CHANNEL_ERROR - second 'channel.open' seen"),
    connection(m.ChannelFlow(False), 540, "NOT_IMPLEMENTED - active=false"),
    *(
        connection(method, 503, "COMMAND_INVALID - unimplemented method")
        for method in (
            m.ChannelFlowOk(True),
            m.ChannelCloseOk(),
            m.ChannelOpenOk(),
            m.ConnectionOpen(),
            m.ConnectionStartOk(),
            m.ConnectionClose(),
            m.QueueDeclareOk("q"),
            m.BasicConsumeOk("t"),
            m.BasicGetEmpty(),
            m.ConfirmSelectOk(),
            m.TxCommitOk(),
            m.ExchangeUnbindOk(),
            Content(m.BasicDeliver("t")),
            Content(m.BasicReturn(312)),
            Content(m.BasicGetOk(1), b"x"),
        )
    ),
]

EXCHANGES = [
    connection(exchange("nope"), 503, "COMMAND_INVALID - unknown exchange type 'nope'"),
    connection(exchange(""), 503, "COMMAND_INVALID - invalid exchange type ''"),
    connection(
        exchange("x-delayed-message"), 503, "COMMAND_INVALID - unknown exchange type 'x-delayed-message'"
    ),
    connection(m.ExchangeDeclare("", "nope"), 503, "COMMAND_INVALID - unknown exchange type 'nope'"),
    channel(exchange(passive=True), 404, NO_EXCHANGE.format("x")),
    channel(exchange("nope", passive=True), 404, NO_EXCHANGE.format("x")),
    channel(
        exchange("fanout", durable=True),
        406,
        different("type", "fanout", "direct", "exchange 'x'"),
        exchange(),
    ),
    channel(
        exchange(durable=True, internal=True),
        406,
        different("durable", "true", "false", "exchange 'x'"),
        exchange(),
    ),
    channel(
        exchange(), 406, different("auto_delete", "false", "true", "exchange 'x'"), exchange(auto_delete=True)
    ),
    channel(exchange(internal=True), 406, different("internal", "true", "false", "exchange 'x'"), exchange()),
    channel(
        exchange(arguments={"alternate-exchange": "foo"}),
        406,
        inequivalent(
            "alternate-exchange", "exchange 'x'", "received the value 'foo' of type 'longstr'", "none"
        ),
        exchange(),
    ),
    channel(
        exchange(),
        406,
        inequivalent(
            "alternate-exchange", "exchange 'x'", "received none", "the value 'foo' of type 'longstr'"
        ),
        exchange(arguments={"alternate-exchange": "foo"}),
    ),
    channel(
        exchange(arguments={"alternate-exchange": "bar"}),
        406,
        different("alternate-exchange", "bar", "foo", "exchange 'x'"),
        exchange(arguments={"alternate-exchange": "foo"}),
    ),
    channel(
        exchange(arguments={"alternate-exchange": 1}),
        406,
        wrong_type("alternate-exchange", "exchange 'x'", "signedint"),
    ),
    channel(
        exchange(arguments={"alternate-exchange": ["a"]}),
        406,
        wrong_type("alternate-exchange", "exchange 'x'", "array"),
    ),
    channel(
        m.ExchangeDeclare("amq.foo"),
        403,
        "ACCESS_REFUSED - exchange name 'amq.foo' contains reserved prefix 'amq.*'",
    ),
    channel(
        m.ExchangeDeclare("amq."),
        403,
        "ACCESS_REFUSED - exchange name 'amq.' contains reserved prefix 'amq.*'",
    ),
    channel(m.ExchangeDeclare("amq.foo", passive=True), 404, NO_EXCHANGE.format("amq.foo")),
    channel(
        m.ExchangeDeclare("amq.direct"), 406, different("durable", "false", "true", "exchange 'amq.direct'")
    ),
    channel(m.ExchangeDeclare(""), 403, DEFAULT),
    channel(m.ExchangeDeclare("", passive=True), 403, DEFAULT),
    channel(m.ExchangeDeclare("\r\n"), 403, DEFAULT),
    channel(m.ExchangeDelete(""), 403, DEFAULT),
    channel(m.ExchangeBind("", "amq.direct"), 403, DEFAULT),
    channel(m.ExchangeBind("amq.direct", ""), 403, DEFAULT),
    channel(m.ExchangeUnbind("", "amq.direct"), 403, DEFAULT),
    channel(m.ExchangeUnbind("amq.direct", ""), 403, DEFAULT),
    *(
        channel(
            m.ExchangeDelete(name),
            403,
            f"ACCESS_REFUSED - deletion of system exchange '{name}' in vhost '/' not allowed",
        )
        for name in ("amq.direct", "amq.nope")
    ),
    channel(
        m.ExchangeDelete("x", if_unused=True),
        406,
        "PRECONDITION_FAILED - exchange 'x' in vhost '/' in use",
        exchange(),
        queue(),
        m.QueueBind("q", "x"),
    ),
    channel(
        m.ExchangeDelete("x", if_unused=True),
        406,
        "PRECONDITION_FAILED - exchange 'x' in vhost '/' in use",
        exchange(),
        m.ExchangeBind("amq.fanout", "x"),
    ),
    channel(m.ExchangeBind("nope", "nopes"), 404, NO_EXCHANGE.format("nopes")),
    channel(m.ExchangeBind("nope", "amq.direct"), 404, NO_EXCHANGE.format("nope")),
    channel(
        m.QueueBind("q", "amq.headers", "", False, {"x-match": "foo"}),
        406,
        'PRECONDITION_FAILED - Invalid x-match field value <<"foo">>; '
        "expected all, any, all-with-x, or any-with-x",
        queue(),
    ),
    channel(
        m.QueueBind("q", "amq.headers", "", False, {"x-match": 1}),
        406,
        "PRECONDITION_FAILED - Invalid x-match field type signedint (value 1); expected longstr",
        queue(),
    ),
]

BINDINGS = [
    channel(m.QueueBind("nope", "nopex"), 404, NO_EXCHANGE.format("nopex")),
    channel(m.QueueBind("nope", "amq.direct"), 404, NO_QUEUE.format("nope")),
    channel(m.QueueBind("q", "nopex"), 404, NO_EXCHANGE.format("nopex"), elsewhere=(queue(exclusive=True),)),
    channel(m.QueueBind("q", ""), 403, DEFAULT, queue()),
    channel(m.QueueUnbind("q", ""), 403, DEFAULT, queue()),
    channel(m.QueueBind("nope", "nopex", nowait=True), 404, NO_EXCHANGE.format("nopex")),
]

QUEUES = [
    channel(queue(durable=True), 406, different("durable", "true", "false"), queue()),
    channel(queue(auto_delete=True), 406, different("auto_delete", "true", "false"), queue()),
    channel(queue(durable=True, auto_delete=True), 406, different("durable", "true", "false"), queue()),
    channel(queue(exclusive=True, durable=True), 405, LOCKED, queue()),
    channel(queue(), 405, LOCKED, queue(exclusive=True)),
    *(
        channel(method, 405, LOCKED, elsewhere=(queue(exclusive=True),))
        for method in (
            queue(),
            queue(passive=True),
            queue(exclusive=True),
            m.QueueBind("q", "amq.direct"),
            m.QueuePurge("q"),
            m.QueueDelete("q"),
            m.BasicConsume("q"),
            m.BasicGet("q"),
        )
    ),
    channel(m.QueueDeclare("nope", passive=True), 404, NO_QUEUE.format("nope")),
    channel(m.QueueDeclare("", passive=True), 404, NO_QUEUE.format(""), queue()),
    channel(
        m.QueueDeclare("amq.foo"),
        403,
        "ACCESS_REFUSED - queue name 'amq.foo' contains reserved prefix 'amq.*'",
    ),
    channel(m.QueueDeclare("amq.foo", passive=True), 404, NO_QUEUE.format("amq.foo")),
    *(
        channel(method, 404, NO_LAST)
        for method in (
            m.QueueBind("", "amq.direct"),
            m.QueueUnbind("", "amq.direct"),
            m.QueuePurge(),
            m.QueueDelete(),
            m.BasicConsume(),
            m.BasicGet(),
        )
    ),
    channel(m.QueuePurge(), 404, NO_QUEUE.format("q"), queue(), m.QueueDelete("q")),
    channel(m.QueuePurge("nope"), 404, NO_QUEUE.format("nope")),
    channel(
        m.QueueDelete("q", if_unused=True, if_empty=True),
        406,
        "PRECONDITION_FAILED - queue 'q' in vhost '/' in use",
        queue(),
        m.BasicConsume("q", "t"),
    ),
    channel(
        m.QueueDelete("q", if_empty=True),
        406,
        "PRECONDITION_FAILED - queue 'q' in vhost '/' not empty",
        queue(),
        publish("q"),
    ),
    channel(
        with_arguments(x_max_length=6),
        406,
        different("x-max-length", "6", "5"),
        with_arguments(x_max_length=5),
    ),
    channel(
        queue(),
        406,
        inequivalent("x-max-length", "queue 'q'", "received none", "the value '5' of type 'signedint'"),
        with_arguments(x_max_length=5),
    ),
    channel(
        with_arguments(x_max_priority=1),
        406,
        inequivalent("x-max-priority", "queue 'q'", "received the value '1' of type 'signedint'", "none"),
        queue(),
    ),
    channel(
        with_arguments(x_max_length="5"),
        406,
        different("x-max-length", "5", "5"),
        with_arguments(x_max_length=5),
    ),
    channel(
        with_arguments(x_single_active_consumer=True),
        406,
        inequivalent(
            "x-single-active-consumer", "queue 'q'", "received the value 'true' of type 'bool'", "none"
        ),
        queue(),
    ),
    channel(
        queue(durable=True),
        406,
        inequivalent("x-queue-type", "queue 'q'", "received none", "the value 'quorum' of type 'longstr'"),
        queue(durable=True, arguments={"x-queue-type": "quorum"}),
    ),
    channel(
        m.QueueDeclare("", durable=True, arguments={"x-queue-type": "quorum"}),
        406,
        "PRECONDITION_FAILED - Cannot declare a server-named queue for type rabbit_quorum_queue",
    ),
    channel(
        with_arguments(x_queue_type="quorum"),
        406,
        "PRECONDITION_FAILED - invalid property 'non-durable' for queue 'q' in vhost '/'",
    ),
    channel(
        with_arguments(x_dead_letter_exchange=1),
        406,
        wrong_type("x-dead-letter-exchange", "queue 'q'", "signedint"),
    ),
    *(
        channel(with_arguments(**{name.replace("-", "_"): value}), 406, invalid(name, problem))
        for name, value, problem in (
            ("x-message-ttl", "5", '"expected integer, got longstr"'),
            ("x-message-ttl", 1.5, '"expected integer, got double"'),
            ("x-message-ttl", True, '"expected integer, got bool"'),
            ("x-message-ttl", None, '"expected integer, got void"'),
            ("x-message-ttl", -1, "{value_negative,-1}"),
            ("x-message-ttl", 315360000001, "{value_too_large,315360000001}"),
            ("x-expires", 0, "{value_zero,0}"),
            ("x-max-length", -1, "{value_negative,-1}"),
            ("x-max-priority", 256, "{max_value_exceeded,256}"),
            ("x-overflow", "nope", "invalid_overflow"),
            ("x-overflow", 1, "{unacceptable_type,signedint}"),
            ("x-dead-letter-routing-key", "k", "routing_key_but_no_dlx_defined"),
            ("x-single-active-consumer", "yes", "{unacceptable_type,longstr}"),
            ("x-queue-mode", "foo", "\"unsupported queue mode 'foo'\""),
            ("x-queue-type", "foo", "\"unsupported queue type 'foo'\""),
            ("x-queue-type", 1, "{unacceptable_type,signedint}"),
        )
    ),
    channel(
        with_arguments(x_delivery_limit=1),
        406,
        "PRECONDITION_FAILED - invalid arg 'x-delivery-limit' for queue 'q' in vhost '/' of queue type "
        "rabbit_classic_queue",
    ),
    channel(m.QueueDeclare("amq.rabbitmq.reply-to.nope"), 404, NO_QUEUE.format("amq.rabbitmq.reply-to.nope")),
]

USE = "ACCESS_REFUSED - queue 'q' in vhost '/' in exclusive use"
UNKNOWN = "PRECONDITION_FAILED - unknown delivery tag {}"

CONSUMERS = [
    connection(m.BasicQos(10), 540, "NOT_IMPLEMENTED - prefetch_size!=0 (10)"),
    connection(
        m.BasicConsume("q", "t"),
        530,
        "NOT_ALLOWED - attempt to reuse consumer tag 't'",
        queue(),
        m.BasicConsume("q", "t"),
    ),
    channel(m.BasicConsume("nope"), 404, NO_QUEUE.format("nope")),
    channel(
        m.BasicConsume("q", nowait=True, consumer_tag="t"),
        403,
        USE,
        elsewhere=(queue(), m.BasicConsume("q", exclusive=True)),
    ),
    channel(m.BasicConsume("q", exclusive=True), 403, USE, elsewhere=(queue(), m.BasicConsume("q"))),
    channel(
        m.BasicConsume("q", exclusive=True),
        403,
        USE,
        with_arguments(x_single_active_consumer=True),
    ),
    *(
        channel(
            m.BasicConsume("q", arguments={"x-priority": value}),
            406,
            invalid("x-priority", f'"expected integer, got {kind}"'),
            queue(),
        )
        for value, kind in (("1", "longstr"), (1.5, "double"), (True, "bool"), (None, "void"), ([], "array"))
    ),
    channel(
        m.BasicConsume("q", arguments={"x-cancel-on-ha-failover": "x"}),
        406,
        invalid("x-cancel-on-ha-failover", "{unacceptable_type,longstr}"),
        queue(),
    ),
    channel(
        m.BasicConsume("q", arguments={"x-stream-offset": 1}),
        406,
        "PRECONDITION_FAILED - invalid arg 'x-stream-offset' for queue 'q' in vhost '/' of queue type "
        "rabbit_classic_queue",
        queue(),
    ),
    connection(
        m.BasicConsume("q"),
        540,
        "NOT_IMPLEMENTED - queue 'q' in vhost '/' does not support global qos",
        queue(durable=True, arguments={"x-queue-type": "quorum"}),
        m.BasicQos(0, 5, True),
    ),
    channel(m.BasicGet("nope"), 404, NO_QUEUE.format("nope")),
    channel(m.BasicGet("amq.rabbitmq.reply-to"), 404, NO_QUEUE.format("amq.rabbitmq.reply-to")),
    channel(
        m.BasicConsume("amq.rabbitmq.reply-to"),
        406,
        "PRECONDITION_FAILED - reply consumer cannot acknowledge",
    ),
    channel(
        m.BasicConsume("amq.rabbitmq.reply-to", no_ack=True),
        406,
        "PRECONDITION_FAILED - reply consumer already set",
        m.BasicConsume("amq.rabbitmq.reply-to", no_ack=True),
    ),
    channel(m.BasicConsume("amq.rabbitmq.reply-to.nope"), 404, NO_QUEUE.format("amq.rabbitmq.reply-to.nope")),
]

STREAM = queue(durable=True, arguments={"x-queue-type": "stream"})
QOS = m.BasicQos(prefetch_count=5)

STREAMS = [
    channel(
        m.QueueDeclare("", durable=True, arguments={"x-queue-type": "stream"}),
        406,
        "PRECONDITION_FAILED - Cannot declare a server-named queue for type rabbit_stream_queue",
    ),
    channel(
        queue(durable=True),
        406,
        inequivalent("x-queue-type", "queue 'q'", "received none", "the value 'stream' of type 'longstr'"),
        STREAM,
    ),
    channel(
        queue(durable=True, arguments={"x-queue-type": "stream", "x-max-age": "1h"}),
        406,
        inequivalent("x-max-age", "queue 'q'", "received the value '1h' of type 'longstr'", "none"),
        STREAM,
    ),
    connection(
        m.BasicGet("q"),
        540,
        "NOT_IMPLEMENTED - basic.get not supported by stream queues queue 'q' in vhost '/'",
        STREAM,
    ),
    connection(
        m.QueuePurge("q"),
        540,
        "NOT_IMPLEMENTED - queue.purge not supported by stream queues queue 'q' in vhost '/'",
        STREAM,
    ),
    channel(
        m.BasicConsume("q"),
        406,
        "PRECONDITION_FAILED - consumer prefetch count is not set for 'queue 'q' in vhost '/''",
        STREAM,
    ),
    connection(
        m.BasicConsume("q", no_ack=True),
        540,
        "NOT_IMPLEMENTED - automatic acknowledgement not supported by stream queues queue 'q' in vhost '/'",
        STREAM,
        QOS,
    ),
    connection(
        m.BasicConsume("q"),
        540,
        "NOT_IMPLEMENTED - queue 'q' in vhost '/' does not support global qos",
        STREAM,
        QOS,
        m.BasicQos(0, 5, True),
    ),
    channel(
        m.BasicConsume("q", arguments={"x-stream-offset": "0h"}),
        406,
        invalid("x-stream-offset", '{invalid_stream_offset_arg,{longstr,<<"0h">>}}'),
        STREAM,
        QOS,
    ),
    channel(
        m.BasicConsume("q", arguments={"x-priority": 5}),
        406,
        "PRECONDITION_FAILED - invalid arg 'x-priority' for queue 'q' in vhost '/' of queue type "
        "rabbit_stream_queue",
        STREAM,
        QOS,
    ),
]

SETTLEMENTS = [
    *(
        channel(method, 406, UNKNOWN.format(method.delivery_tag))
        for method in (
            m.BasicAck(99),
            m.BasicAck(0),
            m.BasicAck(5, multiple=True),
            m.BasicNack(99),
            m.BasicNack(0),
            m.BasicNack(5, multiple=True),
            m.BasicReject(99),
            m.BasicReject(99, requeue=False),
        )
    ),
    connection(m.BasicRecover(False), 540, "NOT_IMPLEMENTED - requeue=false"),
    connection(m.BasicRecoverAsync(False), 540, "NOT_IMPLEMENTED - requeue=false"),
]


def expiration(text, problem):
    return channel(
        publish("q", expiration=text), 406, f"PRECONDITION_FAILED - invalid expiration '{text}': {problem}"
    )


PUBLISHES = [
    channel(publish(exchange="nope"), 404, NO_EXCHANGE.format("nope")),
    channel(
        publish(exchange="x"),
        403,
        "ACCESS_REFUSED - cannot publish to internal exchange 'x' in vhost '/'",
        exchange(internal=True),
    ),
    connection(publish("q", immediate=True), 540, "NOT_IMPLEMENTED - immediate=true"),
    connection(publish(exchange="nope", immediate=True), 540, "NOT_IMPLEMENTED - immediate=true"),
    *(
        channel(
            publish("q", user_id=name),
            406,
            f"PRECONDITION_FAILED - user_id property set to '{name}' but authenticated user was 'guest'",
        )
        for name in ("foo", "")
    ),
    expiration("abc", "no_integer"),
    expiration("", "no_integer"),
    expiration(" 5", "no_integer"),
    expiration("-1", "{value_negative,-1}"),
    expiration("1.5", '{leftover_string,".5"}'),
    expiration("5 ", '{leftover_string," "}'),
    expiration("315360000001", "{value_too_large,315360000001}"),
    *(
        channel(
            publish("q", headers={name: value}),
            406,
            f'PRECONDITION_FAILED - invalid message: {{unacceptable_type_in_header,"{name}",{kind}}}',
        )
        for name, value, kind in (("CC", "a", "longstr"), ("BCC", None, "void"), ("CC", {}, "table"))
    ),
    *(
        channel(
            publish("q", delivery_mode=mode),
            406,
            f"PRECONDITION_FAILED - invalid message: {{delivery_mode_unknown,{mode}}}",
        )
        for mode in (0, 3, 255)
    ),
    channel(
        publish("q", reply_to="amq.rabbitmq.reply-to"),
        406,
        "PRECONDITION_FAILED - fast reply consumer does not exist",
    ),
    # of several faults the first in this order: user id, expiration, CC, delivery mode
    channel(
        publish("q", user_id="foo", expiration="x", delivery_mode=3),
        406,
        "PRECONDITION_FAILED - user_id property set to 'foo' but authenticated user was 'guest'",
    ),
    channel(
        publish("q", expiration="x", delivery_mode=3),
        406,
        "PRECONDITION_FAILED - invalid expiration 'x': no_integer",
    ),
    channel(
        publish("q", delivery_mode=3, headers={"CC": 1}),
        406,
        'PRECONDITION_FAILED - invalid message: {unacceptable_type_in_header,"CC",signedint}',
    ),
]

TRANSACTIONS = [
    channel(
        m.ConfirmSelect(), 406, "PRECONDITION_FAILED - cannot switch from tx to confirm mode", m.TxSelect()
    ),
    channel(
        m.TxSelect(), 406, "PRECONDITION_FAILED - cannot switch from confirm to tx mode", m.ConfirmSelect()
    ),
    channel(m.TxCommit(), 406, "PRECONDITION_FAILED - channel is not transactional"),
    channel(m.TxRollback(), 406, "PRECONDITION_FAILED - channel is not transactional"),
    channel(publish(exchange="nope"), 404, NO_EXCHANGE.format("nope"), m.TxSelect()),
    channel(m.BasicAck(9), 406, UNKNOWN.format(9), m.TxSelect()),
]

REFUSALS = [
    *CHANNELS,
    *EXCHANGES,
    *BINDINGS,
    *QUEUES,
    *CONSUMERS,
    *STREAMS,
    *SETTLEMENTS,
    *PUBLISHES,
    *TRANSACTIONS,
]
