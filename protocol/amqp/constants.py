"""Constants of AMQP 0-9-1 shared by several methods: frame types, class ids, sizes, protocol headers."""

from typing import Final

# Frame types and the octet that ends every frame (AMQP 0-9-1 4.2.3).
FRAME_METHOD: Final = 1
FRAME_HEADER: Final = 2
FRAME_BODY: Final = 3
FRAME_HEARTBEAT: Final = 8
FRAME_END: Final = 0xCE

FRAME_OVERHEAD: Final = 8  # bytes around a payload: type, channel, size, end
FRAME_MIN_SIZE: Final = 4096  # bytes; both peers must accept frames of this size before and after tuning
SHORTSTR_MAX: Final = 255  # bytes of a short string

# Class ids. 30 (access) is of AMQP 0-8 and 85 (confirm) is RabbitMQ's.
CONNECTION: Final = 10
CHANNEL: Final = 20
ACCESS: Final = 30
EXCHANGE: Final = 40
QUEUE: Final = 50
BASIC: Final = 60
CONFIRM: Final = 85
TX: Final = 90

PROTOCOL_HEADER: Final = b"AMQP\x00\x00\x09\x01"
# The second is the header of 0-9, which RabbitMQ treats alike. RabbitMQ also accepts two of 0-8, which is a
# different protocol.
PROTOCOL_HEADERS: Final = (PROTOCOL_HEADER, b"AMQP\x01\x01\x00\x09")
