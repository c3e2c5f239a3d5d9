"""The methods of AMQP 0-9-1 with RabbitMQ's extensions, one Struct each (66).

Responsible for the fields of each method, in wire order with the specification's names. A reserved field is a
``ClassVar``: it is on the wire, always with that value; a peer's value in it is ignored. Not for encoding:
``codec`` reads the layout from these declarations.
"""

import re
from collections.abc import Callable
from typing import Annotated, ClassVar, TypeVar

from msgspec import Struct, field

from leveret.protocol.amqp.constants import ACCESS, BASIC, CHANNEL, CONFIRM, CONNECTION, EXCHANGE, QUEUE, TX
from leveret.protocol.amqp.table import Table

# The wire types (AMQP 0-9-1 4.2.5), as annotations that the codec reads.
Bit = Annotated[bool, "bit"]
Octet = Annotated[int, "octet"]
Short = Annotated[int, "short"]
Long = Annotated[int, "long"]
LongLong = Annotated[int, "longlong"]
ShortStr = Annotated[str, "shortstr"]
LongStr = Annotated[bytes, "longstr"]
Fields = Annotated[Table, "table"]


class Method(Struct):
    """Base of all methods. ``CONTENT``: a content header and a body follow the method.

    Python makes the class of a Struct in a tenth of the time that a dataclass takes, at every start.
    """

    CLASS_ID: ClassVar[int]
    METHOD_ID: ClassVar[int]
    NAME: ClassVar[str]  # "queue.declare-ok"
    CONTENT: ClassVar[bool]


METHODS: dict[tuple[int, int], type[Method]] = {}

M = TypeVar("M", bound=Method)


def method(class_id: int, method_id: int, *, content: bool = False) -> Callable[[type[M]], type[M]]:
    """Declare a method: derive its name and register it in ``METHODS``."""

    def declare(cls: type[M]) -> type[M]:
        group, *words = re.findall("[A-Z][a-z]*", cls.__name__)
        cls.CLASS_ID, cls.METHOD_ID, cls.CONTENT = class_id, method_id, content
        cls.NAME = f"{group}.{'-'.join(words)}".lower()
        METHODS[class_id, method_id] = cls
        return cls

    return declare


# -- connection ----------------------------------------------------------------------------------------------


@method(CONNECTION, 10)
class ConnectionStart(Method):
    version_major: Octet = 0
    version_minor: Octet = 9
    server_properties: Fields = field(default_factory=dict)
    mechanisms: LongStr = b"PLAIN"
    locales: LongStr = b"en_US"


@method(CONNECTION, 11)
class ConnectionStartOk(Method):
    client_properties: Fields = field(default_factory=dict)
    mechanism: ShortStr = "PLAIN"
    response: LongStr = b""
    locale: ShortStr = "en_US"


@method(CONNECTION, 20)
class ConnectionSecure(Method):
    challenge: LongStr = b""


@method(CONNECTION, 21)
class ConnectionSecureOk(Method):
    response: LongStr = b""


@method(CONNECTION, 30)
class ConnectionTune(Method):
    channel_max: Short = 0
    frame_max: Long = 0
    heartbeat: Short = 0


@method(CONNECTION, 31)
class ConnectionTuneOk(Method):
    channel_max: Short = 0
    frame_max: Long = 0
    heartbeat: Short = 0


@method(CONNECTION, 40)
class ConnectionOpen(Method):
    virtual_host: ShortStr = "/"
    capabilities: ClassVar[ShortStr] = ""
    insist: ClassVar[Bit] = False


@method(CONNECTION, 41)
class ConnectionOpenOk(Method):
    known_hosts: ClassVar[ShortStr] = ""


@method(CONNECTION, 50)
class ConnectionClose(Method):
    reply_code: Short = 0
    reply_text: ShortStr = ""
    class_id: Short = 0
    method_id: Short = 0


@method(CONNECTION, 51)
class ConnectionCloseOk(Method):
    pass


@method(CONNECTION, 60)
class ConnectionBlocked(Method):
    reason: ShortStr = ""


@method(CONNECTION, 61)
class ConnectionUnblocked(Method):
    pass


@method(CONNECTION, 70)
class ConnectionUpdateSecret(Method):
    new_secret: LongStr = b""
    reason: ShortStr = ""


@method(CONNECTION, 71)
class ConnectionUpdateSecretOk(Method):
    pass


# -- channel -------------------------------------------------------------------------------------------------


@method(CHANNEL, 10)
class ChannelOpen(Method):
    out_of_band: ClassVar[ShortStr] = ""


@method(CHANNEL, 11)
class ChannelOpenOk(Method):
    channel_id: ClassVar[LongStr] = b""


@method(CHANNEL, 20)
class ChannelFlow(Method):
    active: Bit = False


@method(CHANNEL, 21)
class ChannelFlowOk(Method):
    active: Bit = False


@method(CHANNEL, 40)
class ChannelClose(Method):
    reply_code: Short = 0
    reply_text: ShortStr = ""
    class_id: Short = 0
    method_id: Short = 0


@method(CHANNEL, 41)
class ChannelCloseOk(Method):
    pass


# -- access: of AMQP 0-8, sent by old clients and answered by RabbitMQ ---------------------------------------


@method(ACCESS, 10)
class AccessRequest(Method):
    realm: ShortStr = "/data"
    exclusive: Bit = False
    passive: Bit = True
    active: Bit = True
    write: Bit = True
    read: Bit = True


@method(ACCESS, 11)
class AccessRequestOk(Method):
    ticket: Short = 1


# -- exchange ------------------------------------------------------------------------------------------------


@method(EXCHANGE, 10)
class ExchangeDeclare(Method):
    ticket: ClassVar[Short] = 0
    exchange: ShortStr = ""
    type: ShortStr = "direct"
    passive: Bit = False
    durable: Bit = False
    auto_delete: Bit = False
    internal: Bit = False
    nowait: Bit = False
    arguments: Fields = field(default_factory=dict)


@method(EXCHANGE, 11)
class ExchangeDeclareOk(Method):
    pass


@method(EXCHANGE, 20)
class ExchangeDelete(Method):
    ticket: ClassVar[Short] = 0
    exchange: ShortStr = ""
    if_unused: Bit = False
    nowait: Bit = False


@method(EXCHANGE, 21)
class ExchangeDeleteOk(Method):
    pass


@method(EXCHANGE, 30)
class ExchangeBind(Method):
    ticket: ClassVar[Short] = 0
    destination: ShortStr = ""
    source: ShortStr = ""
    routing_key: ShortStr = ""
    nowait: Bit = False
    arguments: Fields = field(default_factory=dict)


@method(EXCHANGE, 31)
class ExchangeBindOk(Method):
    pass


@method(EXCHANGE, 40)
class ExchangeUnbind(Method):
    ticket: ClassVar[Short] = 0
    destination: ShortStr = ""
    source: ShortStr = ""
    routing_key: ShortStr = ""
    nowait: Bit = False
    arguments: Fields = field(default_factory=dict)


@method(EXCHANGE, 51)  # not 41: RabbitMQ's numbering
class ExchangeUnbindOk(Method):
    pass


# -- queue ---------------------------------------------------------------------------------------------------


@method(QUEUE, 10)
class QueueDeclare(Method):
    ticket: ClassVar[Short] = 0
    queue: ShortStr = ""
    passive: Bit = False
    durable: Bit = False
    exclusive: Bit = False
    auto_delete: Bit = False
    nowait: Bit = False
    arguments: Fields = field(default_factory=dict)


@method(QUEUE, 11)
class QueueDeclareOk(Method):
    queue: ShortStr = ""
    message_count: Long = 0
    consumer_count: Long = 0


@method(QUEUE, 20)
class QueueBind(Method):
    ticket: ClassVar[Short] = 0
    queue: ShortStr = ""
    exchange: ShortStr = ""
    routing_key: ShortStr = ""
    nowait: Bit = False
    arguments: Fields = field(default_factory=dict)


@method(QUEUE, 21)
class QueueBindOk(Method):
    pass


@method(QUEUE, 30)
class QueuePurge(Method):
    ticket: ClassVar[Short] = 0
    queue: ShortStr = ""
    nowait: Bit = False


@method(QUEUE, 31)
class QueuePurgeOk(Method):
    message_count: Long = 0


@method(QUEUE, 40)
class QueueDelete(Method):
    ticket: ClassVar[Short] = 0
    queue: ShortStr = ""
    if_unused: Bit = False
    if_empty: Bit = False
    nowait: Bit = False


@method(QUEUE, 41)
class QueueDeleteOk(Method):
    message_count: Long = 0


@method(QUEUE, 50)
class QueueUnbind(Method):
    ticket: ClassVar[Short] = 0
    queue: ShortStr = ""
    exchange: ShortStr = ""
    routing_key: ShortStr = ""
    arguments: Fields = field(default_factory=dict)


@method(QUEUE, 51)
class QueueUnbindOk(Method):
    pass


# -- basic ---------------------------------------------------------------------------------------------------


@method(BASIC, 10)
class BasicQos(Method):
    prefetch_size: Long = 0
    prefetch_count: Short = 0
    global_: Bit = False


@method(BASIC, 11)
class BasicQosOk(Method):
    pass


@method(BASIC, 20)
class BasicConsume(Method):
    ticket: ClassVar[Short] = 0
    queue: ShortStr = ""
    consumer_tag: ShortStr = ""
    no_local: Bit = False
    no_ack: Bit = False
    exclusive: Bit = False
    nowait: Bit = False
    arguments: Fields = field(default_factory=dict)


@method(BASIC, 21)
class BasicConsumeOk(Method):
    consumer_tag: ShortStr = ""


@method(BASIC, 30)
class BasicCancel(Method):
    consumer_tag: ShortStr = ""
    nowait: Bit = False


@method(BASIC, 31)
class BasicCancelOk(Method):
    consumer_tag: ShortStr = ""


@method(BASIC, 40, content=True)
class BasicPublish(Method):
    ticket: ClassVar[Short] = 0
    exchange: ShortStr = ""
    routing_key: ShortStr = ""
    mandatory: Bit = False
    immediate: Bit = False


@method(BASIC, 50, content=True)
class BasicReturn(Method):
    reply_code: Short = 0
    reply_text: ShortStr = ""
    exchange: ShortStr = ""
    routing_key: ShortStr = ""


@method(BASIC, 60, content=True)
class BasicDeliver(Method):
    consumer_tag: ShortStr = ""
    delivery_tag: LongLong = 0
    redelivered: Bit = False
    exchange: ShortStr = ""
    routing_key: ShortStr = ""


@method(BASIC, 70)
class BasicGet(Method):
    ticket: ClassVar[Short] = 0
    queue: ShortStr = ""
    no_ack: Bit = False


@method(BASIC, 71, content=True)
class BasicGetOk(Method):
    delivery_tag: LongLong = 0
    redelivered: Bit = False
    exchange: ShortStr = ""
    routing_key: ShortStr = ""
    message_count: Long = 0


@method(BASIC, 72)
class BasicGetEmpty(Method):
    cluster_id: ClassVar[ShortStr] = ""


@method(BASIC, 80)
class BasicAck(Method):
    delivery_tag: LongLong = 0
    multiple: Bit = False


@method(BASIC, 90)
class BasicReject(Method):
    delivery_tag: LongLong = 0
    requeue: Bit = True


@method(BASIC, 100)
class BasicRecoverAsync(Method):
    requeue: Bit = False


@method(BASIC, 110)
class BasicRecover(Method):
    requeue: Bit = False


@method(BASIC, 111)
class BasicRecoverOk(Method):
    pass


@method(BASIC, 120)
class BasicNack(Method):
    delivery_tag: LongLong = 0
    multiple: Bit = False
    requeue: Bit = True


# -- confirm and tx ------------------------------------------------------------------------------------------


@method(CONFIRM, 10)
class ConfirmSelect(Method):
    nowait: Bit = False


@method(CONFIRM, 11)
class ConfirmSelectOk(Method):
    pass


@method(TX, 10)
class TxSelect(Method):
    pass


@method(TX, 11)
class TxSelectOk(Method):
    pass


@method(TX, 20)
class TxCommit(Method):
    pass


@method(TX, 21)
class TxCommitOk(Method):
    pass


@method(TX, 30)
class TxRollback(Method):
    pass


@method(TX, 31)
class TxRollbackOk(Method):
    pass
