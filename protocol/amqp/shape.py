"""The shape of a publish: the bytes that decide how it is read and what it means to a broker.

Responsible for telling these bytes from values that mean nothing to a broker: ids, timestamps, values of
headers. Messages of one client often differ in such values alone, and all lengths are equal. Such messages
are recognized by one comparison of large integers, which takes 0.4 us for 280 bytes; parsing takes 2 us.
"""

from leveret.protocol.amqp.properties import present
from leveret.protocol.amqp.table import after_value
from leveret.protocol.amqp.traits import DIRECT_REPLY_TO

FIXED, FREE = b"\xff", b"\0"  # for each byte of a mask


def mask_of(raw: bytes) -> bytes:
    """Return a mask with ``FREE`` for each byte of raw properties that may have any value.

    Properties with the same values in all other bytes have the same traits, and are well-formed if ``raw``
    is.
    """
    mask = bytearray(FIXED * len(raw))
    at = 2
    for name, _ in present(raw[0] << 8 | raw[1]):
        if name == "headers":
            start = at + 4
            at = start + int.from_bytes(raw[at:start])
            _free_values(raw, start, at, mask)
        elif name == "timestamp":
            mask[at : at + 8] = FREE * 8
            at += 8
        elif name in ("delivery_mode", "priority"):
            at += 1
        else:
            start, size = at + 1, raw[at]
            at = start + size
            if name not in ("expiration", "user_id", "reply_to") or (
                name == "reply_to" and size != len(DIRECT_REPLY_TO)
            ):
                mask[start:at] = FREE * size
    return bytes(mask)


def _free_values(raw: bytes, at: int, end: int, mask: bytearray) -> None:
    """Mark the values of a table as ``FREE``, except floats, nested tables and arrays: not all are valid."""
    while at < end:
        value = at + 1 + raw[at]
        at = after_value(raw, value, end)
        if raw[value] in b"Sx":
            mask[value + 5 : at] = FREE * (at - value - 5)
        elif raw[value] not in b"fdAF":
            mask[value + 1 : at] = FREE * (at - value - 1)
